"""How one rank among several ends: what it has to say is said once a machine, by whichever rank is first.

torchrun gives each rank of a machine a file for its error, all of them below one folder; whoever makes the marker of a
line in that folder prints it. The error file itself gets the line too, for torchrun's own report.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from driving.errors import run_main

ERROR_FILE_VARIABLE = "TORCHELASTIC_ERROR_FILE"


def run_rank(run: Callable[[], int]) -> int:
    """Call a tool's body as one rank of several, or as the only one; returns its exit code."""
    error_file = os.environ.get(ERROR_FILE_VARIABLE)
    if not error_file:
        return run_main(run)
    # Ctrl-C reaches every rank and every loader's worker. One that waits for another in a collective could not answer
    # it, and each of the others would print a traceback; every checkpoint outlives a kill, so none of them has to.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    folder = Path(error_file).parents[1]
    try:
        code = run_main(run, say=lambda line: say_once(line, Path(error_file), folder))
    except RuntimeError:
        if not list_said(folder):
            raise
        return 1  # another rank has said why it left; that this one lost it is a consequence
    if code in (0, 128 + signal.SIGTERM):
        leave_group()
    return code


def say_once(line: str, error_file: Path, folder: Path) -> None:
    """Print a line on stderr unless another rank has; keep it in this rank's error file."""
    error_file.write_text(json.dumps({"message": line, "timestamp": int(time.time())}), encoding="utf-8")
    marker = folder / f"said-{hashlib.sha256(line.encode()).hexdigest()[:16]}"
    with contextlib.suppress(FileExistsError):
        marker.touch(exist_ok=False)
        print(line, file=sys.stderr, flush=True)


def list_said(folder: Path) -> list[Path]:
    """The markers of what ranks of this machine have said."""
    return sorted(folder.glob("said-*"))


def leave_group() -> None:
    """Close the process group, which NCCL otherwise complains about at every end."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
