"""What the user can act on is one line; what only we can mend keeps its traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from driving.errors import DrivingError, run_main


def failing(error):
    def run():
        raise error

    return run


def test_a_fault_of_the_user_is_one_line_and_exit_code_1(capsys):
    assert run_main(failing(DrivingError("clip a.mp4 is gone; cut it again"))) == 1
    assert capsys.readouterr().err == "error: clip a.mp4 is gone; cut it again\n"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.EACCES, "error: w.bin: permission denied; give this user the right, or name another place\n"),
        (errno.EROFS, "error: w.bin: read-only file system; name a place that can be written\n"),
        (errno.ENOTDIR, "error: w.bin: not a directory; a file stands where a folder should; mend the path\n"),
        (errno.ENAMETOOLONG, "error: w.bin: file name too long; name a shorter path\n"),
        (errno.ELOOP, "error: w.bin: too many levels of symbolic links; this link leads to itself; mend it\n"),
        (
            errno.EFBIG,
            "error: w.bin: file too large; raise the limit on file sizes (ulimit -f), or name another disk\n",
        ),
        (
            errno.ENOSPC,
            "error: w.bin: no space left on device; make room, or name another disk, and run the same command again\n",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(code, line, capsys):

    assert run_main(failing(OSError(code, os.strerror(code), "w.bin"))) == 1
    assert capsys.readouterr().err == line


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(FileNotFoundError):
        run_main(failing(FileNotFoundError(errno.ENOENT, "No such file", "x")))


IMPATIENT = """
import os, signal, sys, threading, time, weakref
from driving.errors import run_main

class Held: pass

def press(): os.kill(os.getpid(), signal.SIGINT)

held = Held()
weakref.finalize(held, press)  # Python calls it when it ends, and prints a traceback of what it raises

def run():
    if len(sys.argv) > 1:
        threading.Thread(target=lambda: (time.sleep(1), press(), time.sleep(900))).start()  # Python waits for it
    press()

sys.exit(run_main(run))
"""


@pytest.mark.parametrize("arguments", [[], ["a thread"]], ids=["tidying up", "waiting for a thread"])
def test_ctrl_c_is_one_line_and_the_next_one_says_nothing_more(arguments):
    command = [sys.executable, "-c", IMPATIENT, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.stderr == "\ninterrupted; run the same command again to continue\n"
    assert (ended.returncode, ended.stdout) == (130, "")
