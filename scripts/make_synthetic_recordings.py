"""Draw synthetic driving recordings in the layout of PhysicalAI-AV; the work is in data_prep/synthetic."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("data_prep.synthetic"))
