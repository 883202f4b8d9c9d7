#!/usr/bin/env python3
"""Door: score a trained model on held-out clips. The work is in evaluation.evaluate."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.evaluate"))
