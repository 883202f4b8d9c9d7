"""Run a stage in a forked child that is killed when it is about to rename a file; and its processes from outside. Not a
test itself."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from driving.ledger import COMMANDS_NAME


def run_killed_at_rename(run: Callable[[], object], number: int) -> bool:
    """Run in a child and SIGKILL it in place of its `number`-th rename, counted from 0.

    Each call starts where the one before was killed, as a user's second attempt does.

    Returns:
        True where the child was killed, False where it came to its end.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _kill_at(number)
            run()
            code = 0
        except BaseException:  # noqa: BLE001 - the child must never go on into the test runner
            traceback.print_exc(file=sys.__stderr__)
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _kill_at(number: int) -> None:
    real_replace, calls = os.replace, iter(range(10**6))

    def replace(source, target, **options):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real_replace(source, target, **options)

    os.replace = replace


def read_tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes, but for the commands, which name the folders; the lock holds none."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != COMMANDS_NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def count_survivors(group: int, seconds: float = 20.0) -> int:
    """Processes of a process group that still live `seconds` after its leader; Python's own helpers end last."""
    deadline = time.monotonic() + seconds
    while (count := _count_group(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return count


def _count_group(group: int) -> int:
    count = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        count += int(fields[2]) == group and fields[0] != "Z"
    return count


def list_workers(driver: int) -> list[int]:
    """Worker processes that a driver has started."""
    children = Path(f"/proc/{driver}/task/{driver}/children")
    try:
        pids = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:
        return []  # it ended meanwhile
