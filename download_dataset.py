#!/usr/bin/env python3
"""Door: the Hugging Face Hub -> PhysicalAI-AV recordings on this disk. The work is in data_prep.download."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("data_prep.download.options"))
