"""The recorded motion that predictions are scored against: truth.parquet, by id.

    truth.parquet ──read_truth──▶ TruthTable ──rows(ids)──▶ Truth    the test rows asked for
                                             ──train_targets──▶      what the train-mean baseline may know

B = rows, T = label samples of one answer (frame rate x horizon).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import DrivingError

TRUTH_NAME = "truth.parquet"
_NEEDED = ("id", "group", "split", "targets", "observed", "future_pose")
_SHOWN = ("split", "source", "country", "hour", "platform", "clip_uuid", "start_second")


@dataclass(frozen=True)
class Truth:
    """What really happened in B test rows.

    Attributes:
        ids, groups: (B,) str; a group is what must not be split, usually one recorded clip.
        velocity_mps, curvature_per_m: (B, T) float64, the labels.
        poses: (B, T + 1, 3) float64, recorded x forward [m], y left [m], heading [rad] at the answer's instants.
        observed: (B, T', 2) float64 speed and curvature of the clip that was seen, or None where a row lacks it.
        interval_s: seconds between two label samples.
        facts: one dict a row, what the data says about it (split, country, hour, ...).
    """

    ids: np.ndarray
    groups: np.ndarray
    velocity_mps: np.ndarray
    curvature_per_m: np.ndarray
    poses: np.ndarray
    observed: np.ndarray | None
    interval_s: float
    facts: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_samples(self) -> int:
        """T, label samples of one answer."""
        return self.velocity_mps.shape[1]

    def take(self, rows: np.ndarray) -> Truth:
        """The rows at these positions, in this order."""
        return Truth(
            self.ids[rows],
            self.groups[rows],
            self.velocity_mps[rows],
            self.curvature_per_m[rows],
            self.poses[rows],
            None if self.observed is None else self.observed[rows],
            self.interval_s,
            [self.facts[row] for row in rows],
        )


@dataclass(frozen=True)
class TruthTable:
    """A whole truth.parquet: an Arrow table, and how long an answer lasts.

    Raises:
        DrivingError: See `read_truth` and `rows`.
    """

    path: Path
    table: Any
    duration_s: float

    def rows(self, ids: Sequence[str]) -> Truth:
        """Truth of these ids in this order; ids without labels are left out.

        Raises:
            DrivingError: Rows differ in length, hold values that are not finite, or have a pose shorter than the label.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        known = self.table.filter(
            pc.and_(pc.is_in(self.table["id"], value_set=pa.array(list(ids), self.table["id"].type)), self._is_labelled)
        )
        place = {row_id: position for position, row_id in enumerate(known["id"].to_pylist())}
        if len(place) != known.num_rows:
            raise DrivingError(f"{self.path} holds an id twice; run convert_to_training_format.py again")
        table = known.take(pa.array([place[row_id] for row_id in ids if row_id in place], pa.int64()))
        targets = _even_rows(table["targets"], 2, f"targets in {self.path}")
        observed = None
        if table["observed"].null_count == 0:
            observed = _even_rows(table["observed"], 2, f"observed in {self.path}")
        poses = _first_rows(table["future_pose"], targets.shape[1] + 1, 3, f"future_pose in {self.path}")
        shown = [name for name in _SHOWN if name in table.column_names]
        return Truth(
            np.array(table["id"].to_pylist(), dtype=object),
            np.array([str(group) for group in table["group"].to_pylist()], dtype=object),
            targets[..., 0],
            targets[..., 1],
            poses,
            observed,
            self.duration_s / max(targets.shape[1], 1),
            table.select(shown).to_pylist() if shown else [{} for _ in range(table.num_rows)],
        )

    def train_targets(self) -> np.ndarray:
        """(N, T, 2) labels of the training rows.

        Raises:
            DrivingError: There are none, so there is no training mean to compare with.
        """
        import pyarrow.compute as pc

        train = self.table.filter(pc.and_(pc.equal(self.table["split"], "train"), self._is_labelled))
        if not train.num_rows:
            raise DrivingError(
                f"{self.path} holds no row of the train split, so the mean answer of the training data is unknown; "
                "pass --train-truth with the truth.parquet of the data the model was trained on"
            )
        return _even_rows(train["targets"], 2, f"targets in {self.path}")

    def group_counts(self) -> dict[str, dict[str, int]]:
        """Rows and groups of each split, for the data card."""
        splits = np.array([str(split) for split in self.table["split"].to_pylist()], dtype=object)
        groups = np.array([str(group) for group in self.table["group"].to_pylist()], dtype=object)
        return {
            split: {"rows": int((splits == split).sum()), "groups": len(set(groups[splits == split]))}
            for split in sorted(set(splits))
        }

    @property
    def _is_labelled(self) -> Any:
        import pyarrow.compute as pc

        return pc.and_(pc.is_valid(self.table["targets"]), pc.is_valid(self.table["future_pose"]))


def read_truth(path: Path, duration_s: float) -> TruthTable:
    """Read truth.parquet whole: a few hundred bytes a row.

    Raises:
        DrivingError: It is missing, unreadable, or lacks a column.
    """
    if not path.exists():
        raise DrivingError(
            f"{path} is not there, and answers are scored against recorded motion only; "
            "run convert_to_training_format.py, which writes it beside the training JSON, or pass --truth"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        missing = [name for name in _NEEDED if name not in names]
        if missing:
            raise DrivingError(
                f"{path} has no column {', '.join(missing)}; run convert_to_training_format.py again to write it"
            )
        table = pq.read_table(path, columns=[name for name in dict.fromkeys((*_NEEDED, *_SHOWN)) if name in names])
    except (pa.ArrowInvalid, OSError) as error:
        raise DrivingError(
            f"{path} is no readable parquet file ({error}); run convert_to_training_format.py"
        ) from error
    return TruthTable(path, table, duration_s)


def _nested(column: Any, width: int, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column of lists of `width` numbers -> (values (N, width), start of each row, length of each row)."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_numpy().astype(np.int64)
    pairs = pc.list_flatten(column)
    widths = pc.unique(pc.list_value_length(pairs)).to_pylist()
    if pairs.null_count or widths not in ([width], []):
        raise DrivingError(f"{where}: each entry must hold {width} numbers, found {widths}")
    flat = pc.list_flatten(pairs).to_numpy().astype(np.float64)
    if not np.isfinite(flat).all():
        raise DrivingError(f"{where}: a value is not finite; labels are never filled in, prepare the data again")
    return flat.reshape(-1, width), np.cumsum(lengths) - lengths, lengths


def _even_rows(column: Any, width: int, where: str) -> np.ndarray:
    """(B, T, width) float64 of a column whose rows are equally long."""
    values, _, lengths = _nested(column, width, where)
    if len(set(lengths.tolist())) > 1:
        raise DrivingError(f"{where}: rows of {sorted(set(lengths.tolist()))} samples in one file; score them apart")
    return values.reshape(len(lengths), -1, width) if len(lengths) else np.zeros((0, 0, width))


def _first_rows(column: Any, num_rows: int, width: int, where: str) -> np.ndarray:
    """(B, num_rows, width) float64: the first entries of each row; rows may be longer."""
    values, starts, lengths = _nested(column, width, where)
    if len(lengths) and lengths.min() < num_rows:
        raise DrivingError(f"{where}: a row of {lengths.min()} poses, an answer needs {num_rows}")
    return values[starts[:, None] + np.arange(num_rows)]
