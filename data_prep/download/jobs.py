"""What is missing here, as jobs with their sizes; and many workers that fetch them, stopping together."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass

from data_prep.download.patience import FetchError
from driving.ledger import Skip


@dataclass(frozen=True)
class Job:
    """One file, or one clip's files of one feature.

    Attributes:
        name: for the ledger.
        size: bytes still to come.
        fetch: does it; told a function that counts bytes.
        fault: why it cannot be done, where that is known already.
    """

    name: str
    size: int
    fetch: Callable[[Callable[[int], None]], None]
    fault: str = ""


def map_together(do: Callable, items: Sequence, workers: int, stop: threading.Event) -> list:
    """[do(item) for item in items] by several threads; the first error ends all."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(do, item) for item in items]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done() and future.exception():
                    raise future.exception()
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_jobs(jobs: Sequence[Job], workers: int, stop: threading.Event, show_progress: bool) -> list[Skip]:
    """Do all jobs; what fails for itself is returned, what stops everything is raised.

    Raises:
        AccessError: The hub gives nothing any more.
        LedgerError: The disk is full.
    """
    from tqdm import tqdm

    skips = [Skip(job.name, "download", job.fault) for job in jobs if job.fault]
    ready = [job for job in jobs if not job.fault]
    total = sum(job.size for job in ready)
    with tqdm(total=total, unit="B", unit_scale=True, disable=not (show_progress and sys.stderr.isatty())) as bar:
        lock = threading.Lock()

        def count(num_bytes: int) -> None:
            with lock:
                bar.update(num_bytes)

        with ThreadPoolExecutor(workers) as pool:
            try:
                names = {pool.submit(job.fetch, count): job.name for job in ready}
                for future in as_completed(names):
                    try:
                        future.result()
                    except FetchError as error:
                        skips.append(Skip(names[future], "download", str(error)))
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return skips
