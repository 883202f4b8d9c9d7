"""What the car did, in the words a text may claim: from recorded speed and heading.

Thresholds are those of motion_bins.py and design.md section 3 where they exist; a turn is a street corner, not a bend:
30 degrees within 8 s. Facts of a single second: coarse_motion.py.
"""

from __future__ import annotations

import numpy as np

from driving.errors import MotionError

ACCELERATES, BRAKES, STOPS, STARTS = "accelerates", "brakes", "stops", "starts"
REVERSES, TURNS_LEFT, TURNS_RIGHT = "reverses", "turns_left", "turns_right"
MOTION_FACTS = (ACCELERATES, BRAKES, STOPS, STARTS, REVERSES, TURNS_LEFT, TURNS_RIGHT)

ACCELERATION_MPS2 = 1.0  # mean over a second
STANDSTILL_MPS = 0.3
STANDSTILL_S = 0.5
STARTED_MPS = 1.0
TURN_DEG = 30.0
TURN_S = 8.0


def find_motion_facts(velocity_mps: np.ndarray, heading_rad: np.ndarray, interval_s: float) -> list[str]:
    """The facts of one recording, in the order of MOTION_FACTS.

    Args:
        velocity_mps: (T,) signed speed.
        heading_rad: (T,) heading, positive = left; jumps by a whole turn are taken out.
        interval_s: seconds between two samples.

    Raises:
        MotionError: Fewer than two samples, unequal lengths, or a value that is no number.
    """
    speed, heading = np.asarray(velocity_mps, np.float64), np.asarray(heading_rad, np.float64)
    if speed.shape != heading.shape or speed.ndim != 1 or len(speed) < 2:
        raise MotionError(f"speeds {speed.shape} and headings {heading.shape} must be two rows of 2 samples or more")
    if not (np.isfinite(speed).all() and np.isfinite(heading).all() and interval_s > 0):
        raise MotionError("speeds and headings must be finite, and their interval above 0 s; leave the recording out")
    faster = _largest_rise(np.abs(speed), round(1 / interval_s)) * _per_second(len(speed), interval_s)
    slower = _largest_rise(-np.abs(speed), round(1 / interval_s)) * _per_second(len(speed), interval_s)
    stands = _lasting(np.abs(speed) < STANDSTILL_MPS, interval_s)
    first_stand = int(np.argmax(stands)) if stands.any() else len(speed)
    turned = np.degrees(np.unwrap(heading))
    window = max(1, round(TURN_S / interval_s))
    facts = {
        ACCELERATES: faster > ACCELERATION_MPS2,
        BRAKES: slower > ACCELERATION_MPS2,
        STOPS: bool(stands.any()),
        STARTS: bool((np.abs(speed[first_stand:]) > STARTED_MPS).any()),
        REVERSES: lasts(speed < -STANDSTILL_MPS, interval_s),
        TURNS_LEFT: _largest_rise_within(turned, window) >= TURN_DEG,
        TURNS_RIGHT: _largest_rise_within(-turned, window) >= TURN_DEG,
    }
    return [name for name in MOTION_FACTS if facts[name]]


def _per_second(num_samples: int, interval_s: float) -> float:
    """One over the seconds that `_largest_rise` over one second really spans."""
    return 1 / (min(max(1, round(1 / interval_s)), num_samples - 1) * interval_s)


def _largest_rise(values: np.ndarray, num_steps: int) -> float:
    """The largest rise from one sample to the one `num_steps` later."""
    steps = min(max(1, num_steps), len(values) - 1)
    return float((values[steps:] - values[:-steps]).max())


def _largest_rise_within(values: np.ndarray, num_steps: int) -> float:
    """The largest rise from a sample to any of the `num_steps` after it."""
    return max(_largest_rise(values, steps) for steps in range(1, min(num_steps, len(values) - 1) + 1))


def lasts(holds: np.ndarray, interval_s: float) -> bool:
    """Whether something holds for STANDSTILL_S at a stretch."""
    return bool(_lasting(holds, interval_s).any())


def _lasting(holds: np.ndarray, interval_s: float) -> np.ndarray:
    """(T,) bool: the samples of runs of True that last STANDSTILL_S, each sample for its interval."""
    needed = max(1, int(np.ceil(STANDSTILL_S / interval_s - 1e-9)))
    edges = np.diff(np.concatenate([[0], holds.astype(int), [0]]))
    kept = np.zeros(len(holds), dtype=bool)
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        kept[start:stop] = stop - start >= needed
    return kept
