#!/usr/bin/env python3
"""Door: decode and tokenize a dataset once. The work is in qwenvl.prepare_cache."""

import sys

from driving.errors import run_main
from qwenvl.prepare_cache import main

if __name__ == "__main__":
    sys.exit(run_main(main))
