"""Is the curvature column d heading / d s: with which sign, which scale and which lag?"""

from __future__ import annotations

import numpy as np

from data_prep.audit.findings import FAIL, PASS, SKIP, Finding
from data_prep.audit.samples import MAX_STEP_US, Samples
from driving.clock import US_PER_S
from driving.rotation import rotation_matrices

NAME = "curvature column"
GRID_US = 20_000
HALF_WINDOW_US = 50_000
MOVING_MPS = 1.0
STRAIGHT_PER_M = 5e-4
LEADS_US = np.arange(-200_000, 200_001, 5_000)
# PhysicalAI-AV's column leads its pose by 30-40 ms; field.md 3.1.
MIN_LEAD_MS, MAX_LEAD_MS = -15.0, 60.0
MAX_LEAD_SIGMA_MS = 10.0
MAX_SCALE_ERROR = 0.1
MAX_RESIDUAL_PER_M = 0.002


def check_curvature(samples: Samples) -> Finding:
    """Compare the column with the pose over +-50 ms. Positive = left; a lead is positive where the column is early."""
    if samples.curvature_per_m is None:
        return Finding(NAME, samples.recording_id, SKIP, "", "no curvature column; curvature is taken from the pose")
    times_us, kappa = pose_curvature(samples)
    if len(times_us) < 20 or np.abs(kappa).max() < STRAIGHT_PER_M:
        return Finding(NAME, samples.recording_id, SKIP, "", "too short, too slow or too straight to compare")
    costs = np.array([np.mean((_column_at(samples, times_us - lead) - kappa) ** 2) for lead in LEADS_US])
    flipped = np.array([np.mean((_column_at(samples, times_us - lead) + kappa) ** 2) for lead in LEADS_US])
    if flipped.min() < costs.min():
        scale, _ = _fit(samples, times_us, kappa, 0)
        fix = "the column's sign is flipped (ours: positive = left): negate it, or check that y is left"
        return Finding(NAME, samples.recording_id, FAIL, f"{scale:+.2f} times d heading / d s", fix, scale)
    lead_us = _refine(costs)
    scale, residual = _fit(samples, times_us, kappa, lead_us)
    sigma_ms = _lead_sigma_ms(times_us, kappa, residual)
    lead = f"leads by {lead_us / 1000:.0f} ms" if sigma_ms <= MAX_LEAD_SIGMA_MS else "lag not measurable"
    measured = f"{scale:+.2f} times d heading / d s, {lead}, residual {residual:.1g} 1/m"
    fix = _explain(samples, times_us, kappa, scale, residual, lead_us / 1000, sigma_ms)
    return Finding(NAME, samples.recording_id, FAIL if fix else PASS, measured, fix, lead_us / 1000)


def _explain(samples, times_us, kappa, scale: float, residual: float, lead_ms: float, sigma_ms: float) -> str:
    """What is wrong, or "" where nothing is."""
    column = _column_at(samples, times_us)
    fits_size_better = np.abs(column - np.abs(kappa)).mean() < np.abs(column - kappa).mean()
    if kappa.min() < -STRAIGHT_PER_M and column.min() >= 0 and fits_size_better:
        return "the column lost its sign (|kappa|): left and right are the same; use the pose (--curvature pose)"
    if abs(scale - 1) > MAX_SCALE_ERROR or residual > MAX_RESIDUAL_PER_M:
        return "the column is not the path's curvature (steering angle? another wheel base?); use --curvature pose"
    if sigma_ms <= MAX_LEAD_SIGMA_MS and not MIN_LEAD_MS <= lead_ms <= MAX_LEAD_MS:
        late = "late" if lead_ms < 0 else "early"
        return f"the column is {abs(lead_ms):.0f} ms {late} against the pose: shift its clock, or use --curvature pose"
    return ""


def pose_curvature(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """(n,) instants every 20 ms where the car moves, and d heading / d s there over +-50 ms."""
    times = samples.timestamps_us
    steps_m = np.linalg.norm(np.diff(samples.position_m[:, :2], axis=0), axis=1)
    chord = np.diff(samples.position_m, axis=0)
    forward = rotation_matrices(samples.quaternion_xyzw)[:-1, :, 0]
    is_back = np.sum(chord * forward, axis=1) < 0
    way_m = np.concatenate([[0.0], np.cumsum(np.where(is_back, -steps_m, steps_m))])
    grid = np.arange(times[0] + 300_000, times[-1] - 300_000, GRID_US)
    before = times[np.clip(np.searchsorted(times, grid - HALF_WINDOW_US, "right") - 1, 0, len(times) - 1)]
    after = times[np.clip(np.searchsorted(times, grid + HALF_WINDOW_US, "left"), 0, len(times) - 1)]
    # Where rows are as far apart as +-50 ms the pose's curvature is a mean over them, and no lag can be read off it.
    is_dense = after - before <= MAX_STEP_US
    grid = grid[is_dense]
    low, high = grid - HALF_WINDOW_US, grid + HALF_WINDOW_US
    made_m = np.interp(high, times, way_m) - np.interp(low, times, way_m)
    turned = np.interp(high, times, samples.heading_rad) - np.interp(low, times, samples.heading_rad)
    is_moving = np.abs(made_m) > MOVING_MPS * 2 * HALF_WINDOW_US / US_PER_S
    return grid[is_moving], turned[is_moving] / made_m[is_moving]


def _column_at(samples: Samples, times_us: np.ndarray) -> np.ndarray:
    return np.interp(times_us, samples.timestamps_us, samples.curvature_per_m)


def _refine(costs: np.ndarray) -> float:
    """The lead of least cost, between grid points by a parabola."""
    best = int(np.argmin(costs))
    if best in (0, len(costs) - 1):
        return float(LEADS_US[best])
    left, middle, right = costs[best - 1 : best + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(LEADS_US[best] + shift * (LEADS_US[1] - LEADS_US[0]))


def _fit(samples: Samples, times_us: np.ndarray, kappa: np.ndarray, lead_us: float) -> tuple[float, float]:
    """(scale of the column against the pose, what remains) at a lead."""
    column = _column_at(samples, times_us - lead_us)
    scale = float(np.sum(column * kappa) / np.sum(kappa * kappa))
    return scale, float(np.sqrt(np.mean((column - kappa) ** 2)))


def _lead_sigma_ms(times_us: np.ndarray, kappa: np.ndarray, residual: float) -> float:
    """How well a lag can be known: the residual over what one second of lag would make, over independent samples."""
    change_per_s = np.gradient(kappa, times_us / US_PER_S)
    spread = float(np.sqrt(np.mean(change_per_s**2)))
    independent = max(1.0, len(times_us) * GRID_US / (4 * HALF_WINDOW_US))
    return 1000 * max(residual, 1e-5) / max(spread, 1e-12) / np.sqrt(independent)
