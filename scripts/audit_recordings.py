"""Check driving recordings for mistakes in frames, units, signs and clocks; the work is in data_prep/audit."""

import sys

from data_prep.audit import main

if __name__ == "__main__":
    sys.exit(main())
