#!/usr/bin/env python3
"""Door: ask a served model about a clip. The work is in evaluation.serving.ask."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.serving.ask"))
