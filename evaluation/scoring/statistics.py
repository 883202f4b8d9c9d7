"""Intervals that know that neighbouring seconds of one clip are not independent.

    values (B,) ──▶ sums and counts of each clip (C,) ──▶ clips drawn with replacement (R, C) ──▶ percentiles

The clip is drawn, with all of its rows. Every estimate of one run sees the same draws, so that a difference or a ratio
of two of them is paired. B = rows, C = clips, R = resamples, K = columns.

Source: research/field.md 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
# z(0.975) + z(0.8): a true difference of so many standard errors has its 95 % interval off zero four times in five.
DETECTABLE_ERRORS = 1.959963984540054 + 0.8416212335729143
_CHUNK = 200  # resamples at a time: 200 x 10,000 clips is 16 MB
_MAX_KEPT = 40_000_000  # draws kept between products, 2 bytes each; more are drawn again for each product


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it cannot be known.

    Attributes:
        value: over the rows as they are.
        low, high: None where there are fewer than two clips.
        num_rows, num_clips: how much it rests on.
        std_error: of the value, from the same resamples.
    """

    value: float | None
    low: float | None
    high: float | None
    num_rows: int
    num_clips: int
    std_error: float | None = None

    @property
    def min_detectable(self) -> float | None:
        """How large a difference must truly be, for so many clips to show it four times in five (80 % power)."""
        return None if self.std_error is None else DETECTABLE_ERRORS * self.std_error

    def to_json(self) -> dict[str, float | int | None]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "num_rows": self.num_rows,
            "num_clips": self.num_clips,
        }

    def to_paired_json(self) -> dict[str, float | int | None]:
        """With the smallest difference that could be told, in the estimate's own unit."""
        return self.to_json() | {"min_detectable": self.min_detectable}


def read_interval(value: float, draws: np.ndarray, num_rows: int, num_clips: int) -> Estimate:
    """A value with the interval of its (R,) draws; draws that are not finite have nothing to say."""
    if not np.isfinite(value):
        return Estimate(None, None, None, num_rows, num_clips)
    draws = draws[np.isfinite(draws)]
    if num_clips < 2 or not len(draws):
        return Estimate(value, None, None, num_rows, num_clips)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Estimate(value, float(low), float(high), num_rows, num_clips, float(draws.std()))


