#!/usr/bin/env python3
"""Door: put a LoRA adapter into its base model. The work is in evaluation.serving.merge."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.serving.merge"))
