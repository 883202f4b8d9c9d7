"""Labels of one segment, read from the recorded motion by time. Computed here once; later stages only format them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from driving.clock import US_PER_S, SegmentTimes, Window, plan_edges, plan_midpoints, to_us
from driving.ego_motion import EgoMotion, extent_of_future, future_pose, read_motion, read_poses, sample_motion
from driving.errors import MotionError

FUTURE_S = 6.4  # as far as the longest-sighted public protocol scores


@dataclass(frozen=True)
class SegmentLabels:
    """What the vehicle did in and after a segment. T = frames of a segment, P = poses.

    Attributes:
        targets: (T, 2) float64 speed [m/s] and curvature [1/m, positive = left] at the target's midpoints.
        observed: (T, 2) float64, the same for the input window, from nothing after its end.
        future_pose: (P + 1, 3) float64 x, y [m], heading [rad] in the frame of the pose at the target's start; the
            first row is zero, the last is up to 6.4 s later, or where the recording ends or breaks.
        future_times_s: (P + 1,) float64 seconds after the target's start.
    """

    targets: np.ndarray
    observed: np.ndarray
    future_pose: np.ndarray
    future_times_s: np.ndarray


def label_segments(
    motion: EgoMotion, windows: Sequence[SegmentTimes], fps: float, *, max_gap_s: float, curvature: str
) -> list[SegmentLabels | MotionError]:
    """Read the labels of segments of one recording, all of one length; an error where `label_segment` raises it.

    The same numbers as one by one. Where the motion has no gap, the segments that it covers wholly are read at once: in
    a tenth of the time.
    """
    rules = {"max_gap_s": max_gap_s, "curvature": curvature}
    together = _find_covered(motion, windows, fps, **rules)
    labels: dict[int, SegmentLabels | MotionError] = dict(
        zip(together, _label_covered(motion, [windows[place] for place in together], fps, curvature), strict=True)
    )
    for place in set(range(len(windows))) - set(together):
        try:
            labels[place] = label_segment(motion, windows[place], fps, **rules)
        except MotionError as error:
            labels[place] = error
    return [labels[place] for place in range(len(windows))]


def _find_covered(
    motion: EgoMotion, windows: Sequence[SegmentTimes], fps: float, *, max_gap_s: float, curvature: str
) -> list[int]:
    """Places of the windows of which all, up to the last pose, lies within an unbroken motion."""
    column = motion.curvature_per_m
    is_readable = curvature == "pose" or (column is not None and bool(np.isfinite(column).all()))
    if not windows or not is_readable or not motion.is_unbroken(max_gap_s):
        return []
    first_us, last_us = int(motion.timestamps_us[0]), int(motion.timestamps_us[-1])
    target = windows[0].target
    future_us = int(plan_edges(target, fps, until_us=_limit(target))[-1]) - target.start_us
    return [
        place
        for place, times in enumerate(windows)
        if first_us <= times.observed.start_us and times.target.start_us + max(future_us, target.duration_us) <= last_us
    ]


def _label_covered(
    motion: EgoMotion, windows: Sequence[SegmentTimes], fps: float, curvature: str
) -> Iterator[SegmentLabels]:
    if not windows:
        return
    first = windows[0].target
    moved_us = np.array([times.target.start_us - first.start_us for times in windows])[:, None]
    targets_us = plan_midpoints(first, fps) + moved_us
    observed_us = plan_midpoints(windows[0].observed, fps) + moved_us
    edges_us = plan_edges(first, fps, until_us=_limit(first)) + moved_us
    from_us, until_us = int(motion.timestamps_us[0]), int(motion.timestamps_us[-1])
    observed_until_us = np.array([[min(until_us, times.observed.stop_us)] for times in windows])
    targets = np.stack(read_motion(motion, targets_us, from_us, until_us, curvature), axis=-1)
    observed = np.stack(read_motion(motion, observed_us, from_us, observed_until_us, curvature), axis=-1)
    future_times_s = np.arange(edges_us.shape[1]) * first.duration_us / (US_PER_S * targets.shape[1])
    for place, poses in enumerate(read_poses(motion, edges_us)):
        yield SegmentLabels(targets[place], observed[place], poses, future_times_s)


def _limit(target: Window) -> int:
    """The latest instant of which a pose is kept."""
    return max(target.start_us + to_us(FUTURE_S), target.stop_us)


def label_segment(
    motion: EgoMotion, times: SegmentTimes, fps: float, *, max_gap_s: float, curvature: str
) -> SegmentLabels:
    """Read a segment's labels.

    Raises:
        MotionError: The motion does not cover the two windows, or has a gap or a bad value there.
    """

    def read(window: Window, *, is_blind_after: bool) -> np.ndarray:
        instants_us = plan_midpoints(window, fps)
        sampled = sample_motion(motion, window, instants_us, max_gap_s, curvature, is_blind_after=is_blind_after)
        return sampled.to_pairs()

    targets, observed = read(times.target, is_blind_after=False), read(times.observed, is_blind_after=True)
    start_us = times.target.start_us
    limit_us = _limit(times.target)
    end_us = max(extent_of_future(motion, start_us, limit_us, max_gap_s), times.target.stop_us)
    edges_us = plan_edges(times.target, fps, until_us=limit_us)
    edges_us = edges_us[edges_us <= end_us]
    poses = future_pose(motion, edges_us, max_gap_s)
    return SegmentLabels(
        targets, observed, poses, np.arange(len(edges_us)) * times.target.duration_us / (US_PER_S * len(targets))
    )
