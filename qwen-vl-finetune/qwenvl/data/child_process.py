"""What a process that was forked beside the training must do about signals, and about the death of its parent."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 64 * 2**20
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
# Left to the system: a handler of the parent's would speak for the wrong process.
CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT, signal.SIGILL)

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # before any fork


@contextlib.contextmanager
def hold_stop_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait while a process is forked: it is born with both blocked, and never opens them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with_parent(parent: int) -> None:
    """End this process when `parent` does, by kill -9 too: what it inherited (the output folder's lock) is freed then.

    Linux only; elsewhere a process sees the end of its pipe. The kernel means the thread that forked, not its process.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it was asked for
        os._exit(0)


def crash_silently() -> None:
    """Let a crash be what the parent learns from the exit status, without a dump on the screen."""
    faulthandler.disable()
    for number in CRASH_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def keep_freed_memory() -> None:
    """Leave freed memory with the process instead of handing it back after each clip: that cost 570 page faults."""
    mallopt = getattr(_libc, "mallopt", None)  # not in every C library
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 2)
