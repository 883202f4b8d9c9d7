"""How far a predicted motion is from the recorded one: arrays in, per-sample errors out.

B = samples, T = intervals of one answer. Poses are (B, T + 1, 3): x forward [m], y left [m], heading [rad].
Every function returns one value a sample, so that the caller averages over clips and strata.
"""

from __future__ import annotations

import numpy as np

MISS_RADII_M = (0.25, 0.5, 1.0, 2.0)
SIGN_THRESHOLD_PER_M = 0.002  # below this a curve's side is not worth judging
MOVING_MPS = 0.3
# A usual car around its rear axle, for the corner distance: what of it stands before, behind and beside the axle.
CAR_FRONT_M, CAR_REAR_M, CAR_HALF_WIDTH_M = 3.8, 1.0, 0.95


def displacement_m(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(B, T): distance between predicted and true position after each interval; the common start is left out."""
    offset = predicted[:, 1:, :2] - truth[:, 1:, :2]
    return np.hypot(offset[..., 0], offset[..., 1])


def ade_m(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(B,) average displacement error over the horizon."""
    return displacement_m(predicted, truth).mean(axis=1)


def fde_m(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(B,) displacement error at the end of the horizon."""
    return displacement_m(predicted, truth)[:, -1]


def corner_distance_m(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(B, T) mean distance between the four corners of the car as predicted and as recorded, after each interval.

    The car is one of usual size (4.8 m by 1.9 m): a turn of the nose counts, which the rear axle's path hides.
    """
    x, y = (predicted[:, 1:, axis] - truth[:, 1:, axis] for axis in (0, 1))
    cosine, sine = (turn(predicted[:, 1:, 2]) - turn(truth[:, 1:, 2]) for turn in (np.cos, np.sin))
    total = np.zeros_like(x)
    for ahead in (CAR_FRONT_M, -CAR_REAR_M):
        for left in (CAR_HALF_WIDTH_M, -CAR_HALF_WIDTH_M):
            total += np.hypot(x + ahead * cosine - left * sine, y + ahead * sine + left * cosine)
    return total / 4


def longitudinal_lateral_m(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,), (B,): the final error along and across the true final heading, signed (ahead, left positive)."""
    offset = predicted[:, -1, :2] - truth[:, -1, :2]
    cosine, sine = np.cos(truth[:, -1, 2]), np.sin(truth[:, -1, 2])
    return offset[:, 0] * cosine + offset[:, 1] * sine, -offset[:, 0] * sine + offset[:, 1] * cosine


def heading_error_rad(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(B,) absolute heading error at the end of the horizon, in [0, pi]."""
    difference = predicted[:, -1, 2] - truth[:, -1, 2]
    return np.abs(np.angle(np.exp(1j * difference)))


def mean_absolute(predicted: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """(B,) mean absolute error over T; a sample whose weights are all zero gives NaN (nothing to judge)."""
    error = np.abs(predicted - truth)
    return error.mean(axis=1) if weight is None else weighted_mean(error, weight)


def weighted_mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(B,) mean over T; NaN where nothing weighs."""
    total = weight.sum(axis=1)
    return np.where(total > 0, (values * weight).sum(axis=1) / np.where(total > 0, total, 1.0), np.nan)


def moving_weight(velocity_mps: np.ndarray) -> np.ndarray:
    """(B, T) 1.0 where the car truly moves: a standing car has no curvature to be right about."""
    return (np.abs(velocity_mps) >= MOVING_MPS).astype(np.float64)


def sign_is_right(predicted_per_m: np.ndarray, true_per_m: np.ndarray) -> np.ndarray:
    """(B,) 1.0 / 0.0 whether the mean curvature has the true side; NaN where the true one is nearly straight."""
    true_mean = true_per_m.mean(axis=1)
    right = (np.sign(predicted_per_m.mean(axis=1)) == np.sign(true_mean)).astype(np.float64)
    return np.where(np.abs(true_mean) > SIGN_THRESHOLD_PER_M, right, np.nan)


def l2_at_horizons_m(
    predicted: np.ndarray, truth: np.ndarray, interval_s: float, horizons_s: tuple[float, ...]
) -> dict:
    """Mean L2 under the three published protocols, for each horizon that the answer reaches.

    A horizon between two intervals' ends is left out: it would be another time under its name.

    Returns:
        {"uniad": {h: error at h}, "st_p3": {h: mean of errors up to h}, "lightemma": {h: mean over (h - 1 s, h]}}

    Source: research/field.md 1.4; the protocols differ by a factor of about two and must be named.
    """
    displacement = displacement_m(predicted, truth)
    ends_s = (np.arange(displacement.shape[1]) + 1) * interval_s
    result: dict[str, dict[float, float]] = {"uniad": {}, "st_p3": {}, "lightemma": {}}
    for horizon in horizons_s:
        reached = ends_s <= horizon + 1e-6
        if not np.isclose(ends_s, horizon, rtol=0, atol=1e-6).any():
            continue
        last_second = reached & (ends_s > horizon - 1 + 1e-6)
        result["uniad"][horizon] = float(displacement[:, reached][:, -1].mean())
        result["st_p3"][horizon] = float(displacement[:, reached].mean())
        result["lightemma"][horizon] = float(displacement[:, last_second].mean())
    return result
