"""Labels of one segment, read from the recorded motion by time. Computed here once; later stages only format them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driving.clock import US_PER_S, SegmentTimes, Window, plan_edges, plan_midpoints, to_us
from driving.ego_motion import EgoMotion, extent_of_future, future_pose, sample_motion

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
    limit_us = max(start_us + to_us(FUTURE_S), times.target.stop_us)
    end_us = max(extent_of_future(motion, start_us, limit_us, max_gap_s), times.target.stop_us)
    edges_us = plan_edges(times.target, fps, until_us=limit_us)
    edges_us = edges_us[edges_us <= end_us]
    poses = future_pose(motion, edges_us, max_gap_s)
    return SegmentLabels(
        targets, observed, poses, np.arange(len(edges_us)) * times.target.duration_us / (US_PER_S * len(targets))
    )
