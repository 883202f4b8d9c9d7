"""Who may write into an output folder: one run alone, or many tasks that share the work.

A lock goes with its process: a killed run leaves no stale one behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from driving.errors import LedgerError

LOCK_NAME = ".lock"
WAIT_S = 120.0  # of a task, for the run that submitted it to let go
_POLL_S = 0.2


@contextlib.contextmanager
def lock_alone(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder.

    Raises:
        LedgerError: Another run writes it, or it cannot be written.
    """
    with _open_lock(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _explain_busy(folder) from None
        with _held(handle):
            yield


@contextlib.contextmanager
def lock_shared(folder: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Be one of several writers of a folder that has been made; keeps `lock_alone` out.

    Raises:
        LedgerError: A run that writes it alone has not ended after `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    with _open_lock(folder) as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _explain_busy(folder) from None
                time.sleep(_POLL_S)
        with _held(handle):
            yield


@contextlib.contextmanager
def try_lock_file(path: Path) -> Iterator[bool]:
    """Take a file for one writer; False where another process has it."""
    with path.open("r+") as handle:  # over NFS a lock needs a handle that may write
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        with _held(handle):
            yield True


def explain_unwritable(folder: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"{folder} cannot be written ({error.strerror}); choose another output folder, or mend its rights"
    )


def _explain_busy(folder: Path) -> LedgerError:
    return LedgerError(f"another run is writing {folder}; wait for it, or choose another output folder")


def _open_lock(folder: Path) -> IO:
    try:
        return (folder / LOCK_NAME).open("a")
    except OSError as error:
        raise explain_unwritable(folder, error) from error


@contextlib.contextmanager
def _held(handle: IO) -> Iterator[None]:
    _held_locks.add(handle)
    try:
        yield
    finally:
        _held_locks.discard(handle)


_held_locks: set[IO] = set()


def _let_go_of_locks() -> None:
    """In a fork: a worker must not hold its parent's lock, or it would outlive a parent that is killed."""
    for handle in _held_locks:
        handle.close()
    _held_locks.clear()


os.register_at_fork(after_in_child=_let_go_of_locks)
