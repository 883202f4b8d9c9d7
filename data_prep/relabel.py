"""`--ego-motion-dir`: labels computed again, from ego motion files elsewhere than where the segments found theirs.

For the seed's extracted layout, whose segments and ego motion are two folders; the clock zero is the clip anchor, 0 us.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from driving.clock import Window, plan_edges, plan_midpoints, to_us
from driving.ego_motion import EgoMotion, extent_of_future, future_pose, sample_motion
from driving.errors import SourceError

FUTURE_S = 6.4


def build_relabel(folder: Path, fps: float, duration_s: float) -> Callable[[dict[str, Any]], dict[str, list]]:
    """A function from a row of the index to its labels, read from `folder`.

    It raises MotionError where a clip's file is missing or does not cover the segment.

    Raises:
        SourceError: There is no such folder.
    """
    from data_prep.sources.ego_motion_table import find_ego_motion, read_ego_motion_file

    if not folder.is_dir():
        raise SourceError(f"--ego-motion-dir {folder} is not a folder")

    @lru_cache(maxsize=4)  # rows come clip by clip
    def read(clip: str) -> EgoMotion:
        return read_ego_motion_file(find_ego_motion(folder, clip))

    return lambda row: label_segment(read(row["clip_uuid"]), float(row["start_second"]), fps, duration_s)


def label_segment(motion: EgoMotion, start_s: float, fps: float, duration_s: float) -> dict[str, list]:
    """Targets, observed motion and future pose of the segment that starts at `start_s` on the motion's clock.

    Raises:
        MotionError: The recording does not cover it.
    """
    observed = Window(to_us(start_s), to_us(start_s + duration_s))
    target = Window(observed.stop_us, to_us(start_s + 2 * duration_s))
    targets = sample_motion(motion, target, plan_midpoints(target, fps))
    seen = sample_motion(motion, observed, plan_midpoints(observed, fps))
    end_us = extent_of_future(motion, target.start_us, target.start_us + to_us(max(FUTURE_S, duration_s)))
    edges_us = plan_edges(Window(target.start_us, target.start_us + to_us(max(FUTURE_S, duration_s))), fps)
    poses = future_pose(motion, edges_us[edges_us <= max(end_us, target.stop_us)])
    return {"targets": targets.to_pairs().tolist(), "observed": seen.to_pairs().tolist(), "future_pose": poses.tolist()}


def hash_ego_motion(folder: Path) -> str:
    """A hash of the names and sizes of the folder's ego motion files: tells one download from another at once."""
    listing = sorted((path.name, path.stat().st_size) for path in folder.rglob("*.egomotion.parquet"))
    return hashlib.sha256(repr(listing).encode()).hexdigest()
