#!/usr/bin/env python3
"""Door: make a small random Qwen3-VL offline. The work is in qwenvl.tiny_model."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("qwenvl.tiny_model"))
