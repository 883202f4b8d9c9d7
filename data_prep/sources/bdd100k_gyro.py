"""A heading from a phone's gyro, where its GPS can vouch for it.

How the phone was mounted, in which units it wrote and which way round is not known. What is: gravity is the mean
acceleration, so turning about it is yaw up to a sign; and where the car turned, the GPS course says how far and which
way. Where the two agree the gyro replaces the course, since it tells the second in which a turn happens; where the car
did not turn, or they disagree, the course stays.
"""

from __future__ import annotations

import numpy as np

from driving.clock import US_PER_S
from driving.coarse_motion import MAX_FIX_GAP_US

MIN_SAMPLES = 10
MAX_GYRO_GAP_S = 0.5
MIN_TURN_RAD = np.radians(20.0)  # less of it proves no sign
MIN_PAIRS = 5
SCALES = (0.7, 1.4)  # radians a second, give or take a GPS that lags
MIN_EXPLAINED = 0.7  # of the variance of the course


def integrate_gyro(
    times_us: np.ndarray,
    rates: np.ndarray,
    accelerations: np.ndarray,
    course_times_us: np.ndarray,
    heading_rad: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The heading by the gyro, its sign and its bias taken from the course.

    Args:
        times_us: (G,) strictly increasing, on the clock of the course.
        rates: (G, 3) rates of rotation in the phone's frame; rows that are not finite are left out.
        accelerations: (A, 3) in the same frame, gravity included.
        course_times_us, heading_rad: (H,) positive = left, without jumps.

    Returns:
        (times (G,) int64, heading (G,) rad, positive = left), or None where the gyro cannot be trusted.
    """
    is_there = np.isfinite(rates).all(axis=1)
    times_us, rates = times_us[is_there], rates[is_there]
    accelerations = accelerations[np.isfinite(accelerations).all(axis=1)]
    if min(len(times_us), len(accelerations)) < MIN_SAMPLES or len(heading_rad) < 2:
        return None
    steps_s = np.diff(times_us) / US_PER_S
    gravity = accelerations.mean(axis=0)
    if steps_s.max() > MAX_GYRO_GAP_S or not np.linalg.norm(gravity) > 0:
        return None
    yaw_rate = rates @ (gravity / np.linalg.norm(gravity))
    angle = np.concatenate([[0.0], np.cumsum((yaw_rate[1:] + yaw_rate[:-1]) / 2 * steps_s)])
    fit = _fit_course(times_us, angle, course_times_us, heading_rad)
    if fit is None:
        return None
    sign, bias_radps = fit
    return times_us.astype(np.int64), sign * angle + bias_radps * (times_us - times_us[0]) / US_PER_S


def _fit_course(
    times_us: np.ndarray, angle: np.ndarray, course_times_us: np.ndarray, heading_rad: np.ndarray
) -> tuple[float, float] | None:
    """(sign, bias in rad/s) by which the gyro's angle follows the course, or None where it does not.

    Least squares over pairs of neighbouring fixes: change of heading = scale x change of angle + bias x time.
    """
    gaps_us = np.diff(course_times_us)
    is_covered = (course_times_us[:-1] >= times_us[0]) & (course_times_us[1:] <= times_us[-1])
    is_used = is_covered & (gaps_us <= MAX_FIX_GAP_US)
    turned = np.diff(heading_rad)[is_used]
    if len(turned) < MIN_PAIRS or np.ptp(np.cumsum(turned)) < MIN_TURN_RAD:
        return None
    angles = np.diff(np.interp(course_times_us, times_us, angle))[is_used]
    seconds = gaps_us[is_used] / US_PER_S
    columns = np.stack([angles, seconds], axis=1)
    fitted, *_ = np.linalg.lstsq(columns, turned, rcond=None)
    scale, left_over = fitted[0], turned - columns @ fitted
    explained = 1 - left_over.var() / turned.var() if turned.var() > 0 else 0.0
    if explained < MIN_EXPLAINED or not SCALES[0] <= abs(scale) <= SCALES[1]:
        return None
    sign = float(np.sign(scale))
    # A course that lags lowers the scale; the bias is what is left at a scale of one.
    return sign, float((turned - sign * angles).sum() / seconds.sum())
