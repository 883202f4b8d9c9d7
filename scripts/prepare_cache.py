#!/usr/bin/env python3
"""Door: decode and tokenize a dataset once. The work is in qwenvl.prepare_cache."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("qwenvl.prepare_cache"))
