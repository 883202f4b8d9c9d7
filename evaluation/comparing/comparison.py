"""Two runs on the rows that both answered: paired differences, and what they can and cannot show.

    RowScores of A, of B ──pair_rows──▶ Pair ──compare──▶ {"metrics", "strata", "nearer", "rows", ...}

Every difference is B - A, drawn over whole clips with one set of draws for both runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from driving.errors import DrivingError
from evaluation.scoring.row_scores import RowScores
from evaluation.scoring.score import METRICS, Metric
from evaluation.scoring.statistics import Bootstrap

# Less is better of all other metrics.
HIGHER_IS_BETTER = ("curvature_sign_accuracy", "strict_rate")
NEITHER_IS_BETTER = ("velocity_bias_mps", "lenient_rate")
HEADLINES = ("velocity_mae_mps", "curvature_mae_per_m", "ade_m", "fde_m")
CHANNEL_METRICS = {
    "strict_rate": Metric("exactly the list asked for", "", is_share=True),
    "lenient_rate": Metric("read leniently", "", is_share=True),
    "failed_rate": Metric("could not be read", "", is_share=True),
    "cut_rate": Metric("stopped by the token limit", "", is_share=True),
}
COMPARED = {**METRICS, **CHANNEL_METRICS}
NUM_CHANGED = 10


@dataclass(frozen=True)
class Pair:
    """The rows that both answered, in one order.

    Attributes:
        a, b: the same rows.
        num_only_a, num_only_b: rows that the other lacks; they are left out.
    """

    a: RowScores
    b: RowScores
    num_only_a: int
    num_only_b: int


def pair_rows(a: RowScores, b: RowScores, names: tuple[str, str] = ("A", "B")) -> Pair:
    """Match rows by id.

    Raises:
        DrivingError: They share no row, or a shared row was scored against another recorded motion or clip.
    """
    place = {name: row for row, name in enumerate(b.ids)}
    rows_a = np.array([row for row, name in enumerate(a.ids) if name in place], dtype=np.int64)
    if not len(rows_a):
        raise DrivingError(
            f"{names[0]} and {names[1]} have no row in common ({a.ids[0]}, ... and {b.ids[0]}, ...); "
            "evaluate both on one test.json"
        )
    rows_b = np.array([place[name] for name in a.ids[rows_a]], dtype=np.int64)
    left, right = a.take(rows_a), b.take(rows_b)
    for what, ours, theirs in (("recorded motion", left.truth, right.truth), ("clip", left.groups, right.groups)):
        differs = np.flatnonzero(ours != theirs)
        if len(differs):
            raise DrivingError(
                f"{len(differs):,} of {len(left):,} shared rows were scored against another {what} in {names[0]} than "
                f"in {names[1]} ({left.ids[differs[0]]}, ...); evaluate both on one test.json with one truth.parquet"
            )
    return Pair(left, right, len(a) - len(rows_a), len(b) - len(rows_a))


def compare(
    pair: Pair, num_resamples: int = 2000, seed: int = 7, bin_order: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """Everything that the two runs' rows say about each other, as JSON values.

    Args:
        bin_order: of an axis of strata, its bins in the order in which they are shown; default: by name.
    """
    bootstrap = Bootstrap(pair.a.groups, num_resamples, seed)
    shared = [name for name in COMPARED if name in pair.a.columns and name in pair.b.columns]
    return {
        "rows": {
            "num_shared": len(pair.a),
            "num_clips": bootstrap.num_clusters,
            "num_only_a": pair.num_only_a,
            "num_only_b": pair.num_only_b,
        },
        "metrics": {name: _difference(name, pair.a.columns[name], pair.b.columns[name], bootstrap) for name in shared},
        "nearer": _count_nearer(pair, bootstrap),
        "strata": _compare_strata(pair, bootstrap, bin_order or {}),
        "clips": _list_clips(pair),
    }


def _difference(name: str, a: np.ndarray, b: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    """One metric of both, B - A with its interval, the smallest difference that could have been seen, the verdict."""
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = np.where(known, a, np.nan), np.where(known, b, np.nan)
    is_root = COMPARED[name].is_root

    def shown(mean: np.ndarray) -> np.ndarray:
        return np.sqrt(mean) if is_root else mean

    def change_percent(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return 100 * (np.asarray(shown(theirs)) / shown(ours) - 1)

    difference = bootstrap.estimate(lambda ours, theirs: shown(theirs) - shown(ours), a, b)
    return {
        "a": bootstrap.estimate(shown, a).to_json(),
        "b": bootstrap.estimate(shown, b).to_json(),
        "difference": difference.to_json(),
        "change_percent": bootstrap.estimate(change_percent, a, b).to_json(),
        "min_detectable": difference.min_detectable,
        "better": _judge(name, difference.to_json()),
    }


def _judge(name: str, difference: dict[str, Any]) -> str | None:
    """Which run is better, "a" or "b"; None where the interval holds zero."""
    low, high = difference["low"], difference["high"]
    if name in NEITHER_IS_BETTER or low is None or low <= 0 <= high:
        return None
    return "b" if (low > 0) == (name in HIGHER_IS_BETTER) else "a"


def _count_nearer(pair: Pair, bootstrap: Bootstrap) -> dict[str, Any]:
    """Of the rows, the share where each one's path is nearer to the recorded one, and where they are level."""
    a, b = pair.a.columns["ade_m"], pair.b.columns["ade_m"]
    columns = {"a": a < b, "b": b < a, "level": a == b}
    return {name: bootstrap.mean(column.astype(np.float64)).to_json() for name, column in columns.items()}


def _compare_strata(pair: Pair, bootstrap: Bootstrap, bin_order: dict[str, list[str]]) -> dict[str, Any]:
    """The headline metrics in each bin of each axis."""
    found: dict[str, Any] = {}
    for axis, bins in pair.a.strata.items():
        order = {name: place for place, name in enumerate(bin_order.get(axis, ()))}
        found[axis] = {}
        for name in sorted(set(bins), key=lambda name: (order.get(name, len(order)), name)):
            rows = np.flatnonzero(bins == name)
            of_bin = bootstrap.part(rows)
            entry: dict[str, Any] = {"num_rows": len(rows), "num_clips": of_bin.num_clusters}
            for metric in HEADLINES:
                a, b = pair.a.columns[metric][rows], pair.b.columns[metric][rows]
                entry[metric] = _difference(metric, a, b, of_bin)
            found[axis][str(name)] = entry
    return found


def _list_clips(pair: Pair) -> list[dict[str, Any]]:
    """Each clip's mean ADE in both runs, the most improved by B first."""
    names, codes = np.unique(pair.a.groups.astype(str), return_inverse=True)
    counts = np.bincount(codes)
    a, b = (np.bincount(codes, weights=run.columns["ade_m"]) / counts for run in (pair.a, pair.b))
    order = np.argsort(b - a, kind="stable")
    return [
        {"group": str(names[k]), "num_rows": int(counts[k]), "a": float(a[k]), "b": float(b[k])} for k in order.tolist()
    ]
