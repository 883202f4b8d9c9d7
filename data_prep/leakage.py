"""The last look before a dataset is written: nothing of one side is also on another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from data_prep.split_rule import LEFT_OUT, TIME_TOLERANCE_S, SplitPlan, SplitRow
from driving.errors import DrivingError


def check_leakage(rows: Sequence[SplitRow], plan: SplitPlan) -> None:
    """Raise where anything of one side is also on another.

    Checked: a segment listed twice, a group on two sides (unless split in time), one video on two sides, and two
    segments of one recording that share a moment and lie on two sides.

    Raises:
        DrivingError: The first leak found, with the names.
    """
    side_of_group: dict[str, str] = {}
    side_of_video: dict[str, str] = {}
    seen: set[str] = set()
    by_recording: dict[str, list[tuple[float, float, str, str]]] = defaultdict(list)
    for row, side in zip(rows, plan.sides, strict=True):
        if row.segment in seen:
            raise DrivingError(f"segment {row.segment} is listed twice; make the segments again")
        seen.add(row.segment)
        if side == LEFT_OUT:
            continue
        if not plan.is_one_recording and side_of_group.setdefault(row.group, side) != side:
            raise DrivingError(f"leakage: {row.group} is in {side_of_group[row.group]} and in {side}")
        if side_of_video.setdefault(row.video, side) != side:
            raise DrivingError(f"leakage: the video {row.video} is in {side_of_video[row.video]} and in {side}")
        by_recording[row.recording].append((row.start_s, row.stop_s, side, row.segment))
    for members in by_recording.values():
        _check_overlap(sorted(members))


def _check_overlap(members: list[tuple[float, float, str, str]]) -> None:
    latest: dict[str, tuple[float, str]] = {}  # side -> (latest end so far, of which segment)
    for start_s, stop_s, side, segment in members:
        for other, (other_stop_s, other_segment) in latest.items():
            if other != side and start_s < other_stop_s - TIME_TOLERANCE_S:
                raise DrivingError(f"leakage: {other_segment} in {other} and {segment} in {side} share recorded time")
        if stop_s > latest.get(side, (float("-inf"), ""))[0]:
            latest[side] = (stop_s, segment)
