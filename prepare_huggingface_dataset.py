#!/usr/bin/env python3
"""Door: labelled segments -> a Hugging Face dataset of questions and answers. The work is in data_prep.hf_dataset."""

import sys

from data_prep.hf_dataset import main
from driving.errors import run_main

if __name__ == "__main__":
    sys.exit(run_main(main))
