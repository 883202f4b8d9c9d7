"""What a training set's labels are on average: all that a guess that never looks may know. N = rows, T = samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from driving.errors import DrivingError

# 48 MB at 30 samples; a median of so many has a place among all rows that is off by about 0.2 %.
MAX_MEDIAN_ROWS = 100_000
MAX_FIT_ROWS = 20_000  # rows that fitted baselines learn from; 20 MB at 30 samples


@dataclass(frozen=True)
class TrainMotion:
    """What training cars did before and in the second asked for: all that a fit that never looks may learn from.

    Attributes:
        observed: (n, T', 2) float64 speed and curvature.
        targets: (n, T, 2) float64.
    """

    observed: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class TrainLabels:
    """Averages over the training rows.

    Attributes:
        mean: (T, 2) float64 speed and curvature, over all rows.
        median: (T, 2) float64, over all rows up to MAX_MEDIAN_ROWS, beyond that over as many, evenly chosen.
        num_rows: N.
        motion: of up to MAX_FIT_ROWS rows, evenly chosen; None where none holds an observed second.
    """

    mean: np.ndarray
    median: np.ndarray
    num_rows: int
    motion: TrainMotion | None = None

    @classmethod
    def from_batches(
        cls, batches: Iterable[np.ndarray], num_expected: int, where: str = "targets"
    ) -> TrainLabels | None:
        """Average (n, T, 2) batches that are seen once; None where there is no row.

        Args:
            num_expected: about how many rows come in all.

        Raises:
            DrivingError: Batches differ in T; the message names `where`.
        """
        step = max(1, -(-num_expected // MAX_MEDIAN_ROWS))
        total: np.ndarray | None = None
        num_rows = 0
        chosen = []
        for batch in batches:
            if total is None:
                total = np.zeros(batch.shape[1:])
            if batch.shape[1:] != total.shape:
                lengths = sorted({len(total), batch.shape[1]})
                raise DrivingError(f"{where}: rows of {lengths} samples in one file; score them apart")
            total += batch.sum(axis=0)
            chosen.append(batch[-num_rows % step :: step].copy())
            num_rows += len(batch)
        if total is None or num_rows == 0:
            return None
        return cls(total / num_rows, np.median(np.concatenate(chosen), axis=0), num_rows)
