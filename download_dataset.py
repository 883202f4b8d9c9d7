#!/usr/bin/env python3
"""Door: the Hugging Face Hub -> PhysicalAI-AV recordings on this disk. The work is in data_prep.download."""

import sys

from data_prep.download.options import main
from driving.errors import run_main

if __name__ == "__main__":
    sys.exit(run_main(main))
