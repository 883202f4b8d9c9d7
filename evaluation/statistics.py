"""Intervals that know that neighbouring seconds of one clip are not independent.

    values (B,) ──▶ sums and counts of each clip (C,) ──▶ clips drawn with replacement (R, C) ──▶ percentiles

The clip is drawn, with all of its rows. Every estimate of one run sees the same draws, so that a difference or a ratio
of two of them is paired. B = rows, C = clips, R = resamples.

Source: research/field.md 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
_CHUNK = 200  # resamples at a time: 200 x 10,000 clips is 16 MB
_MAX_KEPT = 20_000_000  # draws kept between estimates, 8 bytes each; more are drawn again for each estimate


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it cannot be known.

    Attributes:
        value: over the rows as they are.
        low, high: None where there are fewer than two clips.
        num_rows, num_clips: how much it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    num_rows: int
    num_clips: int

    def to_json(self) -> dict[str, float | int | None]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "num_rows": self.num_rows,
            "num_clips": self.num_clips,
        }


class Bootstrap:
    """Clip-clustered percentile bootstrap with one set of draws.

    Args:
        clusters: (B,) the clip of each row.
        num_resamples: R, at least 2,000 for intervals that are quoted.
        seed: of the draws.
    """

    def __init__(self, clusters: Sequence[str], num_resamples: int = 2000, seed: int = 7) -> None:
        names, self._codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        self.num_clusters = len(names)
        self._num_resamples = num_resamples
        self._seed = seed
        self._kept: list[np.ndarray] = []

    def estimate(self, combine: Callable[..., np.ndarray], *columns: np.ndarray) -> Estimate:
        """`combine(mean of each column)` with its interval.

        Args:
            combine: of arrays, elementwise; called with one mean, and with R of them.
            columns: (B,) each; NaN is a row that has nothing to say in that column.
        """
        sums, counts = zip(*(self._cluster_sums(column) for column in columns), strict=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(combine(*(s.sum() / c.sum() for s, c in zip(sums, counts, strict=True))))
        used = np.logical_and.reduce([count > 0 for count in counts])
        num_rows = int(min(count.sum() for count in counts))
        if not np.isfinite(value):
            return Estimate(None, None, None, num_rows, int(used.sum()))
        if used.sum() < 2 or not self._num_resamples:
            return Estimate(value, None, None, num_rows, int(used.sum()))
        draws = np.concatenate([combine(*means) for means in self._resampled_means(sums, counts)])
        draws = draws[np.isfinite(draws)]
        if not len(draws):
            return Estimate(value, None, None, num_rows, int(used.sum()))
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(draws, [tail, 100 - tail])
        return Estimate(value, float(low), float(high), num_rows, int(used.sum()))

    def mean(self, column: np.ndarray) -> Estimate:
        """The mean of one value a row."""
        return self.estimate(lambda mean: mean, column)

    def gain(self, model: np.ndarray, reference: np.ndarray) -> Estimate:
        """1 - error(model) / error(reference): 0 is no better, 1 is perfect; paired."""
        return self.estimate(lambda ours, theirs: 1 - ours / theirs, model, reference)

    def share_removed(self, model: np.ndarray, control: np.ndarray, reference: np.ndarray) -> Estimate:
        """How much of the gain over the reference is gone under the control: 0 nothing, 1 all; paired."""
        return self.estimate(lambda ours, broken, theirs: (broken - ours) / (theirs - ours), model, control, reference)

    def _cluster_sums(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        column = np.asarray(column, dtype=np.float64)
        known = ~np.isnan(column)
        sums = np.bincount(self._codes, weights=np.where(known, column, 0.0), minlength=self.num_clusters)
        return sums, np.bincount(self._codes, weights=known.astype(np.float64), minlength=self.num_clusters)

    def _resampled_means(self, sums: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        for drawn in self._draws():
            with np.errstate(invalid="ignore", divide="ignore"):
                yield [(drawn @ s) / (drawn @ c) for s, c in zip(sums, counts, strict=True)]

    def _draws(self) -> Iterable[np.ndarray]:
        """How often each clip is in each resample: pieces of (R, C)."""
        if self._num_resamples * self.num_clusters > _MAX_KEPT:
            return self._iter_draws()
        if not self._kept:
            self._kept = list(self._iter_draws())
        return self._kept

    def _iter_draws(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self._seed)
        share = np.full(self.num_clusters, 1 / self.num_clusters)
        for start in range(0, self._num_resamples, _CHUNK):
            num = min(_CHUNK, self._num_resamples - start)
            yield rng.multinomial(self.num_clusters, share, size=num).astype(np.float64)
