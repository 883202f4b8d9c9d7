"""Door: a finished dataset -> another tool's format. The work is in data_prep/export."""

import sys

from driving.errors import run_door

if __name__ == "__main__":
    sys.exit(run_door("data_prep.export.tool"))
