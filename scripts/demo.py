#!/usr/bin/env python3
"""Door: a small web page to try a model on clips. The work is in evaluation.demo.tool."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.demo.tool"))
