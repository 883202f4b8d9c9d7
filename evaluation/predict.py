"""Ask the model about every row, and about altered videos of some; killed anywhere, it goes on where it was.

    rows ──plan_batches──▶ batches ──(read clips, ask, ask each control)──▶ parts/00000.jsonl, 00001.jsonl, ...
                                                           read_parts ──▶ predictions and skips, in the rows' order

A part is renamed into place when its batch is whole, so a part that exists is done, unless it skipped a row: that one
is tried again, in case the clip was mended. Batches are fixed by the plan: a continued run asks in the same company as
an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.ledger import Skip, dump_json, write_text
from driving.records import check_record, record_name
from evaluation.controls import HISTORY_CONTROLS, alter_frames
from evaluation.engine import Engine

Record = dict[str, Any]
PARTS_NAME = "parts"
PLAIN = "plain"  # the video as it is
READERS = 2


@dataclass(frozen=True)
class Prediction:
    """One answer as it came, before anybody judged it.

    Attributes:
        id, group: of the row.
        control: PLAIN, or the name of the control whose video was shown.
        text: the answer.
        num_tokens, prompt_tokens: lengths.
        is_cut: stopped by the token limit.
        clip: [frames, height, width] of the first video.
    """

    id: str
    group: str
    control: str
    text: str
    num_tokens: int
    prompt_tokens: int
    is_cut: bool
    clip: list[int]


@dataclass(frozen=True)
class Job:
    """What is asked.

    Attributes:
        records: the rows, in order.
        controls: names of the controls.
        control_ids: rows that the controls are shown for.
        donors: for wrong_clip, the record whose frames a row is shown.
        altered: for a control that changes the prompt, the record that is asked instead, by row id.
        seed: of shuffled frames.
        batch_size: rows asked at once.
    """

    records: list[Record]
    controls: tuple[str, ...] = ()
    control_ids: frozenset[str] = frozenset()
    donors: dict[str, Record] = field(default_factory=dict)
    seed: int = 7
    batch_size: int = 16
    altered: dict[str, dict[str, Record]] = field(default_factory=dict)


def predict(job: Job, engine: Engine, folder: Path, *, show_progress: bool = True) -> None:
    """Write the parts that are missing; the clips of the next batch are decoded while this one is answered."""
    from tqdm import tqdm

    batches = plan_batches(job)
    missing = [index for index in range(len(batches)) if not _is_done(part_path(folder, index))]
    num_done = len(job.records) - sum(len(batches[index]) for index in missing)
    with (
        ThreadPoolExecutor(READERS) as readers,
        tqdm(total=len(job.records), initial=num_done, unit="clip", desc="predict", disable=not show_progress) as bar,
    ):
        for index, batch, clips in _read_ahead(job, engine, readers, batches, missing):
            lines = _answer_batch(job, engine, batch, clips)
            write_text(part_path(folder, index), "".join(dump_json(line) + "\n" for line in lines))
            bar.update(len(batch))


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
            else:
                predictions.append(Prediction(**entry))
    return predictions, skips


def _read_ahead(
    job: Job, engine: Engine, readers: ThreadPoolExecutor, batches: list[list[Record]], missing: list[int]
) -> Iterator[tuple[int, list[Record], dict[str, Any]]]:
    """Yield (index, batch, clips by row id), one batch ahead; clips that cannot be read are the error instead."""
    waiting: list[dict[str, Future]] = []
    for place, index in enumerate(missing):
        for ahead in missing[place + len(waiting) : place + 2]:
            waiting.append({key: readers.submit(_read, engine, row) for key, row in _needed(job, batches[ahead])})
        futures = waiting.pop(0)
        yield index, batches[index], {key: future.result() for key, future in futures.items()}


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


def _answer_batch(job: Job, engine: Engine, batch: list[Record], clips: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask a batch as it is, then under each control; lines of predictions and skips as JSON values."""
    lines: list[dict[str, Any]] = []
    good = []
    for record in batch:
        seen = clips[record_name(record)]
        if isinstance(seen, DrivingError):
            lines.append(_skip(record, "read", seen))
        else:
            good.append(record)
    lines += _ask(engine, PLAIN, [(record, clips[record_name(record)]) for record in good])
    for control in job.controls:
        rows = [record for record in good if record_name(record) in job.control_ids]
        prompts = job.altered.get(control, {})
        altered = [(prompts.get(record_name(record), record), _alter(job, control, record, clips)) for record in rows]
        for record, seen in altered:
            if isinstance(seen, DrivingError):
                lines.append(_skip(record, f"control {control}", seen))
        lines += _ask(engine, control, [(record, seen) for record, seen in altered if isinstance(seen, list)])
    return lines


def _alter(job: Job, control: str, record: Record, clips: dict[str, Any]) -> list[Any] | DrivingError:
    """The clips that a row is shown under a control; the donor's error where it cannot be read."""
    name = record_name(record)
    if control == "wrong_clip":
        return clips[record_name(job.donors[name])]
    if control in HISTORY_CONTROLS:
        return clips[name]
    return [clip._replace(frames=alter_frames(control, clip.frames, name, job.seed)) for clip in clips[name]]


def _ask(engine: Engine, control: str, shown: Sequence[tuple[Record, list[Any]]]) -> list[dict[str, Any]]:
    """Answers of one batch, and a skip for each row that cannot be asked."""
    lines, samples, asked = [], [], []
    for record, clips in shown:
        try:
            samples.append(engine.prepare(record, clips))
        except DrivingError as error:
            lines.append(_skip(record, "prepare" if control == PLAIN else f"control {control}", error))
            continue
        asked.append((record, clips))
    for (record, clips), answer in zip(asked, engine.generate(samples) if samples else [], strict=True):
        lines.append(
            {
                "id": record_name(record),
                "group": str(record.get("group", record_name(record))),
                "control": control,
                "text": answer.text,
                "num_tokens": answer.num_tokens,
                "prompt_tokens": answer.prompt_tokens,
                "is_cut": answer.is_cut,
                "clip": list(clips[0].frames.shape[:3]) if clips else [],
            }
        )
    return lines


def _skip(record: Record, stage: str, error: DrivingError) -> dict[str, Any]:
    return {"id": record_name(record), "stage": stage, "reason": str(error), "values": {}}
