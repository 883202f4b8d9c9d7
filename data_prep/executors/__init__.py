"""Where the jobs of a run are done: on this machine, on a Ray cluster, or by tasks of a Slurm array.

Each is one function, run(function, jobs, ...) -> results as they finish; jobs are addresses and options, never pixels,
and what is written is the same bytes whoever writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from driving.executors import count_cores, run_jobs


def run_on(
    executor: str,
    function: Callable[[Any], Any],
    jobs: Iterable[Any],
    *,
    workers: int,
    num_jobs: int,
    give_up: Callable[[Any], Any],
) -> Iterator[Any]:
    """Yield function(job) for every job, as they finish. The contract of `jobs` and `give_up`: `driving.executors`.

    Args:
        executor: "local" or "ray".
        workers: processes; 0 means one for each core there is.
        num_jobs: about how many jobs there are: no more local processes are started.
    """
    if executor == "ray":
        from data_prep.executors.ray_tasks import run_tasks

        return run_tasks(function, jobs, workers=workers, give_up=give_up)
    return run_jobs(function, jobs, min(workers or count_cores(), max(1, num_jobs)), give_up=give_up)
