#!/usr/bin/env python3
"""Door: make a small random Qwen3-VL offline. The work is in qwenvl.tiny_model."""

import sys

from driving.errors import run_main
from qwenvl.tiny_model import main

if __name__ == "__main__":
    sys.exit(run_main(main))
