#!/usr/bin/env python3
"""Door: score answers in words against references. The work is in evaluation.text.score_text."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.text.score_text"))
