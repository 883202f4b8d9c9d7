"""Errors in each bin of each stratum, and the average that counts every bin once. B = rows, R = resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.scoring.baselines import FLOORS
from evaluation.scoring.score import Columns
from evaluation.scoring.statistics import Bootstrap, read_interval
from evaluation.scoring.strata import assign_strata
from evaluation.scoring.truth import Truth


@dataclass(frozen=True)
class _Bin:
    """The rows of one bin: their part of the bootstrap, and their errors by contender and metric."""

    bootstrap: Bootstrap
    num_rows: int
    errors: dict[str, Columns]

    def to_json(self) -> dict[str, Any]:
        scores = {
            who: {name: self.bootstrap.mean(column).to_json() for name, column in found.items()}
            for who, found in self.errors.items()
        }
        return {"num_rows": self.num_rows, "num_clips": self.bootstrap.num_clusters, **scores}


def measure_strata(
    truth: Truth, columns: dict[str, Columns], bootstrap: Bootstrap, names: Sequence[str], reference: str
) -> dict[str, Any]:
    """Errors of the model, of the reference baseline and of the floors in each bin that holds rows, axis by axis.

    `macro` is the mean over bins, so that 70 % straight roads do not hide the rest; `macro_skill` is the model's over
    the reference in it, with its interval.
    """
    result: dict[str, Any] = {}
    for axis, (bin_names, places) in assign_strata(truth).items():
        whos = ("model", reference, *FLOORS)
        bins = {
            name: _build_bin(columns, np.flatnonzero(places == index), bootstrap, whos, names)
            for index, name in enumerate(bin_names)
            if (places == index).any()
        }
        entries = {name: one.to_json() for name, one in bins.items()}
        result[axis] = {
            "bins": entries,
            "macro": {who: _average(entries, who, names) for who in ("model", reference)},
            "macro_skill": {name: _macro_skill(list(bins.values()), name, reference, bootstrap) for name in names},
        }
    return result


def _build_bin(
    columns: dict[str, Columns], rows: np.ndarray, bootstrap: Bootstrap, whos: Sequence[str], names: Sequence[str]
) -> _Bin:
    part = bootstrap.part(rows)
    errors = {who: {name: columns[who][name][rows] for name in names} for who in whos}
    part.prepare(column for found in errors.values() for column in found.values())
    return _Bin(part, len(rows), errors)


def _average(entries: dict[str, Any], who: str, names: Sequence[str]) -> dict[str, float | None]:
    macro: dict[str, float | None] = {}
    for name in names:
        values = [entry[who][name]["value"] for entry in entries.values() if entry[who][name]["value"] is not None]
        macro[name] = float(np.mean(values)) if values else None
    return macro


def _macro_skill(bins: Sequence[_Bin], name: str, reference: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """1 - (sum over bins of the model's mean error) / (that of the reference's): of the bins that a draw holds."""
    ours = [one.bootstrap.resample(one.errors["model"][name]) for one in bins]
    theirs = [one.bootstrap.resample(one.errors[reference][name]) for one in bins]
    value = _skill_over_bins([np.array([mean]) for mean, _ in ours], [np.array([mean]) for mean, _ in theirs])
    draws = _skill_over_bins([drawn for _, drawn in ours], [drawn for _, drawn in theirs])
    num_rows = sum(one.num_rows for one in bins)
    return read_interval(float(value[0]), draws, num_rows, bootstrap.num_clusters).to_paired_json()


def _skill_over_bins(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> np.ndarray:
    """(R,) each -> (R,)."""
    mine, their = np.stack(ours), np.stack(theirs)
    is_known = np.isfinite(mine) & np.isfinite(their)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - np.where(is_known, mine, 0).sum(axis=0) / np.where(is_known, their, 0).sum(axis=0)
