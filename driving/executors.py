"""Run one function over many jobs on several processes that die with their parent.

Results come in the order of completion. A worker that is killed loses nothing but the job it had in work, which is
tried again by another. A killed parent leaves no writer behind; Ctrl-C reaches the parent alone, which lets the jobs
in work finish.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from driving.errors import DrivingError, print_error

Job = TypeVar("Job")
Result = TypeVar("Result")
MAX_KILLS = 3  # a job that was in work in so many workers that were killed is not tried again
_NO_JOB = object()


def count_cores() -> int:
    """Cores that this process may use: a container may be given fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    *,
    forked: bool = False,
    give_up: Callable[[Job], Result] | None = None,
) -> Iterator[Result]:
    """Yield function(job) for every job, as they finish; with one worker, in this process and in order.

    Args:
        jobs: asked again after each result, also where they had ended: a result may bring a further job.
        forked: workers are copies of this process: what `function` holds (a loaded tokenizer, a long list) need not be
            sent, and need not be picklable.
        give_up: what to yield for a job over which three workers were killed.

    Raises:
        DrivingError: A worker was killed three times over one job, and there is no `give_up`; or none gets started.
        Exception: Whatever `function` raised; jobs not yet begun are dropped, those in work finish.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    # Fresh processes where nothing speaks against it: a fork of a process with threads may inherit a lock half taken.
    pool = _Pool(multiprocessing.get_context("fork" if forked else "spawn"), function)
    try:
        yield from pool.run(RetriedJobs(jobs, give_up), workers)
    finally:
        pool.stop()


class RetriedJobs:
    """Jobs in turn, those that are tried again first; the one owner of how often.

    Args:
        give_up: what comes of a job over which three workers were killed; None: an error does.
    """

    def __init__(self, jobs: Iterable[Any], give_up: Callable[[Any], Any] | None) -> None:
        self._jobs = iter(jobs)
        self._again: deque[tuple[Any, int]] = deque()
        self._give_up = give_up

    def take(self) -> tuple[Any, int] | None:
        """(job, how many workers were killed over it); None where there is none now."""
        if self._again:
            return self._again.popleft()
        job = next(self._jobs, _NO_JOB)
        return None if job is _NO_JOB else (job, 0)

    def note_kill(self, job: Any, num_kills: int) -> Iterator[Any]:
        """A worker was killed over a job: try it again, or yield what is given up for.

        Raises:
            DrivingError: It was killed three times, and there is nothing to give up for.
        """
        num_kills += 1
        if num_kills < MAX_KILLS:
            print_error("a worker was killed (out of memory?); what it had in work is tried again")
            self._again.append((job, num_kills))
        elif self._give_up is not None:
            yield self._give_up(job)
        else:
            raise DrivingError(
                f"a worker process was killed {num_kills} times over the same piece of work (out of memory?); run the "
                "same command again to continue, with fewer --workers if it happens again"
            )


@dataclass
class _Worker:
    """A process and the pipe to it. `task` is what it has in work; it `is_ready` once it has started."""

    process: BaseProcess
    pipe: Connection
    task: tuple[Any, int] | None = None
    is_ready: bool = False


class _Pool:
    """Processes that are each given one job at a time, so that it is known over which one a worker was killed."""

    def __init__(self, context: BaseContext, function: Callable[[Any], Any]) -> None:
        self._context, self._function = context, function
        self._workers: list[_Worker] = []

    def run(self, jobs: RetriedJobs, workers: int) -> Iterator[Any]:
        num_stillborn = 0
        for _ in range(workers):
            self._start()
        while True:
            for worker in self._workers:
                if worker.is_ready and worker.task is None:
                    self._hand_over(worker, jobs.take())
            busy = [worker for worker in self._workers if worker.task is not None or not worker.is_ready]
            if not any(worker.task for worker in busy) and all(worker.is_ready for worker in self._workers):
                return
            ready = wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in ready]:
                try:
                    is_good, result = worker.pipe.recv()
                except (EOFError, OSError):
                    num_stillborn = 0 if worker.is_ready else num_stillborn + 1
                    if num_stillborn >= MAX_KILLS:
                        raise DrivingError(
                            "worker processes are killed before they begin (out of memory?); run the same command "
                            "again to continue, with fewer --workers"
                        ) from None
                    self._replace(worker)
                    if worker.task is not None:
                        yield from jobs.note_kill(*worker.task)
                    continue
                is_first, worker.is_ready, worker.task = not worker.is_ready, True, None
                if not is_good:
                    raise result
                if not is_first:
                    yield result

    def stop(self) -> None:
        """Let the jobs in work finish, and the workers end."""
        for worker in self._workers:
            with contextlib.suppress(OSError):  # it has ended already
                worker.pipe.send(None)
        for worker in self._workers:
            while worker.process.is_alive():
                try:
                    if worker.pipe.poll(0.1):
                        worker.pipe.recv()  # a result that nobody waits for: the worker could not end before
                except (EOFError, OSError):
                    worker.process.join()
            worker.pipe.close()

    def _hand_over(self, worker: _Worker, task: tuple[Any, int] | None) -> None:
        if task is None:
            return
        worker.task = task
        with contextlib.suppress(OSError):  # killed while it had nothing to do: its pipe says so next
            worker.pipe.send((task[0],))

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        self._start()

    def _start(self) -> None:
        """Start a worker with Ctrl-C held back: it inherits that until it ignores it itself."""
        resource_tracker.ensure_running()  # its first start would let Ctrl-C through again
        here, there = self._context.Pipe()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = self._context.Process(target=_work, args=(self._function, there))
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        there.close()
        self._workers.append(_Worker(process, here))


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """A worker's life: say that it has begun, then one job after the other until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        pipe.send((True, None))
        while (message := pipe.recv()) is not None:
            try:
                answer = (True, function(*message))
            except Exception as error:  # noqa: BLE001 - raised by the parent, with this traceback beside it
                error.add_note(traceback.format_exc())
                answer = (False, error)
            try:
                pipe.send(answer)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                pipe.send((False, TypeError(f"{answer[1]!r:.200} cannot be sent to another process: {error}")))


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
