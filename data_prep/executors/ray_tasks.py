"""Jobs as tasks of a Ray cluster: addresses go out, counts come back; pixels stay on the file system all nodes share.

A worker or a node that is lost takes only what it had in work along, which is tried again elsewhere. Which cluster is
Ray's own affair: RAY_ADDRESS names one; without it one is started here, and ended with the run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from driving.errors import DrivingError
from driving.executors import RetriedJobs, count_cores

# Read when Ray is imported. One try takes 20 of the 40 s until a wrong address is said ...
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
# ... and below `uv run` Ray would pack the working directory, data and all, for its workers, and wait for ever.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
TASKS_PER_CPU = 2  # submitted ahead: enough to keep every node busy, few enough to stop quickly


def run_tasks(
    function: Callable[[Any], Any], jobs: Iterable[Any], *, workers: int, give_up: Callable[[Any], Any] | None = None
) -> Iterator[Any]:
    """Yield function(job) for every job, as they finish. The contract of `jobs` and `give_up`: `driving.executors`.

    Args:
        workers: tasks at a time; 0 means all CPUs of the cluster, also those that join while the run goes on.

    Raises:
        DrivingError: Ray is not installed, or cannot be reached; or what `function` raised.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise DrivingError("--executor ray needs the package ray; run `uv sync --inexact --extra scale`") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(workers)
    try:
        yield from _run_ahead(function, RetriedJobs(jobs, give_up), workers)
    finally:
        if is_ours:
            ray.shutdown()


def _connect(workers: int) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine that ends with this process."""
    import ray

    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"num_cpus": workers or count_cores(), "include_dashboard": False}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = f"at RAY_ADDRESS={address}" if address else "on this machine"
        reason = str(error).strip().split("\n")[0]
        raise DrivingError(f"there is no Ray cluster {where} ({reason}); start one, or use --executor local") from error


def _run_ahead(function: Callable[[Any], Any], jobs: RetriedJobs, workers: int) -> Iterator[Any]:
    import ray
    from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

    task = ray.remote(max_retries=0)(_call)  # tried again by us: Ray would never give a job up by name
    in_flight: dict[Any, tuple[Any, int]] = {}
    while True:
        num_ahead = workers or TASKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while len(in_flight) < num_ahead and (taken := jobs.take()) is not None:
            in_flight[task.remote(os.getcwd(), function, taken[0])] = taken
        if not in_flight:
            return
        done, _ = ray.wait(list(in_flight), num_returns=1)
        done, _ = ray.wait(list(in_flight), num_returns=len(in_flight), timeout=0)
        for reference in done:
            taken = in_flight.pop(reference)
            try:
                yield ray.get(reference)
            except RayTaskError as error:
                raise error.cause from error
            except (WorkerCrashedError, NodeDiedError, LocalRayletDiedError, OutOfMemoryError):
                yield from jobs.note_kill(*taken)


def _call(folder: str, function: Callable[[Any], Any], job: Any) -> Any:
    os.chdir(folder)  # paths are as the user typed them; a worker stands where its node was started
    return function(job)
