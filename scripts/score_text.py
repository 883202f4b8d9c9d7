#!/usr/bin/env python3
"""Door: score answers in words against references. The work is in evaluation.text.score_text."""

import sys

from driving.errors import run_main
from evaluation.text.score_text import main

if __name__ == "__main__":
    sys.exit(run_main(main))
