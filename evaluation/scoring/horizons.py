"""Errors at the published times ahead: 0.5 to 6.4 s, as far as the answers go.

B = rows, T = label samples.
"""

from __future__ import annotations

from typing import Any

from driving import metrics
from driving.trajectory import integrate_batch
from evaluation.scoring.fitted import Motion
from evaluation.scoring.score import L2_HORIZONS_S, Columns
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.truth import Truth

_TOLERANCE = 1e-6


def measure_horizons(motions: dict[str, Motion], truth: Truth, bootstrap: Bootstrap) -> dict[str, Any]:
    """{"0.5 s": {who: {metric: estimate}}, ...}: "ade_m" up to that time, "fde_m" at it.

    A time that lies between two label samples is left out: it would be another time under its name.
    """
    ends = find_horizons(truth.num_samples, truth.interval_s)
    columns: dict[str, dict[str, Columns]] = {horizon: {} for horizon in ends}
    for who, motion in motions.items():
        poses = integrate_batch(*motion, truth.interval_s)
        away_m, corners_m = metrics.displacement_m(poses, truth.poses), metrics.corner_distance_m(poses, truth.poses)
        for horizon, end in ends.items():
            columns[horizon][who] = {
                "ade_m": away_m[:, :end].mean(axis=1),
                "fde_m": away_m[:, end - 1],
                "corner_m": corners_m[:, :end].mean(axis=1),
                "heading_error_rad": metrics.heading_error_rad(poses[:, : end + 1], truth.poses[:, : end + 1]),
            }
    bootstrap.prepare(column for whos in columns.values() for found in whos.values() for column in found.values())
    return {
        horizon: {
            who: {name: bootstrap.mean(column).to_json() for name, column in found.items()}
            for who, found in whos.items()
        }
        for horizon, whos in columns.items()
    }


def find_horizons(num_samples: int, interval_s: float) -> dict[str, int]:
    """Name of each horizon that the answer reaches -> how many intervals it takes."""
    ends = {horizon: horizon / interval_s for horizon in L2_HORIZONS_S}
    return {
        f"{horizon:g} s": round(end)
        for horizon, end in ends.items()
        if abs(end - round(end)) < _TOLERANCE * num_samples and 1 <= round(end) <= num_samples
    }
