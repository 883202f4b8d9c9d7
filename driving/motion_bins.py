"""What the car did in one answered window, as three numbers, and the bins that data and scores are sorted into.

    speeds, poses ──mean_speed_mps, turn_deg, mean_acceleration_mps2──▶ (B,) ──speed_bin, turn_bin, motion_bin──▶ (B,)

One owner: the index counts in these bins, balancing weighs by them and evaluation scores within them.
B = windows, T = samples of each. Source: research/field.md 2.4.
"""

from __future__ import annotations

import numpy as np

SPEED_EDGES_MPS = (2.0, 8.0, 15.0, 25.0)
TURN_EDGES_DEG = (2.0, 10.0)
BRAKE_MPS2 = 1.0
REVERSING_MPS = -0.3
SPEED_BINS = ("reversing", "0-2 m/s", "2-8 m/s", "8-15 m/s", "15-25 m/s", "over 25 m/s")
TURN_BINS = ("left over 10°", "left 2-10°", "straight", "right 2-10°", "right over 10°")
MOTION_BINS = ("braking", "steady", "accelerating")


def mean_speed_mps(velocity_mps: np.ndarray) -> np.ndarray:
    """(B, T) -> (B,) mean speed, negative when reversing."""
    return velocity_mps.mean(axis=1)


def turn_deg(poses: np.ndarray) -> np.ndarray:
    """(B, T + 1, 3) x, y, heading [rad] -> (B,) heading turned from first to last, positive = left."""
    return np.degrees(np.angle(np.exp(1j * (poses[:, -1, 2] - poses[:, 0, 2]))))


def mean_acceleration_mps2(velocity_mps: np.ndarray, interval_s: float) -> np.ndarray:
    """(B, T) -> (B,) least-squares slope of the speed, whichever way the car goes; 0 for a single sample."""
    times_s = (np.arange(velocity_mps.shape[1]) - (velocity_mps.shape[1] - 1) / 2) * interval_s
    spread = float((times_s**2).sum())
    return (np.abs(velocity_mps) * times_s).sum(axis=1) / spread if spread else np.zeros(len(velocity_mps))


def speed_bin(speed_mps: np.ndarray) -> np.ndarray:
    """(B,) mean speeds -> (B,) index into SPEED_BINS; an edge belongs to the faster bin."""
    return np.where(speed_mps < REVERSING_MPS, 0, 1 + np.digitize(speed_mps, SPEED_EDGES_MPS))


def turn_bin(turned_deg: np.ndarray) -> np.ndarray:
    """(B,) headings turned -> (B,) index into TURN_BINS; an edge belongs to the stronger turn."""
    slight, strong = TURN_EDGES_DEG
    return 2 - np.sign(turned_deg).astype(int) * ((np.abs(turned_deg) >= slight) + 1 * (np.abs(turned_deg) >= strong))


def motion_bin(acceleration_mps2: np.ndarray) -> np.ndarray:
    """(B,) mean accelerations -> (B,) index into MOTION_BINS."""
    return 1 + (acceleration_mps2 > BRAKE_MPS2).astype(int) - (acceleration_mps2 < -BRAKE_MPS2).astype(int)
