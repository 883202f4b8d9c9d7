#!/usr/bin/env python3
"""Door: two evaluations side by side. The work is in evaluation.compare_runs."""

import sys

from driving.errors import run_main
from evaluation.compare_runs import main

if __name__ == "__main__":
    sys.exit(run_main(main))
