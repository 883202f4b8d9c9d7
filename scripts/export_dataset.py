"""Door: a finished dataset -> another tool's format. The work is in data_prep/export."""

import sys

from data_prep.export.tool import main
from driving.errors import run_main

if __name__ == "__main__":
    sys.exit(run_main(main))
