"""The recorded motion that predictions are scored against: truth.parquet, by id.

truth.parquet ──read_truth──▶ TruthTable ──rows(ids)──▶ Truth    the test rows asked for
                                         ──train_labels──▶       what the train-mean baseline may know
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
from evaluation.scoring.truth import Truth
from evaluation.scoring.truth_columns import NEEDED, check_columns, read_even_rows, read_first_rows

TRUTH_NAME = "truth.parquet"
_TIME_TOLERANCE_S = 1e-3
_SHOWN = ("split", "source", "country", "hour", "platform", "weather", "clip_uuid", "start_second", "camera")
_TIMES = "target_times_s"


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
        targets = read_even_rows(table["targets"], 2, f"targets in {self.path}")
        self._check_times(table)
        observed = None
        if table["observed"].null_count == 0:
            observed = read_even_rows(table["observed"], 2, f"observed in {self.path}")
        poses = read_first_rows(table["future_pose"], targets.shape[1] + 1, 3, f"future_pose in {self.path}")
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
            (read_even_rows(part, 2, where) for part in labelled if len(part)), num_rows, where
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
        observed = read_even_rows(chosen["observed"], 2, f"observed in {self.path}")
        return TrainMotion(observed, read_even_rows(chosen["targets"], 2, f"targets in {self.path}"))

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
    check_columns(path, schema)
    columns = (name for name in dict.fromkeys((*NEEDED, _TIMES, *_SHOWN)) if name in schema.names)
    return TruthTable(path, tuple(columns), duration_s)


def _last_for_s(times_s: Sequence[float] | None) -> float | None:
    """How long labels last whose instants are the middles of equal intervals; None where they do not say."""
    return 2 * len(times_s) * times_s[0] if times_s else None


def _is_train(splits: Any) -> Any:
    import pyarrow.compute as pc

    return pc.equal(splits, "train")


def _unreadable(path: Path, error: Exception) -> DrivingError:
    return DrivingError(f"{path} is no readable parquet file ({error}); run convert_to_training_format.py")
