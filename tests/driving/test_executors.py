import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from driving.errors import DrivingError, LedgerError
from driving.executors import count_cores, run_jobs


def square(number):
    return number * number


def fail_on_three(number):
    if number == 3:
        raise LedgerError("the disk is full")
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_worker_runs_here_and_in_order():
    assert list(run_jobs(lambda number: (number, os.getpid()), range(3), 1)) == [(n, os.getpid()) for n in range(3)]


def test_several_workers_do_every_job_once():
    assert sorted(run_jobs(square, range(20), 2)) == [n * n for n in range(20)]


def test_a_forked_worker_knows_what_its_parent_holds():
    held = object()  # cannot be sent: another process would see another one
    found = list(run_jobs(lambda number: (number, id(held), os.getpid()), range(6), 2, forked=True))
    assert sorted(number for number, _, _ in found) == list(range(6))
    assert {(place, pid == os.getpid()) for _, place, pid in found} == {(id(held), False)}


def test_an_error_of_a_job_reaches_the_caller_as_it_was():
    with pytest.raises(LedgerError, match="the disk is full"):
        list(run_jobs(fail_on_three, range(50), 2))


def test_a_worker_killed_from_outside_is_explained():
    with pytest.raises(DrivingError, match="a worker process was killed .* again to continue"):
        list(run_jobs(die, range(4), 2))


def test_there_is_at_least_one_core():
    assert count_cores() >= 1


@pytest.mark.parametrize("delay_s", [0.02, 0.1, 0.3])
def test_ctrl_c_while_workers_start_leaves_one_line(tmp_path, delay_s):
    (tmp_path / "slow_jobs.py").write_text(
        "import time\ntime.sleep(0.5)  # a worker imports this before it can ignore Ctrl-C\n"
        "def job(number):\n    return number\n"
    )
    (tmp_path / "door.py").write_text(
        "import sys, threading\n"
        "from driving.executors import run_jobs\nfrom driving.errors import run_main\nfrom slow_jobs import job\n"
        "if __name__ == '__main__':\n    print('ready', flush=True)\n"
        "    sys.exit(run_main(lambda: list(run_jobs(job, range(10**6), 2)) and 0))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"}
    process = subprocess.Popen(
        [sys.executable, "door.py"], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (130, "\ninterrupted; run the same command again to continue\n")