@dataclass(frozen=True)
class _Resampled:
    """One column under all draws."""

    column: np.ndarray  # held, so that its address stays its name
    mean: float
    counts: np.ndarray  # (C,) rows of each clip that have something to say
    draws: np.ndarray  # (R,) means; NaN where no such row was drawn


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
        self._whole: tuple[Bootstrap, np.ndarray] | None = None
        self._kept: list[np.ndarray] = []
        self._known: dict[int, _Resampled] = {}

    def part(self, rows: np.ndarray) -> Bootstrap:
        """The bootstrap of some of the rows, under the same draws of clips."""
        used, codes = np.unique(self._codes[rows], return_inverse=True)
        part = Bootstrap((), self._num_resamples, self._seed)
        part._codes, part.num_clusters, part._whole = codes, len(used), (self, used)
        return part

    def prepare(self, columns: Iterable[np.ndarray]) -> None:
        """Resample (B,) columns together: one product of matrices in place of one of vectors for each estimate.

        Estimates come out the same without it, only slower; a column must not change after it was given.
        """
        fresh = {id(column): column for column in columns if id(column) not in self._known}
        if not fresh:
            return
        kept = list(fresh.values())
        sums, counts, which = self._cluster_sums(kept)
        numerators, denominators = self._sum_draws(sums), self._sum_draws(counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums.sum(axis=0) / counts.sum(axis=0)[which]
            draws = numerators / denominators[:, which]
        for place, column in enumerate(kept):
            self._known[id(column)] = _Resampled(
                column, float(means[place]), counts[:, which[place]], np.ascontiguousarray(draws[:, place])
            )

    def estimate(self, combine: Callable[..., np.ndarray], *columns: np.ndarray) -> Estimate:
        """`combine(mean of each column)` with its interval.

        Args:
            combine: of arrays, elementwise; called with one mean, and with R of them.
            columns: (B,) each; NaN is a row that has nothing to say in that column.
        """
        self.prepare(columns)
        found = [self._known[id(column)] for column in columns]
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(combine(*(np.float64(one.mean) for one in found)))
            draws = np.asarray(combine(*(one.draws for one in found)))
        num_clips = int(np.logical_and.reduce([one.counts > 0 for one in found]).sum())
        return read_interval(value, draws, int(min(one.counts.sum() for one in found)), num_clips)

    def resample(self, column: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean of a (B,) column, and its (R,) means under the draws; NaN where a draw holds none of its rows."""
        self.prepare([column])
        found = self._known[id(column)]
        return found.mean, found.draws

    def mean(self, column: np.ndarray) -> Estimate:
        """The mean of one value a row."""
        return self.estimate(lambda mean: mean, column)

    def difference(self, model: np.ndarray, reference: np.ndarray) -> Estimate:
        """error(reference) - error(model), in the errors' unit: positive is better; paired."""
        return self.estimate(lambda ours, theirs: theirs - ours, model, reference)

    def gain(self, model: np.ndarray, reference: np.ndarray) -> Estimate:
        """1 - error(model) / error(reference): 0 is no better, 1 is perfect; paired."""
        return self.estimate(lambda ours, theirs: 1 - ours / theirs, model, reference)

    def share_removed(self, model: np.ndarray, control: np.ndarray, reference: np.ndarray) -> Estimate:
        """How much of the gain over the reference is gone under the control: 0 nothing, 1 all; paired."""
        return self.estimate(lambda ours, broken, theirs: (broken - ours) / (theirs - ours), model, control, reference)

    def _cluster_sums(self, columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(C, K) sums of the known values of each clip, (C, M) counts of them, and (K,) which counts are a column's.

        Most columns miss no row: they share their counts, which are resampled once.
        """
        sums = np.empty((self.num_clusters, len(columns)))
        counts: dict[bytes, np.ndarray] = {}
        which = np.empty(len(columns), dtype=np.int64)
        for place, column in enumerate(columns):
            values = np.asarray(column, dtype=np.float64)
            missing = np.isnan(values)
            key = missing.tobytes() if missing.any() else b""
            if key not in counts:
                counts[key] = np.bincount(self._codes[~missing], minlength=self.num_clusters).astype(np.float64)
            which[place] = list(counts).index(key)
            sums[:, place] = np.bincount(
                self._codes, weights=np.where(missing, 0.0, values) if key else values, minlength=self.num_clusters
            )
        return sums, np.stack(list(counts.values()), axis=1), which

    def _sum_draws(self, values: np.ndarray) -> np.ndarray:
        """(C, K) -> (R, K): the sum over the drawn clips, for each resample."""
        pieces = [drawn.astype(np.float64) @ values for drawn in self._draws()]
        return np.concatenate(pieces) if pieces else np.zeros((0, values.shape[1]))

    def _draws(self) -> Iterable[np.ndarray]:
        """How often each clip is in each resample: pieces of (R, C)."""
        if self._whole is not None:
            whole, used = self._whole
            return (drawn[:, used] for drawn in whole._draws())
        if self._num_resamples * self.num_clusters > _MAX_KEPT:
            return self._iter_draws()
        if not self._kept:
            self._kept = list(self._iter_draws())
        return self._kept

    def _iter_draws(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self._seed)
        num_clips = self.num_clusters
        for start in range(0, self._num_resamples, _CHUNK):
            num = min(_CHUNK, self._num_resamples - start)
            picked = rng.integers(num_clips, size=(num, num_clips)) + num_clips * np.arange(num)[:, None]
            counts = np.bincount(picked.ravel(), minlength=num * num_clips)
            yield counts.reshape(num, num_clips).astype(np.uint16)
