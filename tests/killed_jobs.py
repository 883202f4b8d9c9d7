"""Jobs that end well, badly, or with their worker: what every executor must bear."""

import os
import signal

from driving.errors import LedgerError


def square(number):
    return number * number


def fail_on_three(number):
    if number == 3:
        raise LedgerError("the disk is full")
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(folder):
    """Kill this process the first time that it is called on a folder."""
    if not (folder / "again").exists():
        (folder / "again").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return folder.name


def die_over_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
