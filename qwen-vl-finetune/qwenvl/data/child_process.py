"""What a process that was forked beside the training must do about signals, and about the death of its parent."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
# Left to the system: a handler of the parent's would speak for the wrong process.
CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT, signal.SIGILL)

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # before any fork


def die_with_parent(parent: int) -> None:
    """End this process when `parent` does, by kill -9 too: what it inherited (the output folder's lock) is freed then.

    Linux only; elsewhere a process sees the end of its pipe. The kernel means the thread that forked, not its process.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it was asked for
        os._exit(0)


def ignore_stop_signals() -> None:
    """Leave Ctrl-C and a SIGTERM to the whole group to the parent, which decides when this process ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def crash_silently() -> None:
    """Let a crash be what the parent learns from the exit status, without a dump on the screen."""
    faulthandler.disable()
    for number in CRASH_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
