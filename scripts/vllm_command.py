#!/usr/bin/env python3
"""Door: the line that serves a checkpoint with vLLM. The work is in evaluation.serving.vllm_command."""

import sys

from driving.errors import run_main
from evaluation.serving.vllm_command import main

if __name__ == "__main__":
    sys.exit(run_main(main))
