import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_jobs import die, die_once, die_over_three, fail_on_three, square

from driving.errors import DrivingError, LedgerError
from driving.executors import count_cores, run_jobs


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


def test_a_killed_worker_loses_nothing(tmp_path):
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    assert sorted(run_jobs(die_once, folders, 2)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("forked", [False, True])
def test_a_worker_killed_over_and_over_is_explained(forked):
    with pytest.raises(DrivingError, match="a worker process was killed 3 times .* again to continue"):
        list(run_jobs(die, range(4), 2, forked=forked))


def test_a_job_that_kills_its_workers_is_given_up_and_the_others_are_done():
    found = list(run_jobs(die_over_three, range(8), 2, give_up=lambda number: f"not {number}"))
    assert sorted(found, key=str) == [0, 1, 2, 4, 5, 6, 7, "not 3"]


def test_each_kill_is_said(capfd):
    list(run_jobs(die_over_three, range(3, 5), 2, give_up=lambda number: None))
    assert capfd.readouterr().err.count("what it had in work is tried again") == 2


def test_workers_that_never_begin_are_explained(monkeypatch):
    monkeypatch.setattr("driving.executors._work", die)
    with pytest.raises(DrivingError, match="worker processes are killed before they begin .* fewer --workers"):
        list(run_jobs(square, range(4), 2, forked=True))


class Growing:
    """Jobs of which each result below three brings another one."""

    def __init__(self):
        self.waiting = [0]

    def __iter__(self):
        return self

    def __next__(self):
        if not self.waiting:
            raise StopIteration
        return self.waiting.pop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_result_may_bring_a_further_job(workers):
    jobs, found = Growing(), []
    for result in run_jobs(square, jobs, workers):
        found.append(result)
        jobs.waiting += [len(found)] if len(found) < 4 else []
    assert found == [0, 1, 4, 9]


def test_a_large_result_that_nobody_waits_for_does_not_hold_the_end_up():
    results = run_jobs(make_large, range(4), 2)
    assert len(next(results)) == 1 << 22
    results.close()


def make_unsendable(number):
    return lambda: number


def test_a_result_that_cannot_be_sent_is_no_killed_worker():
    with pytest.raises(TypeError, match="make_unsendable.* cannot be sent to another process"):
        list(run_jobs(make_unsendable, range(2), 2))


def make_large(number):
    return bytes(1 << 22)  # more than a pipe holds


def test_the_traceback_of_a_worker_is_kept():
    with pytest.raises(LedgerError) as caught:
        list(run_jobs(fail_on_three, range(50), 2))
    assert "in fail_on_three" in caught.value.__notes__[0]


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
