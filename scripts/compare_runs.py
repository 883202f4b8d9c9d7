#!/usr/bin/env python3
"""Door: two evaluations side by side. The work is in evaluation.comparing.tool."""

import sys

from driving.errors import run_main
from evaluation.comparing.tool import main

if __name__ == "__main__":
    sys.exit(run_main(main))
