"""The last look before a dataset is written: nothing of one side is also on another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_prep.split_rows import SplitRows
from data_prep.split_rule import OUT, SIDES, TIME_TOLERANCE_S, SplitPlan
from driving.errors import DrivingError

Leak = tuple[int, str]  # the row at which it shows, and what is wrong


def check_leakage(rows: SplitRows, plan: SplitPlan) -> None:
    """Raise where anything of one side is also on another.

    Checked: a segment listed twice, a group on two sides (unless split in time), one video on two sides, and two
    segments of one recording that share a moment and lie on two sides.

    Raises:
        DrivingError: The first leak found, with the names.
    """
    leaks = [*_find_repeated(rows), *_find_cut_groups(rows, plan), *_find_shared_videos(rows, plan)]
    if leaks:
        raise DrivingError(min(leaks, key=lambda leak: leak[0])[1])
    for members in _list_cut_recordings(rows, plan):
        _check_overlap(rows, plan, members)


def _find_repeated(rows: SplitRows) -> Iterator[Leak]:
    """The first segment that is listed a second time."""
    places = _find_equal(rows.segment_hashes)
    seen: set[str] = set()
    for place, name in zip(places.tolist(), rows.read_segments(places), strict=True):
        if name in seen:
            yield place, f"segment {name} is listed twice; make the segments again"
            return
        seen.add(name)


def _find_cut_groups(rows: SplitRows, plan: SplitPlan) -> Iterator[Leak]:
    """The first row of a group that is on another side than the group's first row."""
    if plan.is_one_recording:
        return
    kept = np.flatnonzero(plan.codes != OUT)
    side_of = np.full(len(rows.group.names), OUT, dtype=np.int8)
    side_of[rows.group.codes[kept[::-1]]] = plan.codes[kept[::-1]]  # the first row is written last, and stays
    cut = kept[plan.codes[kept] != side_of[rows.group.codes[kept]]]
    if len(cut):
        group = rows.group.codes[cut[0]]
        first, other = SIDES[side_of[group]], SIDES[plan.codes[cut[0]]]
        yield int(cut[0]), f"leakage: {rows.group.names[group]} is in {first} and in {other}"


def _find_shared_videos(rows: SplitRows, plan: SplitPlan) -> Iterator[Leak]:
    """The first row whose video is on another side already."""
    kept = np.flatnonzero(plan.codes != OUT)
    places = kept[_find_equal(rows.video_hashes[kept])]
    if not (np.diff(plan.codes[places]) != 0).any():
        return  # shared perhaps, but by one side
    side_of: dict[str, int] = {}
    for place, video in zip(places.tolist(), rows.read_videos(places), strict=True):
        side = plan.codes[place]
        first = side_of.setdefault(video, side)
        if first != side:
            yield place, f"leakage: the video {video} is in {SIDES[first]} and in {SIDES[side]}"
            return


def _find_equal(hashes: np.ndarray) -> np.ndarray:
    """Increasing places of the values that stand more than once."""
    ordered = np.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(hashes, repeated)) if len(repeated) else np.empty(0, dtype=np.int64)


def _list_cut_recordings(rows: SplitRows, plan: SplitPlan) -> Iterator[np.ndarray]:
    """Rows of each recording that has rows on two sides, in the order of their first rows."""
    kept = np.flatnonzero(plan.codes != OUT)
    recordings = rows.recording.codes[kept]
    lowest = np.full(len(rows.recording.names), len(SIDES), dtype=np.int8)
    highest = np.full(len(rows.recording.names), OUT, dtype=np.int8)
    np.minimum.at(lowest, recordings, plan.codes[kept])
    np.maximum.at(highest, recordings, plan.codes[kept])
    chosen = kept[(lowest < highest)[recordings]]
    codes = rows.recording.codes[chosen]
    for recording in dict.fromkeys(codes.tolist()):
        yield chosen[codes == recording]


def _check_overlap(rows: SplitRows, plan: SplitPlan, members: np.ndarray) -> None:
    named = zip(
        rows.start_s[members].tolist(),
        rows.stop_s[members].tolist(),
        [SIDES[code] for code in plan.codes[members]],
        rows.read_segments(members),
        strict=True,
    )
    latest: dict[str, tuple[float, str]] = {}  # side -> (latest end so far, of which segment)
    for start_s, stop_s, side, segment in sorted(named):
        for other, (other_stop_s, other_segment) in latest.items():
            if other != side and start_s < other_stop_s - TIME_TOLERANCE_S:
                raise DrivingError(f"leakage: {other_segment} in {other} and {segment} in {side} share recorded time")
        if stop_s > latest.get(side, (float("-inf"), ""))[0]:
            latest[side] = (stop_s, segment)
