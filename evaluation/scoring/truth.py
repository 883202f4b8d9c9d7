"""The recorded motion that predictions are scored against: truth.parquet, by id.

    truth.parquet ──read_truth──▶ TruthTable ──rows(ids)──▶ Truth    the test rows asked for
                                             ──train_labels──▶       what the train-mean baseline may know

B = rows, T = label samples of one answer (frame rate x horizon).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import DrivingError
from evaluation.scoring.train_labels import MAX_FIT_ROWS, TrainLabels, TrainMotion

TRUTH_NAME = "truth.parquet"
_TIME_TOLERANCE_S = 1e-3
_NEEDED = ("id", "group", "split", "targets", "observed", "future_pose")
_SHOWN = ("split", "source", "country", "hour", "platform", "weather", "clip_uuid", "start_second", "camera")
_TIMES = "target_times_s"


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
    """A truth.parquet on disk, read in pieces: a row is 6 kB, and two million of them are no rarity.

    Attributes:
        columns: those that are read.
        duration_s: how long an answer lasts.

    Raises:
        DrivingError: See `read_truth` and `rows`.
    """

    path: Path
    columns: tuple[str, ...]
    duration_s: float

    def rows(self, ids: Sequence[str]) -> Truth:
        """Truth of these ids in this order; ids without labels are left out.

        Raises:
            DrivingError: Rows differ in length, hold values that are not finite, or have a pose shorter than the label.
        """
        import pyarrow as pa

        known = self._read_known(ids)
        place = {row_id: position for position, row_id in enumerate(known["id"].to_pylist())}
        if len(place) != known.num_rows:
            raise DrivingError(f"{self.path} holds an id twice; run convert_to_training_format.py again")
        table = known.take(pa.array([place[row_id] for row_id in ids if row_id in place], pa.int64()))
        self._check_groups(table)
        targets = _even_rows(table["targets"], 2, f"targets in {self.path}")
        self._check_times(table)
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

    def _check_groups(self, table: Any) -> None:
        """Rows of no group would all be one clip, called None: intervals and wrong clips rest on the groups."""
        for name, group in zip(table["id"].to_pylist(), table["group"].to_pylist(), strict=True):
            if group in (None, ""):
                raise DrivingError(
                    f"{self.path}: row {name} has no group, so it is unknown which rows show the same recording; run "
                    "convert_to_training_format.py again"
                )

    def _check_times(self, table: Any) -> None:
        """Labels of another duration would be scored as if they came faster or slower."""
        if _TIMES not in self.columns:
            return
        for name, times in zip(table["id"].to_pylist(), table[_TIMES].to_pylist(), strict=True):
            lasts_s = _last_for_s(times)
            if lasts_s is not None and abs(lasts_s - self.duration_s) > _TIME_TOLERANCE_S:
                raise DrivingError(
                    f"{self.path}: the labels of {name} last {lasts_s:g} s ({_TIMES}), the answers {self.duration_s:g} "
                    "s; give the truth.parquet and dataset.json that were written with the rows"
                )

    def _read_known(self, ids: Sequence[str]) -> Any:
        """The labelled rows of these ids, with only as many poses as their labels need."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(list(ids))
        pieces = []
        for table in self._iter_groups("id", lambda names: pc.is_in(names, value_set=wanted.cast(names.type))):
            is_labelled = pc.and_(pc.is_valid(table["targets"]), pc.is_valid(table["future_pose"]))
            table = table.filter(is_labelled)
            longest = pc.max(pc.list_value_length(table["targets"])).as_py() or 0
            poses = pc.list_slice(table["future_pose"], 0, longest + 1, return_fixed_size_list=False)
            pieces.append(table.set_column(table.column_names.index("future_pose"), "future_pose", poses))
        return pa.concat_tables(pieces) if pieces else self._read_schema().empty_table().select(self.columns)

    def check_train_rows(self, num_samples: int) -> None:
        """Raise where the training rows cannot stand beside answers of T samples; looks at the first of them only.

        Raises:
            DrivingError: There are none, or their labels have another number of samples.
        """
        import pyarrow.compute as pc

        timed = (_TIMES,) if _TIMES in self.columns else ()
        for table in self._iter_groups("split", _is_train, ("id", "split", "targets", *timed)):
            table = table.filter(pc.is_valid(table["targets"]))
            lengths = pc.list_value_length(table["targets"])
            if not len(lengths):
                continue
            self._check_times(table.slice(0, 1))
            if lengths[0].as_py() != num_samples:
                raise DrivingError(
                    f"the training rows of {self.path} have {lengths[0]} samples, the rows to score {num_samples}: "
                    "their mean is no answer to these; pass --train-truth with data of the same rate and duration"
                )
            return
        raise self._lacks_train_rows()

    def _lacks_train_rows(self) -> DrivingError:
        return DrivingError(
            f"{self.path} holds no row of the train split, so the mean answer of the training data is unknown; "
            "pass --train-truth with the truth.parquet of the data the model was trained on"
        )

    def train_labels(self) -> TrainLabels:
        """What the labels of the training rows are on average, and the motion of a part of them.

        Raises:
            DrivingError: There are none, so there is no training mean to compare with.
        """
        num_rows = sum(table.num_rows for table in self._iter_groups("split", _is_train, ("split",)))
        tables = self._iter_groups("split", _is_train, ("split", "targets"))
        labelled = (table["targets"].drop_null() for table in tables)
        where = f"targets in {self.path}"
        labels = TrainLabels.from_batches(
            (_even_rows(part, 2, where) for part in labelled if len(part)), num_rows, where
        )
        if labels is None:
            raise self._lacks_train_rows()
        return dataclasses.replace(labels, motion=self._read_train_motion(num_rows))

    def _read_train_motion(self, num_rows: int) -> TrainMotion | None:
        """Every so manieth training row that holds both its seconds."""
        import pyarrow as pa
        import pyarrow.compute as pc

        step = max(1, -(-num_rows // MAX_FIT_ROWS))
        pieces, num_seen = [], 0
        for table in self._iter_groups("split", _is_train, ("split", "observed", "targets")):
            whole = table.filter(pc.and_(pc.is_valid(table["observed"]), pc.is_valid(table["targets"])))
            pieces.append(whole.take(pa.array(range(-num_seen % step, whole.num_rows, step), pa.int64())))
            num_seen += whole.num_rows
        if not num_seen:
            return None
        chosen = pa.concat_tables(pieces)
        observed = _even_rows(chosen["observed"], 2, f"observed in {self.path}")
        return TrainMotion(observed, _even_rows(chosen["targets"], 2, f"targets in {self.path}"))

    def group_counts(self) -> dict[str, dict[str, int]]:
        """Rows and groups of each split, for the data card."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        table = pq.read_table(self.path, columns=["split", "group"], partitioning=None)
        everything = pc.CountOptions(mode="all")
        counted = table.group_by("split").aggregate(
            [("group", "count", everything), ("group", "count_distinct", everything)]
        )
        rows = sorted(counted.to_pylist(), key=lambda row: str(row["split"]))
        return {str(row["split"]): {"rows": row["group_count"], "groups": row["group_count_distinct"]} for row in rows}

    def _iter_groups(
        self, key: str, is_wanted: Callable[[Any], Any], columns: Sequence[str] | None = None
    ) -> Iterator[Any]:
        """Rows whose `key` is wanted, a row group at a time; a group without any is not read further."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                for group in range(file.num_row_groups):
                    mask = is_wanted(file.read_row_group(group, columns=[key])[key].combine_chunks())
                    if mask.true_count:
                        table = file.read_row_group(group, columns=list(columns or self.columns))
                        yield table.filter(mask)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(self.path, error) from error

    def _read_schema(self) -> Any:
        import pyarrow.parquet as pq

        return pq.read_schema(self.path)


def read_truth(path: Path, duration_s: float) -> TruthTable:
    """Find truth.parquet and check its columns; rows are read when they are asked for.

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
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error
    names = schema.names
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise DrivingError(
            f"{path} has no column {', '.join(missing)}; run convert_to_training_format.py again to write it"
        )
    for name, is_right, what in (
        ("id", _is_text, "text"),
        *((name, _is_nested, "lists of numbers") for name in ("targets", "observed", "future_pose")),
    ):
        kind = schema.field(name).type
        if not is_right(kind) and not (name == "observed" and pa.types.is_null(kind)):
            raise DrivingError(
                f"{path}: {name} is of the type {kind}, not {what}; run convert_to_training_format.py again"
            )
    return TruthTable(
        path, tuple(name for name in dict.fromkeys((*_NEEDED, _TIMES, *_SHOWN)) if name in names), duration_s
    )


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind)


def _is_nested(kind: Any) -> bool:
    import pyarrow.types as types

    for _ in range(2):
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            return False
        kind = kind.value_type
    return types.is_floating(kind) or types.is_integer(kind)


def _last_for_s(times_s: Sequence[float] | None) -> float | None:
    """How long labels last whose instants are the middles of equal intervals; None where they do not say."""
    return 2 * len(times_s) * times_s[0] if times_s else None


def _is_train(splits: Any) -> Any:
    import pyarrow.compute as pc

    return pc.equal(splits, "train")


def _unreadable(path: Path, error: Exception) -> DrivingError:
    return DrivingError(f"{path} is no readable parquet file ({error}); run convert_to_training_format.py")


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
