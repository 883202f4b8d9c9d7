"""Errors for the person who can act on them: what is wrong (with the value), where, what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable


class DrivingError(Exception):
    """A fault the user can mend. Reaches the user as one line and exit code 1."""

    exit_code = 1


class AnswerError(DrivingError):
    """A model's answer does not hold what the prompt asked for."""


class LedgerError(DrivingError):
    """An output folder is foreign, locked, or made from another plan; or too many samples were bad."""


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

    Anything that is not a DrivingError is our bug and keeps its traceback.
    """
    try:
        return run()
    except DrivingError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("\ninterrupted; run the same command again to continue")
        return 130
