import os
import signal

import pytest

from data_prep.executors import count_cores, run_jobs
from driving.errors import DrivingError, LedgerError


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


def test_an_error_of_a_job_reaches_the_caller_as_it_was():
    with pytest.raises(LedgerError, match="the disk is full"):
        list(run_jobs(fail_on_three, range(50), 2))


def test_a_worker_killed_from_outside_is_explained():
    with pytest.raises(DrivingError, match="a worker process was killed .* again to continue"):
        list(run_jobs(die, range(4), 2))


def test_there_is_at_least_one_core():
    assert count_cores() >= 1
