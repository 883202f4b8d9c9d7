#!/usr/bin/env python3
"""Door: samples as the loss sees them, and what a dataset is made of. The work is in qwenvl.check_dataset."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("qwenvl.check_dataset"))
