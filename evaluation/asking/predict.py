"""Ask the model about every row, and about altered videos of some; killed anywhere, it goes on where it was.

    rows ──plan_batches──▶ batches ──(read clips, answer_batch)──▶ parts/00000.jsonl, 00001.jsonl, ...
                                                  read_parts ──▶ predictions and skips, in the rows' order

A part is renamed into place when its batch is whole, so a part that exists is done, unless it skipped a row: that one
is tried again, in case the clip was mended. Batches are fixed by the plan: a continued run, or one on several devices
(evaluation.asking.workers), asks in the same company as an uninterrupted one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.ledger import Skip
from driving.records import check_record, record_name
from driving.whole_files import dump_json, write_text
from evaluation.asking.engine import Engine
from evaluation.asking.predictions import Clock, Job, Prediction, Record, answer_batch

PARTS_NAME = "parts"
READERS = 2


def predict(job: Job, engine: Engine, folder: Path, *, show_progress: bool = True) -> None:
    """Write the parts that are missing."""
    missing = list_missing(job, folder)
    with open_bar(job, missing, show_progress) as bar:
        for num_rows in answer_parts(job, engine, folder, missing):
            bar.update(num_rows)


def answer_parts(job: Job, engine: Engine, folder: Path, indexes: Iterable[int]) -> Iterator[int]:
    """Write these parts and yield the rows of each; the clips of the next are decoded while one is answered."""
    batches = plan_batches(job)
    with ThreadPoolExecutor(READERS) as readers:
        for index, clips in _read_ahead(job, engine, readers, batches, indexes):
            clock = Clock()
            lines = [*answer_batch(job, engine, batches[index], clips, clock), {"speed": clock.to_json()}]
            write_text(part_path(folder, index), "".join(dump_json(line) + "\n" for line in lines))
            yield len(batches[index])


def list_missing(job: Job, folder: Path) -> list[int]:
    """The parts that are not there, or hold a skip."""
    return [index for index in range(len(plan_batches(job))) if not _is_done(part_path(folder, index))]


def open_bar(job: Job, missing: Sequence[int], show_progress: bool = True) -> Any:
    """A progress bar over the rows, with what is done already."""
    from tqdm import tqdm

    batches = plan_batches(job)
    num_done = len(job.records) - sum(len(batches[index]) for index in missing)
    return tqdm(total=len(job.records), initial=num_done, unit="clip", desc="predict", disable=not show_progress)


def plan_batches(job: Job) -> list[list[Record]]:
    """The rows in batches, in order."""
    return [job.records[start : start + job.batch_size] for start in range(0, len(job.records), job.batch_size)]


def part_path(folder: Path, index: int) -> Path:
    """Where the answers of one batch stand."""
    return folder / PARTS_NAME / f"{index:05d}.jsonl"


def _is_done(path: Path) -> bool:
    return path.exists() and not any("reason" in entry for entry in _read_part(path))


def _read_part(path: Path) -> list[dict[str, Any]]:
    # not splitlines: U+2028 in an answer is no new line
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_parts(folder: Path, num_batches: int) -> tuple[list[Prediction], list[Skip]]:
    """Every answer and every skip, in the order of the batches."""
    predictions, skips = [], []
    for index in range(num_batches):
        for entry in _read_part(part_path(folder, index)):
            if "reason" in entry:
                skips.append(Skip(**entry))
            elif "speed" not in entry:
                predictions.append(Prediction(**entry))
    return predictions, skips


def read_speed(folder: Path, num_batches: int) -> dict[str, dict[str, float]]:
    """What all parts took together, by kind of answer; see `Clock`."""
    clock = Clock()
    for index in range(num_batches):
        for entry in _read_part(part_path(folder, index)):
            clock.add(entry.get("speed", {}))
    return clock.to_json()


def _read_ahead(
    job: Job, engine: Engine, readers: ThreadPoolExecutor, batches: list[list[Record]], indexes: Iterable[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (index, clips by row id), one batch ahead; clips that cannot be read are the error instead."""
    waiting: deque[tuple[int, dict[str, Future]]] = deque()
    for index in indexes:
        waiting.append((index, {key: readers.submit(_read, engine, row) for key, row in _needed(job, batches[index])}))
        if len(waiting) > 1:
            yield _await(*waiting.popleft())
    while waiting:
        yield _await(*waiting.popleft())


def _await(index: int, futures: dict[str, Future]) -> tuple[int, dict[str, Any]]:
    return index, {key: future.result() for key, future in futures.items()}


def _needed(job: Job, batch: list[Record]) -> list[tuple[str, Record]]:
    """(row id, record) of every clip that a batch looks at: its own, and the donors' of wrong_clip."""
    rows = {record_name(record): record for record in batch}
    if "wrong_clip" in job.controls:
        for record in batch:
            donor = job.donors.get(record_name(record))
            if donor is not None and record_name(record) in job.control_ids:
                rows.setdefault(record_name(donor), donor)
    return list(rows.items())


def _read(engine: Engine, record: Record) -> Any:
    try:
        check_record(record)
        return engine.read(record)
    except DrivingError as error:
        return error
