"""Print the best score that each answer format allows, before training; the work is in data_prep/label_floor.py."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("data_prep.label_floor"))
