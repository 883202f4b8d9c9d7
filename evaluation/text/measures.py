"""Scores that can be resampled: columns of one value a row, and how their means become the score.

    mean, ratio of sums, F1, BLEU, kappa ... = combine(mean of column, mean of column, ...)

So every score of a run has an interval over the same draws of clips, and a difference of two is paired. B = rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.scoring.statistics import Bootstrap


@dataclass(frozen=True)
class Measure:
    """One score before its interval.

    Attributes:
        combine: of the columns' means, elementwise.
        columns: (B,) each; NaN is a row that has nothing to say, in all columns alike.
    """

    combine: Callable[..., np.ndarray]
    columns: tuple[np.ndarray, ...]

    def within(self, rows: np.ndarray) -> Measure:
        """The same score over the rows that (B,) `rows` names True."""
        return Measure(self.combine, tuple(np.where(rows, column, np.nan) for column in self.columns))

    def less(self, other: Measure) -> Measure:
        """The difference of two scores of the same rows, paired."""
        split = len(self.columns)

        def combine(*means: np.ndarray) -> np.ndarray:
            return self.combine(*means[:split]) - other.combine(*means[split:])

        return Measure(combine, (*self.columns, *other.columns))


Measures = dict[str, Measure]


def mean_of(column: Any) -> Measure:
    """The mean of (B,) values."""
    return Measure(lambda mean: mean, (np.asarray(column, dtype=np.float64),))


def ratio_of(parts: Any, wholes: Any) -> Measure:
    """The sum of (B,) parts over the sum of (B,) wholes: precision, recall, CHAIR."""
    parts, wholes = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    return Measure(lambda part, whole: part / whole, (parts, np.where(np.isnan(parts), np.nan, wholes)))


def f1_of(hits: Any, claimed: Any, true: Any) -> Measure:
    """Harmonic mean of precision hits/claimed and recall hits/true, over all rows together."""
    return ratio_of(
        2 * np.asarray(hits, dtype=np.float64), np.asarray(claimed, np.float64) + np.asarray(true, np.float64)
    )


def macro_f1_of(truth: np.ndarray, said: np.ndarray, num_classes: int) -> Measure:
    """Mean over the classes that occur in the truth of each class's F1.

    Args:
        truth: (B,) class index; NaN is a row that has nothing to say.
        said: (B,) class index; anything outside 0..num_classes-1 is an answer that is none of them.
    """
    known = ~np.isnan(truth)
    columns = []
    for index in range(num_classes):
        is_true, is_said = truth == index, said == index
        columns += [
            np.where(known, 2.0 * (is_true & is_said), np.nan),
            np.where(known, 1.0 * is_true + is_said, np.nan),
        ]

    def combine(*means: np.ndarray) -> np.ndarray:
        scores = np.array([hit / whole for hit, whole in zip(means[::2], means[1::2], strict=True)])
        known = ~np.isnan(scores)  # a class that a resample did not draw has no F1
        return np.where(known, scores, 0).sum(axis=0) / known.sum(axis=0)

    return Measure(combine, tuple(columns))


def kappa_of(truth: np.ndarray, said: np.ndarray, num_levels: int) -> Measure:
    """Cohen's kappa with quadratic weights of two (B,) columns of levels 0..num_levels-1.

    Source: Cohen (1968), Weighted kappa; scikit-learn's cohen_kappa_score(weights="quadratic") is the same number.
    """
    known = ~np.isnan(truth)
    levels = np.arange(num_levels)
    ours = [np.where(known, 1.0 * (truth == level), np.nan) for level in levels]
    theirs = [np.where(known, 1.0 * (said == level), np.nan) for level in levels]
    apart = np.where(known, (truth - said) ** 2, np.nan)

    def combine(squared: np.ndarray, *shares: np.ndarray) -> np.ndarray:
        expected = sum(
            (levels[i] - levels[j]) ** 2 * shares[i] * shares[num_levels + j] for i in levels for j in levels
        )
        return 1 - squared / expected

    return Measure(combine, (apart, *ours, *theirs))


def estimate_all(measures: Mapping[str, Measure], bootstrap: Bootstrap) -> dict[str, Any]:
    """Each score with its interval, as JSON values."""
    return {name: bootstrap.estimate(one.combine, *one.columns).to_json() for name, one in measures.items()}
