#!/usr/bin/env python3
"""Door: ask a trained model about any video, and draw what it predicts. The work is in evaluation.video.tool."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.video.tool"))
