"""Labels of a segments folder, computed again from the recording by time: do they say what the car did?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.audit.findings import FAIL, PASS, SKIP, Finding
from data_prep.audit.samples import Samples
from driving.clock import Window, plan_midpoints, to_us
from driving.ego_motion import EgoMotion, sample_motion
from driving.errors import MotionError

NAME = "labels"
MAX_VELOCITY_ERROR_MPS = 0.05
MAX_CURVATURE_ERROR_PER_M = 0.001


@dataclass(frozen=True)
class SegmentLabels:
    """The labels of one recording's segments.

    Attributes:
        start_s: (S,) of the observed window on the clip's clock.
        targets: S arrays (T, 2) of velocity and curvature in the window after it.
        fps: pairs per second; duration_s: length of a window.
        curvature: "pose" or "column", as the segments were made.
    """

    start_s: np.ndarray
    targets: list[np.ndarray]
    fps: float
    duration_s: float
    curvature: str = "pose"


def check_labels(samples: Samples, labels: SegmentLabels | None) -> Finding:
    """Recompute every target by time from the recorded pose, and name the mistake that explains a difference."""
    if labels is None:
        return Finding(NAME, samples.recording_id, SKIP, "", "no segments of this recording (--segments-path)")
    motion = EgoMotion(
        samples.timestamps_us,
        samples.position_m,
        samples.quaternion_xyzw,
        None,  # speed from the position: a label made from wrong velocity columns must not agree with itself
        samples.curvature_per_m,
    )
    windows, found, truths = [], [], []
    for start_s, target in zip(labels.start_s, labels.targets, strict=True):
        window = _target_window(samples, float(start_s), labels.duration_s)
        truth = _recompute(motion, window, plan_midpoints(window, labels.fps), labels.curvature)
        if truth is not None and len(truth) == len(target):
            windows.append(window)
            found.append(target)
            truths.append(truth)
    if not found:
        return Finding(NAME, samples.recording_id, SKIP, "", "no segment whose motion could be computed again")
    found, truth = np.array(found), np.array(truths)
    velocity_error, curvature_error = _worst_segment(found, truth)
    measured = f"{len(found)} segments, worst differs by {velocity_error:.3f} m/s and {curvature_error:.4f} 1/m"
    if velocity_error <= MAX_VELOCITY_ERROR_MPS and curvature_error <= MAX_CURVATURE_ERROR_PER_M:
        return Finding(NAME, samples.recording_id, PASS, measured, value=velocity_error)
    by_rows = [_recompute(motion, None, _row_instants(samples, window, labels.fps), "pose") for window in windows]
    fix = _explain(found, truth, None if any(rows is None for rows in by_rows) else np.array(by_rows))
    return Finding(NAME, samples.recording_id, FAIL, measured, fix, velocity_error)


def _clock_zero_us(samples: Samples) -> int:
    if samples.clock_zero_us is not None:
        return samples.clock_zero_us
    return int(samples.frame_times_us[0]) if samples.frame_times_us is not None else 0


def _target_window(samples: Samples, start_s: float, duration_s: float) -> Window:
    zero_us = _clock_zero_us(samples)
    return Window(zero_us + to_us(start_s + duration_s), zero_us + to_us(start_s + 2 * duration_s))


def _recompute(motion: EgoMotion, window: Window | None, instants_us: np.ndarray, curvature: str) -> np.ndarray | None:
    """(T, 2) velocity and curvature at instants, or None where the recording does not cover them."""
    window = window or Window(int(instants_us[0]), int(instants_us[-1]) + 1)
    try:
        return sample_motion(motion, window, instants_us, curvature=curvature).to_pairs()
    except MotionError:
        return None


def _row_instants(samples: Samples, window: Window, fps: float) -> np.ndarray:
    """When the rows were recorded that one gets by counting rows at the first rows' rate, as if row 0 were at 0 s."""
    first_step_us = float(np.median(np.diff(samples.timestamps_us[:200])))
    wanted_us = plan_midpoints(window, fps) - _clock_zero_us(samples)
    rows = np.clip(np.round(wanted_us / first_step_us).astype(int), 0, len(samples.timestamps_us) - 1)
    return samples.timestamps_us[rows]


def _worst_segment(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Largest mean error of a segment: speed, and curvature where the car moves."""
    velocity = np.abs(found[..., 0] - truth[..., 0]).mean(axis=1)
    is_moving = np.abs(truth[..., 0]) > 1.0
    curvature = (np.abs(found[..., 1] - truth[..., 1]) * is_moving).mean(axis=1)
    return float(velocity.max()), float(curvature.max())


def _explain(found: np.ndarray, truth: np.ndarray, by_rows: np.ndarray | None) -> str:
    """The known mistake that comes nearest to the labels, if one comes near."""
    velocity, curvature = truth[..., 0], truth[..., 1]
    suspects = {
        "the sign of the curvature is lost (abs)": np.stack([velocity, np.abs(curvature)], axis=-1),
        "the sign of the curvature is flipped (ours: positive = left)": np.stack([velocity, -curvature], axis=-1),
        "the speed is a norm: reversing reads as driving on": np.stack([np.abs(velocity), curvature], axis=-1),
    }
    if by_rows is not None:
        suspects["the labels were taken by row stride, not by time"] = by_rows
    distances = {hint: _distance(found, suspect) for hint, suspect in suspects.items()}
    nearest = min(distances, key=distances.__getitem__)
    again = "make the segments again with prepare_video_segments.py"
    if distances[nearest] < 0.25 * _distance(found, truth):
        return f"{nearest}; {again}"
    return f"the labels are of another time, unit or recording; {again}"


def _distance(found: np.ndarray, other: np.ndarray) -> float:
    """Mean difference with 0.01 1/m counted like 1 m/s."""
    difference = np.abs(found - other)
    return float(difference[..., 0].mean() + 100 * difference[..., 1].mean())
