#!/usr/bin/env python3
"""Door: recordings -> short clips, each with the motion of the second after it. The work is in data_prep.segments."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("data_prep.segment_options"))
