"""Draw synthetic driving recordings in the layout of PhysicalAI-AV; the work is in data_prep/synthetic."""

import sys

from data_prep.synthetic import main

if __name__ == "__main__":
    sys.exit(main())
