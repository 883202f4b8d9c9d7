"""What the labels of a dataset look like, and whether a model can learn a curve or a speed from them at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from driving.metrics import MOVING_MPS, SIGN_THRESHOLD_PER_M


class LabelStatistics:
    """Running statistics over segments: add batches, read once at the end. Holds sums, never the labels."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._num_values = 0
        self._sums = np.zeros(4)  # v, v^2, kappa, |kappa|
        self._velocity_range = np.array([np.inf, -np.inf])
        self._curvature_range = np.array([np.inf, -np.inf])
        self._counts = dict.fromkeys(("left", "right", "straight", "standing", "reversing"), 0)

    def add(self, targets: np.ndarray) -> None:
        """Take (n, T, 2) targets of n segments: velocity in m/s and curvature in 1/m, positive = left."""
        if len(targets) == 0:
            return
        velocity, curvature = targets[..., 0], targets[..., 1]
        self.num_rows += len(targets)
        self._num_values += velocity.size
        self._sums += [velocity.sum(), np.square(velocity).sum(), curvature.sum(), np.abs(curvature).sum()]
        for bounds, values in ((self._velocity_range, velocity), (self._curvature_range, curvature)):
            bounds[:] = min(bounds[0], values.min()), max(bounds[1], values.max())
        mean_curvature = curvature.mean(axis=1)
        claims = {
            "left": mean_curvature > SIGN_THRESHOLD_PER_M,
            "right": mean_curvature < -SIGN_THRESHOLD_PER_M,
            "straight": np.abs(mean_curvature) <= SIGN_THRESHOLD_PER_M,
            "standing": (np.abs(velocity) < MOVING_MPS).all(axis=1),
            "reversing": (velocity <= -MOVING_MPS).any(axis=1),
        }
        for name, is_true in claims.items():
            self._counts[name] += int(is_true.sum())

    @classmethod
    def merge(cls, parts: Iterable[LabelStatistics]) -> LabelStatistics:
        """The statistics of several splits together."""
        merged = cls()
        for part in parts:
            merged.num_rows += part.num_rows
            merged._num_values += part._num_values
            merged._sums += part._sums
            for bounds, other in (
                (merged._velocity_range, part._velocity_range),
                (merged._curvature_range, part._curvature_range),
            ):
                bounds[:] = min(bounds[0], other[0]), max(bounds[1], other[1])
            for name, count in part._counts.items():
                merged._counts[name] += count
        return merged

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded to six decimals so that they are the same on every machine."""
        if not self.num_rows:
            return {"num_rows": 0}
        mean_v, mean_v2, mean_kappa, mean_abs_kappa = self._sums / self._num_values
        values = {
            "velocity_mean_mps": mean_v,
            "velocity_std_mps": np.sqrt(max(0.0, mean_v2 - mean_v**2)),
            "velocity_min_mps": self._velocity_range[0],
            "velocity_max_mps": self._velocity_range[1],
            "curvature_mean_per_m": mean_kappa,
            "curvature_mean_abs_per_m": mean_abs_kappa,
            "curvature_min_per_m": self._curvature_range[0],
            "curvature_max_per_m": self._curvature_range[1],
        }
        rounded = {name: round(float(value), 6) for name, value in values.items()}
        return {"num_rows": self.num_rows, **rounded, "num_segments": dict(self._counts)}

    def list_warnings(self) -> list[str]:
        """Sentences for the user about labels that cannot teach what is asked."""
        warnings = []
        if not self.num_rows:
            return warnings
        if self._counts["standing"] == self.num_rows:
            warnings.append(f"all {self.num_rows:,} rows stand still: a model trained on them learns nothing of motion")
        elif max(np.abs(self._curvature_range)) <= SIGN_THRESHOLD_PER_M:
            warnings.append(
                f"all {self.num_rows:,} rows are straight (no |curvature| above {SIGN_THRESHOLD_PER_M} 1/m): "
                "a model trained on them cannot learn to turn; add recordings with curves"
            )
        return warnings
