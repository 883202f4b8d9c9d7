"""Rows sorted by what the car did, so that 70 % straight roads cannot hide what happens in the rest.

Source: research/field.md 2.4 (bins of speed, turn and longitudinal motion).
"""

from __future__ import annotations

import numpy as np

from evaluation.truth import Truth

SPEED_EDGES_MPS = (2.0, 8.0, 15.0, 25.0)
TURN_EDGES_DEG = (2.0, 10.0)
BRAKE_MPS2 = 1.0
REVERSING_MPS = -0.3
SPEED_BINS = ("reversing", "0-2 m/s", "2-8 m/s", "8-15 m/s", "15-25 m/s", "over 25 m/s")
TURN_BINS = ("left over 10°", "left 2-10°", "straight", "right 2-10°", "right over 10°")
MOTION_BINS = ("braking", "steady", "accelerating")


def assign_strata(truth: Truth) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Each axis -> (names of its bins, (B,) index of each row's bin)."""
    return {
        "speed": (SPEED_BINS, speed_bin(truth.velocity_mps)),
        "turn": (TURN_BINS, turn_bin(truth.poses)),
        "motion": (MOTION_BINS, motion_bin(truth.velocity_mps, truth.interval_s)),
    }


def speed_bin(velocity_mps: np.ndarray) -> np.ndarray:
    """(B,) index into SPEED_BINS by the mean speed over the answer; an edge belongs to the faster bin."""
    mean = velocity_mps.mean(axis=1)
    return np.where(mean < REVERSING_MPS, 0, 1 + np.digitize(mean, SPEED_EDGES_MPS))


def turn_bin(poses: np.ndarray) -> np.ndarray:
    """(B,) index into TURN_BINS by the heading turned from the first to the last recorded pose."""
    turned_deg = np.degrees(np.angle(np.exp(1j * (poses[:, -1, 2] - poses[:, 0, 2]))))
    slight, strong = TURN_EDGES_DEG
    return 2 - np.sign(turned_deg).astype(int) * ((np.abs(turned_deg) >= slight) + 1 * (np.abs(turned_deg) >= strong))


def motion_bin(velocity_mps: np.ndarray, interval_s: float) -> np.ndarray:
    """(B,) index into MOTION_BINS by the least-squares slope of the true speed."""
    times_s = (np.arange(velocity_mps.shape[1]) - (velocity_mps.shape[1] - 1) / 2) * interval_s
    spread = float((times_s**2).sum())
    slope = (np.abs(velocity_mps) * times_s).sum(axis=1) / spread if spread else np.zeros(len(velocity_mps))
    return 1 + (slope > BRAKE_MPS2).astype(int) - (slope < -BRAKE_MPS2).astype(int)
