"""What really happened in the rows that are scored. B = rows, T = label samples of one answer (rate x horizon)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


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
