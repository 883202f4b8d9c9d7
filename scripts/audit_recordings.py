"""Check driving recordings for mistakes in frames, units, signs and clocks; the work is in data_prep/audit."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("data_prep.audit"))
