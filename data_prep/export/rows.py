"""What is exported: the rows of a finished dataset, whichever of its two forms it lies in, in one order.

qwen_video_dataset_training/   {split}.json, truth.parquet  ┐
                                                            ├─▶ iter_records, iter_truth, iter_samples
qwen_video_dataset/            Arrow, messages and numbers  ┘
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_prep.training_format import BATCH_ROWS, DATASET_NAME, INDEX_KEYS, TRUTH_COLUMNS, TRUTH_NAME, format_record
from driving.errors import DrivingError, RecordError
from driving.ledger import MANIFEST_NAME, check_whole, read_manifest
from driving.records import record_name

Record = dict[str, Any]
ARROW_NAME = "dataset_dict.json"


class Rows(Protocol):
    """A dataset as the exporters see it.

    Attributes:
        folder: where it lies; paths of videos may be relative to it.
        facts: dataset.json.
        splits: rows of each side, in the order train, val, test.
    """

    folder: Path
    facts: dict[str, Any]
    splits: dict[str, int]

    def iter_records(self, split: str) -> Iterator[Record]:
        """{"id", "group", "video", "conversations"} of every row, with INDEX_KEYS where its video is part of a file."""
        ...

    def iter_truth(self, split: str) -> Iterator[Record]:
        """{"id", "targets", "observed", "future_pose", ...} of every row, in the same order."""
        ...


def open_rows(folder: Path) -> Rows:
    """Find a finished dataset of either form.

    Raises:
        DrivingError: There is none, it is not finished or not whole, or its rows point into recordings.
    """
    if not (folder / MANIFEST_NAME).is_file() or not (folder / DATASET_NAME).is_file():
        raise DrivingError(
            f"there is no finished dataset in {folder}; run prepare_huggingface_dataset.py, "
            "or convert_to_training_format.py for the training files"
        )
    check_whole(folder, "make it again with the tool that made it")
    facts = json.loads((folder / DATASET_NAME).read_text(encoding="utf-8"))
    splits = read_manifest(folder)["summary"]["splits"]
    if any(folder.glob("*.index.json")) and read_cut(facts) != "scaled":
        raise _explain_index(folder)
    if (folder / ARROW_NAME).is_file():
        return ArrowRows(folder, facts, splits)
    if (folder / TRUTH_NAME).is_file():
        return TrainingRows(folder, facts, splits)
    raise DrivingError(f"{folder} holds neither {ARROW_NAME} nor {TRUTH_NAME}; name the folder of one of the two tools")


def iter_samples(rows: Rows, split: str) -> Iterator[tuple[Record, Record]]:
    """Records with their truth.

    Raises:
        RecordError: The two are not of the same rows.
    """
    for record, truth in zip(rows.iter_records(split), rows.iter_truth(split), strict=True):
        if record["id"] != truth["id"]:
            raise RecordError(f"{record['id']} has the truth of {truth['id']}; make {rows.folder} again")
        yield record, truth


@dataclass(frozen=True)
class TrainingRows:
    """The folder of convert_to_training_format.py; see `Rows`."""

    folder: Path
    facts: dict[str, Any]
    splits: dict[str, int]

    def iter_records(self, split: str) -> Iterator[Record]:
        path = self.folder / f"{split}{'.index' if read_cut(self.facts) == 'scaled' else ''}.json"
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                text = line.strip().removesuffix(",")
                if text in ("[", "]", ""):
                    continue
                try:
                    record = json.loads(text)
                except ValueError as error:
                    raise RecordError(f"{path}, line {number} is not one record; convert the dataset again") from error
                yield record

    def iter_truth(self, split: str) -> Iterator[Record]:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        # With pre_buffer all that was read of the file stays in memory until it is closed.
        with pq.ParquetFile(self.folder / TRUTH_NAME, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS):
                yield from batch.filter(pc.equal(batch["split"], split)).to_pylist()


@dataclass(frozen=True)
class ArrowRows:
    """The folder of prepare_huggingface_dataset.py; see `Rows`."""

    folder: Path
    facts: dict[str, Any]
    splits: dict[str, int]

    def iter_records(self, split: str) -> Iterator[Record]:
        for row in self._iter_rows(split, ("segment_uuid", "group", "messages", *INDEX_KEYS)):
            record = format_record(row, keep_system=True)
            if is_within(record) and read_cut(self.facts) != "scaled":
                raise _explain_index(self.folder)
            yield record

    def iter_truth(self, split: str) -> Iterator[Record]:
        for row in self._iter_rows(split, ("segment_uuid", "group", *TRUTH_COLUMNS)):
            yield {"id": row.pop("segment_uuid"), "split": split, **row}

    def _iter_rows(self, split: str, columns: tuple[str, ...]) -> Iterator[Record]:
        from datasets import load_from_disk

        dataset = load_from_disk(str(self.folder / split))
        dataset = dataset.select_columns([name for name in columns if name in dataset.column_names])
        for batch in dataset.iter(batch_size=BATCH_ROWS):
            names = list(batch)
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(names, values, strict=True))


def _explain_index(folder: Path) -> DrivingError:
    return DrivingError(
        f"the rows of {folder} point into recordings (--cut index), which other tools cannot read; "
        "cut the segments with --cut resized or scaled"
    )


def read_cut(facts: dict[str, Any]) -> str:
    """How the segments were cut ("resized", ...), as dataset.json says; "" where it does not."""
    return facts.get("provenance", {}).get("segments_plan", {}).get("cut") or ""


def is_within(record: Record) -> bool:
    """Whether a record's video is part of its file, told by keys that other tools do not know."""
    return not record.keys().isdisjoint(INDEX_KEYS)


def read_video(record: Record) -> str:
    """The one video of a record.

    Raises:
        RecordError: It has none, or several.
    """
    video = record.get("video")
    if not isinstance(video, str):
        raise RecordError(f"{record_name(record)} has not one video but {str(video)[:80]!r}; exports are of one video")
    return video
