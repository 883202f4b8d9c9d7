"""row_scores.parquet: every error of every row, so that two runs can be paired later without their data or models.

Truth, Answers, columns of the model ──write_row_scores──▶ row_scores.parquet ──read_row_scores──▶ RowScores
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driving.errors import DrivingError
from driving.whole_files import write_atomically
from evaluation.scoring.answers import Answers, channel_columns
from evaluation.scoring.score import Columns
from evaluation.scoring.strata import assign_strata
from evaluation.scoring.truth import Truth

ROW_SCORES_NAME = "row_scores.parquet"
CHANNELS = ("strict_rate", "lenient_rate", "failed_rate", "cut_rate")
_ERROR, _STRATUM = "error:", "stratum:"


@dataclass(frozen=True)
class RowScores:
    """What one run scored on each of B rows.

    Attributes:
        ids, groups: (B,) str.
        truth: (B,) str, a hash of the recorded motion that the row was scored against.
        columns: errors by the names of METRICS, and the 0 / 1 columns of CHANNELS, each (B,).
        strata: axis -> (B,) the name of each row's bin.
    """

    ids: np.ndarray
    groups: np.ndarray
    truth: np.ndarray
    columns: Columns
    strata: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> RowScores:
        """The rows at these positions, in this order."""
        return RowScores(
            self.ids[rows],
            self.groups[rows],
            self.truth[rows],
            {name: column[rows] for name, column in self.columns.items()},
            {axis: names[rows] for axis, names in self.strata.items()},
        )


def write_row_scores(path: Path, truth: Truth, answers: Answers, errors: Columns) -> None:
    """Write one line a row; `errors` are the model's, a failed answer's are its fallback's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    channel = channel_columns(answers)
    table = {
        "id": truth.ids.tolist(),
        "group": truth.groups.tolist(),
        "truth": hash_truth(truth),
        **{_STRATUM + axis: np.array(names)[bins].tolist() for axis, (names, bins) in assign_strata(truth).items()},
        **{_ERROR + name: column for name, column in errors.items()},
        **{_ERROR + name: channel[name] for name in CHANNELS},
    }
    with write_atomically(path) as handle:
        pq.write_table(pa.table(table), handle)


def hash_truth(truth: Truth) -> list[str]:
    """16 hex digits a row of its labels and recorded poses: equal where two runs have the same truth."""
    poses = truth.poses[:, : truth.num_samples + 1]
    parts = [np.ascontiguousarray(part) for part in (truth.velocity_mps, truth.curvature_per_m, poses)]
    return [
        hashlib.sha256(b"".join(part[row].tobytes() for part in parts)).hexdigest()[:16] for row in range(len(truth))
    ]


def read_row_scores(folder: Path) -> RowScores:
    """Read the rows of a finished evaluation.

    Raises:
        DrivingError: There are none, or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / ROW_SCORES_NAME
    if not path.is_file():
        raise DrivingError(
            f"{path} is missing: no finished evaluation, or one from before rows were kept; "
            "run its scripts/evaluate.py command again with --rescore, which asks the model nothing"
        )
    try:
        table = pq.read_table(path, partitioning=None)
        named = {
            name: np.array(table[name].to_pylist(), dtype=object)
            for name in table.column_names
            if not name.startswith(_ERROR)
        }
        columns = {
            name.removeprefix(_ERROR): table[name].to_numpy() for name in table.column_names if name.startswith(_ERROR)
        }
        return RowScores(
            named["id"],
            named["group"],
            named["truth"],
            columns,
            {name.removeprefix(_STRATUM): names for name, names in named.items() if name.startswith(_STRATUM)},
        )
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise DrivingError(
            f"{path} is no table of scored rows ({error}); run its scripts/evaluate.py command again with --rescore"
        ) from error
