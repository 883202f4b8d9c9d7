"""Run one function over many jobs on several processes that die with their parent.

Results come in the order of completion. A killed parent leaves no writer behind; Ctrl-C reaches the parent alone, which
lets the jobs in work finish.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from driving.errors import DrivingError

Job = TypeVar("Job")
Result = TypeVar("Result")
JOBS_PER_WORKER = 2  # submitted ahead: enough to keep a worker busy, few enough to stop quickly


def count_cores() -> int:
    """Cores that this process may use: a container may be given fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, *, forked: bool = False
) -> Iterator[Result]:
    """Yield function(job) for every job, as they finish; with one worker, in this process and in order.

    Args:
        jobs: asked again after each result, also where they had ended: a result may bring a further job.
        forked: workers are copies of this process: what `function` holds (a loaded tokenizer, a long list) need not be
            sent, and need not be picklable.

    Raises:
        DrivingError: A worker was killed from outside.
        Exception: Whatever `function` raised; jobs not yet begun are dropped, those in work finish.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    # Fresh processes where nothing speaks against it: a fork of a process with threads may inherit a lock half taken.
    context = multiprocessing.get_context("fork" if forked else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(function,))
    try:
        yield from _run_ahead(pool, iter(jobs), workers * JOBS_PER_WORKER)
    except BrokenProcessPool as error:
        raise DrivingError(
            "a worker process was killed (out of memory?); run the same command again to continue, "
            "with fewer --workers if it happens again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _run_ahead(pool: ProcessPoolExecutor, jobs: Iterator[Any], num_ahead: int) -> Iterator[Any]:
    running = _submit(pool, islice(jobs, num_ahead))
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
            running |= _submit(pool, islice(jobs, 1))


def _submit(pool: ProcessPoolExecutor, jobs: Iterable[Any]) -> set[Future]:
    """Hand jobs over with Ctrl-C held back: a worker started here inherits that until it ignores it itself."""
    resource_tracker.ensure_running()  # its first start would let Ctrl-C through again
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return {pool.submit(_call, job) for job in jobs}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


_function: Callable[[Any], Any] | None = None  # of a worker, for all its jobs


def _call(job: Any) -> Any:
    assert _function is not None
    return _function(job)


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
