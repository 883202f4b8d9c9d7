"""Whether a car and its passengers could take a motion: accelerations, jerks and turn rates against published limits,
and whether any vehicle could drive it at all.

    (v, kappa) (B, T) ──smooth_rates──▶ accelerations, jerks, turn rates ──count_violations──▶ 1.0 / 0.0 a sample

Speeds are printed with a decimal or two, so raw differences of them would see jerks of 90 m/s^3 in a steady drive.
Rates are slopes of a parabola fitted around each instant, over one second or the whole answer: predictions and the
truth are smoothed alike. B = samples, T = intervals of one answer.

Source: nuPlan's comfort metrics (limits, second-order polynomials, jerk as the rate of the acceleration's size), as
quoted in research/field.md 1.2.
"""

from __future__ import annotations

import numpy as np

WINDOW_S = 1.0
# name -> (lowest, highest, unit)
LIMITS = {
    "longitudinal_acceleration": (-4.05, 2.40, "m/s²"),
    "lateral_acceleration": (-4.89, 4.89, "m/s²"),
    "jerk": (-8.37, 8.37, "m/s³"),
    "longitudinal_jerk": (-4.13, 4.13, "m/s³"),
    "yaw_rate": (-0.95, 0.95, "rad/s"),
    "yaw_acceleration": (-1.93, 1.93, "rad/s²"),
}
_MIN_SAMPLES = 3  # a parabola

# No road vehicle does any of this, reversing and drifting included: 540 km/h, a circle of one metre around the rear
# axle, a full turn within a second. Wide of every recording's noise: at a crawl a curvature may be 1, not at 10 m/s.
MAX_SPEED_MPS = 150.0
MAX_CURVATURE_PER_M = 1.0
MAX_YAW_RATE_RADPS = 2 * np.pi


def find_impossible(velocity_mps: np.ndarray, curvature_per_m: np.ndarray) -> str:
    """The first thing in a motion of T pairs that no vehicle can do, as "400 m/s (at most 150)"; "" where it could."""
    with np.errstate(over="ignore"):
        yaw_rate_radps = velocity_mps * curvature_per_m
    for values, most, unit in (
        (velocity_mps, MAX_SPEED_MPS, "m/s"),
        (curvature_per_m, MAX_CURVATURE_PER_M, "1/m"),
        (yaw_rate_radps, MAX_YAW_RATE_RADPS, "rad/s of turning"),
    ):
        beyond = np.abs(values) > most
        if beyond.any():
            return f"{values[np.argmax(beyond)]:.6g} {unit} (at most {most:.4g})"
    return ""


def count_violations(velocity_mps: np.ndarray, curvature_per_m: np.ndarray, interval_s: float) -> dict[str, np.ndarray]:
    """For each limit (B,) 1.0 where it is crossed at any instant, and `any` for one of them.

    An answer of fewer than three intervals has no rates: NaN.
    """
    if velocity_mps.shape[1] < _MIN_SAMPLES:
        unknown = np.full(len(velocity_mps), np.nan)
        return dict.fromkeys((*LIMITS, "any"), unknown)
    rates = smooth_rates(velocity_mps, curvature_per_m, interval_s)
    crossed = {
        name: ((rates[name] < low) | (rates[name] > high)).any(axis=1) for name, (low, high, _) in LIMITS.items()
    }
    crossed["any"] = np.logical_or.reduce(list(crossed.values()))
    return {name: values.astype(np.float64) for name, values in crossed.items()}


def smooth_rates(velocity_mps: np.ndarray, curvature_per_m: np.ndarray, interval_s: float) -> dict[str, np.ndarray]:
    """(B, T) of each quantity of LIMITS.

    Raises:
        ValueError: There are fewer than three intervals.
    """
    smooth, slope = fit_parabolas(velocity_mps.shape[1], interval_s)
    yaw_rate = (velocity_mps * curvature_per_m) @ smooth.T
    lateral = (velocity_mps**2 * curvature_per_m) @ smooth.T
    longitudinal = velocity_mps @ slope.T
    return {
        "longitudinal_acceleration": longitudinal,
        "lateral_acceleration": lateral,
        "jerk": np.hypot(longitudinal, lateral) @ slope.T,
        "longitudinal_jerk": longitudinal @ slope.T,
        "yaw_rate": yaw_rate,
        "yaw_acceleration": yaw_rate @ slope.T,
    }


def fit_parabolas(num_samples: int, interval_s: float, window_s: float = WINDOW_S) -> tuple[np.ndarray, np.ndarray]:
    """(T, T), (T, T): matrices that take T samples to the fitted value and to the fitted slope at each of them.

    Each instant is fitted over the odd number of samples around it nearest to the window (over all of them where there
    are not more); at the ends the first and the last such window serve.

    Raises:
        ValueError: Fewer than three samples.
    """
    if num_samples < _MIN_SAMPLES:
        raise ValueError(f"{num_samples} samples hold no parabola")
    width = max(_MIN_SAMPLES, 2 * (round(window_s / interval_s) // 2) + 1)
    width = min(width, num_samples)
    smooth, slope = np.zeros((num_samples, num_samples)), np.zeros((num_samples, num_samples))
    times_s = (np.arange(width) - (width - 1) / 2) * interval_s
    fit = np.linalg.pinv(np.vander(times_s, 3, increasing=True))  # (3, width): samples -> coefficients
    for place in range(num_samples):
        start = min(max(place - width // 2, 0), num_samples - width)
        at = times_s[place - start]
        smooth[place, start : start + width] = fit[0] + fit[1] * at + fit[2] * at**2
        slope[place, start : start + width] = fit[1] + 2 * fit[2] * at
    return smooth, slope
