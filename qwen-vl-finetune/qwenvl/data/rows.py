"""The rows of a run: every dataset of `--dataset_use`, its share taken, its faults found before the first step.

[DatasetUse] ──read, choose──▶ rows ──check_static──▶ usable rows with their folders + skips for the ledger
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY
from driving.ego_history import check_told, explain_other_track
from driving.errors import DrivingError, RecordError
from driving.ledger import Skip
from driving.records import WEIGHT_KEY, record_group, record_name
from qwenvl.data import DatasetUse, choose_rows, choose_weighted_rows
from qwenvl.data.dataset import Record, check_static, read_records

DATASET_FILE = "dataset.json"
CHECK_STAGE = "check"


@dataclass
class Rows:
    """What a run trains on.

    Attributes:
        records, folders, names: usable rows, and for each where its files are looked for and whose dataset it is of.
        skips: rows that cannot be used, with the reason.
        answer_format: the datasets' AnswerFormat as JSON values; None where they have none.
        num_by_name: rows taken of each dataset.
        names_with_format: the datasets that have that answer_format.
        repeated_ids: ids that several rows carry; all but the first were given one of their own.
        settled: what the run that is continued has skipped; None where none is.
    """

    records: list[Record] = field(default_factory=list)
    folders: list[tuple[Path, ...]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    answer_format: dict[str, Any] | None = None
    num_by_name: dict[str, int] = field(default_factory=dict)
    names_with_format: set[str] = field(default_factory=set)
    repeated_ids: set[str] = field(default_factory=set)
    settled: list[Skip] | None = None

    def drop(self, skips: Sequence[Skip]) -> None:
        """Move rows to the skips, by id."""
        bad = {skip.id for skip in skips}
        kept = [index for index, record in enumerate(self.records) if record_name(record) not in bad]
        self.records = [self.records[index] for index in kept]
        self.folders = [self.folders[index] for index in kept]
        self.names = [self.names[index] for index in kept]
        self.skips += skips

    def join_format(self, use: DatasetUse, folder: Path) -> dict[str, Any] | None:
        """The answer format of one more dataset, which lies in `folder`; None where it has none.

        Raises:
            RecordError: It is another one than that of the datasets before.
        """
        found = read_answer_format(folder)
        if self.answer_format and found and self.answer_format != found:
            first = next(name for name in self.num_by_name if name in self.names_with_format)
            other = explain_other_track(first, self.answer_format, use.name, found)
            if other:
                raise RecordError(f"{other}; train one model on each")
            raise RecordError(
                f"{first} asks for answers as {self.answer_format}, {use.name} as {found}; a model "
                "is taught one format: make both datasets with the same --answer-format, --fps and --duration"
            )
        if found:
            self.answer_format = self.answer_format or found
            self.names_with_format.add(use.name)
        return found

    @property
    def track(self) -> str:
        """What a model is given, VIDEO_ONLY or EGO_HISTORY; "" where no dataset has an answer format."""
        if self.answer_format is None:
            return ""
        return EGO_HISTORY if self.answer_format.get("history_pairs") else VIDEO_ONLY

    @property
    def groups(self) -> list[str]:
        """The recordings (clips, rides) that the rows come from."""
        return sorted({record_group(record) for record in self.records})


def load_rows(
    uses: Sequence[DatasetUse],
    seed: int,
    *,
    check_files: bool = True,
    settled: list[Skip] | None = None,
    weighted: bool = True,
    read: Callable[[Path], list[Record]] = read_records,
) -> Rows:
    """Read, sample and check the rows of all datasets.

    Args:
        check_files: skip rows whose files are not there; a prepared cache can do without them.
        repeated_ids: ids that several rows carry; all but the first were given one of their own.
        settled: what the run that is continued has skipped. Those rows stay out and all others in, whatever became of
            their files: the order of all rows hangs on it.
        weighted: use each row as often as its `sampling_weight` says; False where rows are judged on, not learnt.
        read: gives all rows of a file.

    Raises:
        RecordError: A training JSON cannot be read, answers are asked for in two formats, or no row is usable.
    """
    rows = Rows(settled=settled)
    decided = {
        (skip.values.get("dataset"), skip.values.get("row")): skip
        for skip in settled or ()
        if skip.stage == CHECK_STAGE
    }
    owners: dict[str, tuple[Path, int]] = {}  # of each id: the first row that carries it
    verdicts: dict[int, Skip | None] = {}
    for use in uses:
        records = read(use.annotation_path)
        weights = read_weights(records, use.annotation_path) if weighted else None
        if weights is None:
            chosen = choose_rows(len(records), use.percent, seed, use.name)
        else:
            chosen = choose_weighted_rows(weights, use.percent, seed, use.name)
        beside = use.annotation_path if use.annotation_path.is_dir() else use.annotation_path.parent
        folders = (use.data_path, beside, Path())
        rows.num_by_name[use.name] = rows.num_by_name.get(use.name, 0) + len(chosen)
        answer_format = rows.join_format(use, folders[1])
        verdicts.clear()
        for index in chosen:
            record, place = records[index], (use.annotation_path, index)
            name = record_name(record)
            if owners.setdefault(name, place) != place:
                # One that is skipped must not take another along.
                rows.repeated_ids.add(name)
                own = {"id": f"{name} ({use.annotation_path}, row {index})", "group": record_group(record)}
                record = {**record, **own}
            if index not in verdicts:
                if settled is not None:
                    verdicts[index] = decided.get((use.name, index))
                else:
                    verdicts[index] = _judge(record, folders if check_files else None, use.name, index, answer_format)
                if verdicts[index] is not None:
                    rows.skips.append(verdicts[index])
            if verdicts[index] is None:
                rows.records.append(record)
                rows.folders.append(folders)
                rows.names.append(use.name)
    if not rows.records:
        first = rows.skips[0]
        raise RecordError(f"none of {len(rows.skips):,} rows can be used; the first: {first.id}: {first.reason}")
    return rows


def read_weights(records: Sequence[Record], path: Path) -> list[float] | None:
    """How often each row is used in an epoch; None where no row says it.

    Raises:
        RecordError: A weight is not a number of 0 or more, or all are 0.
    """
    if not any(WEIGHT_KEY in record for record in records):
        return None
    weights = [record.get(WEIGHT_KEY, 1.0) for record in records]
    for record, weight in zip(records, weights, strict=True):
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < math.inf:
            raise RecordError(
                f"{record_name(record)} in {path}: {WEIGHT_KEY} {str(weight)[:80]!r} is not a number of 0 or more; "
                "run ./convert_to_training_format.py again"
            )
    if not any(weights):
        raise RecordError(f"{path}: every {WEIGHT_KEY} is 0, so no row is used; take the key out")
    return weights


def _judge(
    record: Record, folders: Sequence[Path] | None, name: str, index: int, answer_format: dict[str, Any] | None
) -> Skip | None:
    try:
        check_static(record, folders)
        if answer_format:
            check_told(record, is_told=bool(answer_format.get("history_pairs")))
    except DrivingError as error:
        return Skip(record_name(record), CHECK_STAGE, str(error), {"dataset": name, "row": index})
    return None


def read_answer_format(folder: Path) -> dict[str, Any] | None:
    """The AnswerFormat in a training folder's dataset.json; None where there is none.

    Raises:
        RecordError: The file, or the format in it, is not a JSON object.
    """
    path = Path(folder) / DATASET_FILE
    if not path.exists():
        return None
    try:
        answer_format = json.loads(path.read_text(encoding="utf-8")).get("answer_format")
    except (ValueError, AttributeError) as error:
        raise RecordError(
            f"{path} is not a JSON object ({error}); run ./convert_to_training_format.py again"
        ) from error
    if not isinstance(answer_format, dict | None):
        raise RecordError(f"answer_format in {path} is not a JSON object; run ./convert_to_training_format.py again")
    return answer_format
