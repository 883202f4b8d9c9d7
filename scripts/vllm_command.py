#!/usr/bin/env python3
"""Door: the line that serves a checkpoint with vLLM. The work is in evaluation.serving.vllm_command."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("evaluation.serving.vllm_command"))
