"""Rows of the segment index -> rows of the dataset: the question, the answer as text, and what was wrong with some."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.arrow_dataset import encode_messages
from data_prep.label_statistics import LabelStatistics
from driving.answer_format import AnswerFormat, format_answer
from driving.ego_history import build_question
from driving.errors import DrivingError, MotionError
from driving.ledger import Skip
from driving.records import build_messages
from driving.trajectory import Trajectory

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

LABEL_COLUMNS = {"targets": 2, "observed": 2, "future_pose": 3}  # name -> numbers in a row of it
EXTRA_COLUMNS = {
    "video_start": "float64", "video_end": "float64", "member": "string", "frame_indices": "list<int64>",
    "height": "int64", "width": "int64", "source": "string", "country": "string", "hour": "int64", "platform": "string",
    "camera": "string", "metadata": "string",
}  # fmt: skip

Relabel = Callable[[dict[str, Any]], dict[str, list]]  # light columns of a row -> its LABEL_COLUMNS, or a DrivingError


class RowBuilder:
    """Builds the dataset's tables and keeps what could not be used.

    Attributes:
        skips: bad rows so far.
        statistics: of the labels built since it was last set.
    """

    def __init__(
        self, answer_format: AnswerFormat, num_samples: int, features: Features, relabel: Relabel | None = None
    ) -> None:
        self.skips: list[Skip] = []
        self.statistics = LabelStatistics()
        self._format, self._num_samples, self._features, self._relabel = answer_format, num_samples, features, relabel

    def build_table(self, table: pa.Table) -> pa.Table:
        """One table of segments -> the dataset's columns, without the rows that went to `skips`."""
        import pyarrow as pa

        labels = self._read_labels(table)
        kept = [index for index, row in enumerate(labels) if row is not None]
        if len(kept) < len(labels):
            table, labels = table.take(pa.array(kept, pa.int64())), [labels[index] for index in kept]
        targets = np.array([row["targets"] for row in labels]).reshape(-1, self._num_samples, 2)
        self.statistics.add(targets)
        texts = [format_answer(Trajectory.from_pairs(pairs), self._format) for pairs in targets]
        paths = table["video_path"].to_pylist()
        observed = [Trajectory.from_pairs(row["observed"]) for row in labels]
        messages = [self._build_messages(*parts) for parts in zip(paths, observed, texts, strict=True)]
        built = {
            "messages": encode_messages(messages, self._features),
            "videos": [[path] for path in paths],
            "video_fps": table["fps"],
            "video_num_frames": table["num_frames"],
            "targets_text": texts,
        }
        if self._relabel is not None:
            built |= {name: [row[name] for row in labels] for name in LABEL_COLUMNS}
        schema = self._features.arrow_schema
        columns = {name: built[name] if name in built else table[name] for name in schema.names}
        arrays = [
            value if isinstance(value, pa.ChunkedArray | pa.Array) else pa.array(value, schema.field(name).type)
            for name, value in columns.items()
        ]
        return pa.table(arrays, names=schema.names)

    def _build_messages(self, path: str, observed: Trajectory, answer: str) -> list[dict[str, Any]]:
        return build_messages(self._format.system_prompt, path, build_question(self._format, observed), answer)

    def _read_labels(self, table: pa.Table) -> list[dict[str, Any] | None]:
        """LABEL_COLUMNS of every row; None for a row that cannot be used (it goes to `skips`)."""
        if self._relabel is not None:
            rows = table.drop_columns(list(LABEL_COLUMNS)).to_pylist()
        else:
            columns = [read_arrays(table[name], width) for name, width in LABEL_COLUMNS.items()]
            names = ("segment_uuid", *LABEL_COLUMNS)
            segments = table["segment_uuid"].to_pylist()
            rows = [dict(zip(names, values, strict=True)) for values in zip(segments, *columns, strict=True)]
        return [self._check_labels(row) for row in rows]

    def _check_labels(self, row: dict[str, Any]) -> dict[str, Any] | None:
        try:
            labels = row if self._relabel is None else self._relabel(row)
            check_labels(labels, self._num_samples)
        except DrivingError as error:
            self.skips.append(Skip(row["segment_uuid"], "label", str(error)))
            return None
        return labels


def read_arrays(column: pa.ChunkedArray, width: int) -> list[np.ndarray | list | None]:
    """Each row of a list-of-lists column as (n, width) float64, NaN where a number is missing; None for a missing row.

    Rows stay plain lists where some are not `width` wide. (`to_pylist` took half of a run.)
    """
    import pyarrow.compute as pc

    inner = pc.list_flatten(column)
    if inner.null_count or not pc.all(pc.equal(pc.list_value_length(inner), width)).as_py():
        return column.to_pylist()
    numbers = pc.list_flatten(inner).to_numpy().astype(np.float64).reshape(-1, width)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    rows = np.split(numbers, np.cumsum(lengths)[:-1])
    is_there = column.is_valid().to_pylist()
    return [row if there else None for row, there in zip(rows, is_there, strict=True)]


def check_labels(labels: dict[str, Any], num_samples: int) -> None:
    """Raise unless a row's labels are whole: T pairs now and then, T + 1 poses or more, all finite.

    Raises:
        MotionError: What is missing.
    """
    for name, width in LABEL_COLUMNS.items():
        value, is_pose = labels[name], name == "future_pose"
        least = num_samples + 1 if is_pose else num_samples
        if value is None:
            raise MotionError(f"{name} is missing")
        if len(value) < least or (not is_pose and len(value) != least):
            raise MotionError(f"{name} holds {len(value)} rows, {least} were expected")
        if not isinstance(value, np.ndarray):
            if any(part is None or len(part) != width for part in value):
                raise MotionError(f"{name} holds rows that are not {width} numbers")
            value = np.array(value, dtype=np.float64)  # None becomes NaN
        if not np.isfinite(value).all():
            row = int(np.argwhere(~np.isfinite(value))[0, 0])
            raise MotionError(f"{name} holds a value that is not finite at row {row}")
