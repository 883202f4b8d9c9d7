"""`--ego-motion-dir`: labels computed again, from ego motion files elsewhere than where the segments found theirs.

For the seed's extracted layout, whose segments and ego motion are two folders; the clock zero is the clip anchor, 0 us.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.segment_labels import label_segment
from driving.clock import SegmentTimes, Window, to_us
from driving.ego_motion import MAX_GAP_S, EgoMotion
from driving.errors import SourceError


def build_relabel(
    folder: Path, fps: float, duration_s: float, segments_plan: dict[str, Any]
) -> Callable[[dict[str, Any]], dict[str, list]]:
    """A function from a row of the index to its labels, read from `folder`.

    It raises MotionError where a clip's file is missing or does not cover the segment.

    Args:
        segments_plan: how the segments were made; its max_gap_s and curvature are kept.

    Raises:
        SourceError: There is no such folder.
    """
    from data_prep.sources.ego_motion_table import find_ego_motion, read_ego_motion_file

    if not folder.is_dir():
        raise SourceError(f"--ego-motion-dir {folder} is not a folder")
    max_gap_s, curvature = segments_plan.get("max_gap_s", MAX_GAP_S), segments_plan.get("curvature", "pose")

    @lru_cache(maxsize=4)  # rows come clip by clip
    def read(clip: str) -> EgoMotion:
        return read_ego_motion_file(find_ego_motion(folder, clip))

    def relabel(row: dict[str, Any]) -> dict[str, list]:
        times = plan_times(float(row["start_second"]), duration_s)
        labels = label_segment(read(row["clip_uuid"]), times, fps, max_gap_s=max_gap_s, curvature=curvature)
        return {name: getattr(labels, name).tolist() for name in ("targets", "observed", "future_pose")}

    return relabel


def plan_times(start_s: float, duration_s: float) -> SegmentTimes:
    """The windows of the segment that starts `start_s` after the clip anchor."""
    start_us, middle_us, stop_us = (to_us(start_s + i * duration_s) for i in range(3))
    return SegmentTimes(round(start_s / duration_s), Window(start_us, middle_us), Window(middle_us, stop_us))


def hash_ego_motion(folder: Path) -> str:
    """A hash of the names and sizes of the folder's ego motion files: tells one download from another at once."""
    listing = sorted((path.name, path.stat().st_size) for path in folder.rglob("*.egomotion.parquet"))
    return hashlib.sha256(repr(listing).encode()).hexdigest()
