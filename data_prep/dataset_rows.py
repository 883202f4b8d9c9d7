"""Rows of the segment index -> rows of the dataset: the question, the answer as text, and what was wrong with some."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.arrow_dataset import encode_messages
from data_prep.label_statistics import LabelStatistics
from driving.answer_format import AnswerFormat, format_answer
from driving.errors import DrivingError, MotionError
from driving.ledger import Skip
from driving.records import build_messages
from driving.trajectory import Trajectory

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

LABEL_COLUMNS = ("targets", "observed", "future_pose")
EXTRA_COLUMNS = {
    "video_start": "float64", "video_end": "float64", "member": "string", "frame_indices": "list<int64>",
    "height": "int64", "width": "int64", "source": "string", "country": "string", "hour": "int64", "platform": "string",
    "metadata": "string",
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
        table, labels = table.take(pa.array(kept, pa.int64())), [labels[index] for index in kept]
        targets = np.array([row["targets"] for row in labels]).reshape(-1, self._num_samples, 2)
        self.statistics.add(targets)
        texts = [format_answer(Trajectory.from_pairs(pairs), self._format) for pairs in targets]
        paths = table["video_path"].to_pylist()
        messages = [self._build_messages(path, text) for path, text in zip(paths, texts, strict=True)]
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

    def _build_messages(self, path: str, answer: str) -> list[dict[str, Any]]:
        return build_messages(self._format.system_prompt, path, self._format.question, answer)

    def _read_labels(self, table: pa.Table) -> list[dict[str, list] | None]:
        """LABEL_COLUMNS of every row; None for a row that cannot be used (it goes to `skips`)."""
        if self._relabel is None:
            rows = table.select(["segment_uuid", *LABEL_COLUMNS]).to_pylist()
        else:
            rows = table.drop_columns(list(LABEL_COLUMNS)).to_pylist()
        return [self._check_labels(row) for row in rows]

    def _check_labels(self, row: dict[str, Any]) -> dict[str, list] | None:
        try:
            labels = row if self._relabel is None else self._relabel(row)
            check_labels(labels, self._num_samples)
        except DrivingError as error:
            self.skips.append(Skip(row["segment_uuid"], "label", str(error)))
            return None
        return labels


def check_labels(labels: dict[str, Any], num_samples: int) -> None:
    """Raise unless a row's labels are whole: T pairs now and then, T + 1 poses or more, all finite.

    Raises:
        MotionError: What is missing.
    """
    for name, least, width in (
        ("targets", num_samples, 2),
        ("observed", num_samples, 2),
        ("future_pose", num_samples + 1, 3),
    ):
        value = labels[name]
        if value is None:
            raise MotionError(f"{name} is missing")
        if len(value) < least or (name != "future_pose" and len(value) != least):
            raise MotionError(f"{name} holds {len(value)} rows, {least} were expected")
        if any(len(part) != width for part in value):
            raise MotionError(f"{name} holds rows that are not {width} numbers")
        array = np.array(value, dtype=np.float64)  # None becomes NaN
        if not np.isfinite(array).all():
            raise MotionError(
                f"{name} holds a value that is not finite at row {int(np.argwhere(~np.isfinite(array))[0, 0])}"
            )
