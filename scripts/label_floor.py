"""Print the best score that each answer format allows, before training; the work is in data_prep/label_floor.py."""

import sys

from data_prep.label_floor import main

if __name__ == "__main__":
    sys.exit(main())
