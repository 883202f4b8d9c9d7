#!/usr/bin/env python3
"""Door: the Hugging Face dataset -> training JSON and truth.parquet. The work is in data_prep.training_format.

Runs with any Python 3: where the packages are missing it starts itself again with the .venv beside it.
"""

import importlib.util
import os
import sys
from pathlib import Path

PACKAGES = ("datasets", "pyarrow", "tqdm")


def restart_in_venv() -> None:
    """Go on in the .venv beside this file where this Python lacks the packages; return where it has them."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return
    here = Path(__file__).resolve()
    venv = here.parent / ".venv"
    python = venv / "bin" / "python"
    if not python.exists() or Path(sys.prefix).resolve() == venv.resolve():
        sys.exit(f"error: this Python lacks {', '.join(missing)} and {venv} does not have them; run uv sync")
    os.execv(python, [str(python), str(here), *sys.argv[1:]])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    restart_in_venv()
    from driving.errors import run_door

    sys.exit(run_door("data_prep.training_format"))
