"""Predicted motion against recorded motion: one error a row, then means, tails and intervals.

    (v, kappa) predicted ──▶ exact arcs ──▶ against the recorded poses   (ADE, FDE, sides, heading, misses)
                         └─────────────▶ against the labels             (speed, curvature, yaw rate, lateral push)

Errors are taken at every label instant, whatever number of pairs the answer has, so that formats can be compared.
B = rows, T = label samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from driving import metrics
from driving.trajectory import integrate_batch
from evaluation.scoring.baselines import Motion
from evaluation.scoring.statistics import Bootstrap, Estimate
from evaluation.scoring.truth import Truth

Columns = dict[str, np.ndarray]  # name -> (B,) one error a row; NaN where there is nothing to judge
FAST_MPS = 2.0
KMPH = 3.6  # of one metre per second
L2_HORIZONS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 6.4)
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Metric:
    """How a column is named to people, and how its mean becomes the number that is shown."""

    label: str
    unit: str
    is_root: bool = False  # the column holds squares; the root of the mean is shown
    has_tails: bool = False  # p50, p95, p99 are shown beside the mean
    is_share: bool = False


METRICS = {
    "velocity_mae_mps": Metric("speed error, mean absolute", "m/s"),
    "velocity_mae_kmph": Metric("speed error, mean absolute", "km/h"),
    "velocity_mse_m2ps2": Metric("speed error squared, mean (comma speed challenge: good under 10)", "m²/s²"),
    "velocity_rmse_mps": Metric("speed error, root mean square", "m/s", is_root=True),
    "velocity_bias_mps": Metric("speed bias (positive = too fast)", "m/s"),
    "velocity_relative": Metric("speed error relative to speeds over 2 m/s", "", is_share=True),
    "curvature_mae_per_m": Metric("curvature error where moving, mean absolute", "1/m"),
    "curvature_rmse_per_m": Metric("curvature error where moving, root mean square", "1/m", is_root=True),
    "curvature_mae_fast_per_m": Metric("curvature error over 2 m/s, mean absolute", "1/m"),
    "curvature_sign_accuracy": Metric("side of the curve right (over 0.002 1/m)", "", is_share=True),
    "yaw_rate_mae_radps": Metric("yaw-rate error, mean absolute", "rad/s"),
    "lateral_acceleration_mae_mps2": Metric("lateral-acceleration error, mean absolute", "m/s²"),
    "ade_m": Metric("average displacement error", "m", has_tails=True),
    "fde_m": Metric("final displacement error", "m", has_tails=True),
    "ade_half_m": Metric("average displacement error, first half", "m"),
    "fde_half_m": Metric("displacement error at half time", "m"),
    "longitudinal_m": Metric("final error along the road, absolute", "m"),
    "lateral_m": Metric("final error across the road, absolute", "m"),
    "heading_error_rad": Metric("final heading error", "rad"),
    "corner_m": Metric("distance of the car's corners, average", "m"),
} | {
    f"miss_rate_{radius:g}m": Metric(f"ends over {radius:g} m away", "", is_share=True)
    for radius in metrics.MISS_RADII_M
}


def score_rows(motion: Motion, truth: Truth) -> Columns:
    """Every error of every row; the columns are the keys of METRICS."""
    poses = integrate_batch(motion[0], motion[1], truth.interval_s)
    fde = metrics.fde_m(poses, truth.poses)
    misses = {f"miss_rate_{radius:g}m": (fde > radius).astype(np.float64) for radius in metrics.MISS_RADII_M}
    return {**_score_labels(motion, truth), **_score_poses(poses, truth), "fde_m": fde, **misses}


def _score_labels(motion: Motion, truth: Truth) -> Columns:
    (velocity, curvature), true_v, true_k = motion, truth.velocity_mps, truth.curvature_per_m
    moving = metrics.moving_weight(true_v)
    fast = (np.abs(true_v) > FAST_MPS).astype(np.float64)
    relative = (velocity - true_v) / np.where(fast > 0, true_v, 1.0)
    side = metrics.sign_is_right(curvature, true_k)
    zero = np.zeros_like(true_v)
    absolute, squared = metrics.mean_absolute(velocity, true_v), ((velocity - true_v) ** 2).mean(axis=1)
    return {
        "velocity_mae_mps": absolute,
        "velocity_mae_kmph": KMPH * absolute,
        "velocity_mse_m2ps2": squared,
        "velocity_rmse_mps": squared,
        "velocity_bias_mps": (velocity - true_v).mean(axis=1),
        "velocity_relative": metrics.mean_absolute(relative, zero, fast),
        "curvature_mae_per_m": metrics.mean_absolute(curvature, true_k, moving),
        "curvature_rmse_per_m": metrics.mean_absolute((curvature - true_k) ** 2, zero, moving),
        "curvature_mae_fast_per_m": metrics.mean_absolute(curvature, true_k, fast),
        "curvature_sign_accuracy": np.where(moving.any(axis=1), side, np.nan),
        "yaw_rate_mae_radps": metrics.mean_absolute(velocity * curvature, true_v * true_k),
        "lateral_acceleration_mae_mps2": metrics.mean_absolute(velocity**2 * curvature, true_v**2 * true_k),
    }


def _score_poses(poses: np.ndarray, truth: Truth) -> Columns:
    away, half = metrics.displacement_m(poses, truth.poses), truth.num_samples // 2
    has_half = half > 0 and truth.num_samples % 2 == 0  # else no sample ends at half time: nothing to judge
    unknown = np.full(len(truth), np.nan)
    ahead, aside = metrics.longitudinal_lateral_m(poses, truth.poses)
    return {
        "ade_m": away.mean(axis=1),
        "ade_half_m": away[:, :half].mean(axis=1) if has_half else unknown,
        "fde_half_m": away[:, half - 1] if has_half else unknown,
        "longitudinal_m": np.abs(ahead),
        "lateral_m": np.abs(aside),
        "heading_error_rad": metrics.heading_error_rad(poses, truth.poses),
        "corner_m": metrics.corner_distance_m(poses, truth.poses).mean(axis=1),
    }


def summarise(columns: Columns, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """Each metric with its interval, and its tails where they matter."""
    return {name: _summarise_one(metric, columns[name], bootstrap) for name, metric in METRICS.items()}


def _summarise_one(metric: Metric, column: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    estimate = bootstrap.estimate(np.sqrt, column) if metric.is_root else bootstrap.mean(column)
    return estimate.to_json() | (tails(column) if metric.has_tails else {})


def tails(column: np.ndarray) -> dict[str, float | None]:
    """p50, p95 and p99 of a column."""
    known = column[~np.isnan(column)]
    values = np.percentile(known, PERCENTILES) if len(known) else [None] * len(PERCENTILES)
    return {
        f"p{percent}": None if value is None else float(value)
        for percent, value in zip(PERCENTILES, values, strict=True)
    }


def l2_protocols(motion: Motion, truth: Truth) -> dict[str, dict[str, float]]:
    """Mean L2 under the three published protocols, each under its name, for the horizons that the answer reaches."""
    if not len(truth):
        return {}
    poses = integrate_batch(motion[0], motion[1], truth.interval_s)
    protocols = metrics.l2_at_horizons_m(poses, truth.poses, truth.interval_s, L2_HORIZONS_S)
    return {name: {f"{horizon:g} s": value for horizon, value in values.items()} for name, values in protocols.items()}


def ade_with_failures_at_p95(columns: Columns, is_parsed: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """ADE where a failed answer costs the p95 of the parsed errors, and never less than its fallback's own error.

    With nothing parsed the p95 is that of the fallback's errors: failing always is worse than answering the mean.
    """
    ade = columns["ade_m"]
    judged = ade[is_parsed] if is_parsed.any() else ade
    if not len(judged):
        return bootstrap.mean(ade)
    return bootstrap.mean(np.where(is_parsed, ade, np.maximum(ade, np.percentile(judged, 95))))
