"""Errors for the person who can act on them: what is wrong (with the value), where, what to do."""

from __future__ import annotations

import atexit
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

INTERRUPTED_CODE = 128 + signal.SIGINT  # what a shell reports for a process that Ctrl-C ended
_MAY_NOT = "give this user the right, or name another place"
_NO_ROOM = "make room, or name another disk, and run the same command again"
# What the system refuses, and what to do.
REFUSALS = {
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EROFS: "name a place that can be written",
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.ENOTDIR: "a file stands where a folder should; mend the path",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ELOOP: "this link leads to itself; mend it",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or name another disk",
}


class DrivingError(Exception):
    """A fault the user can mend. Reaches the user as one line and exit code 1."""

    exit_code = 1


class AnswerError(DrivingError):
    """A model's answer does not hold what the prompt asked for."""


class LedgerError(DrivingError):
    """An output folder is foreign, locked, or made from another plan; or too many samples were bad."""


class LicenceError(DrivingError):
    """Data would be passed on that its licence keeps with whoever accepted it."""


class MotionError(DrivingError):
    """Ego motion is missing, broken, or does not cover the window asked for."""


class RecordError(DrivingError):
    """A training record or chat message is not of the shape it must have."""


class SourceError(DrivingError):
    """A recording, or a dataset folder, cannot be read as its format promises."""


class VideoError(DrivingError):
    """A video file cannot give the frames that were asked for."""


def print_error(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr)


def run_main(run: Callable[[], int], say: Callable[[str], None] = print_error) -> int:
    """Call a tool's body and turn what the user can act on into one line (`say`) and an exit code.

    So can what the system refuses: a file that may not be read or written, a disk that is full. Anything else is our
    bug and keeps its traceback.
    """
    try:
        return run()
    except DrivingError as error:
        say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        advice = REFUSALS[error.errno]
        say(f"error: {error.filename or 'a file'}: {(error.strerror or 'refused').lower()}; {advice}")
        return 1
    except KeyboardInterrupt:
        _take_ctrl_c(signal.SIG_IGN)
        say("\ninterrupted; run the same command again to continue")
        # Once more ends the wait for a thread; while Python tidies up after that, it would print tracebacks.
        _take_ctrl_c(lambda number, frame: os._exit(INTERRUPTED_CODE))
        atexit.register(_take_ctrl_c, signal.SIG_IGN)
        return INTERRUPTED_CODE


def run_door(module: str) -> int:
    """Import a tool and run its `main`; a Ctrl-C while it is imported is one line too."""
    return run_main(lambda: importlib.import_module(module).main())


def _take_ctrl_c(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():  # Python takes signals in no other
        signal.signal(signal.SIGINT, handler)
