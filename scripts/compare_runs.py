#!/usr/bin/env python3
"""Door: two evaluations side by side. The work is in evaluation.comparing.tool."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.comparing.tool"))
