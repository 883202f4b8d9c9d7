#!/usr/bin/env python3
"""Door: labelled segments -> a Hugging Face dataset of questions and answers. The work is in data_prep.hf_dataset."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("data_prep.hf_dataset"))
