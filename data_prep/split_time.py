"""Where there are too few recordings: one recording split in time, with a gap between the sides."""

from __future__ import annotations

import numpy as np

from data_prep.split_rows import SplitRows
from data_prep.split_rule import OUT, RANK, TIME_TOLERANCE_S, SplitRule
from driving.errors import DrivingError


def plan_time_sides(rows: SplitRows, rule: SplitRule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Split every group in time: train first, then val, then test, with a gap between.

    In the gap lie the rows that would share a second with the next side: no target of one side is an input of another.
    A group too short for all three sides goes without val rather than without test.

    Returns:
        ((N,) int8 RANK of every row's side or OUT, groups without val).

    Raises:
        DrivingError: A group is too short even so.
    """
    place_of_name = np.argsort(np.argsort(rows.recording.names))  # recordings come in the order of their names
    codes = np.full(len(rows), OUT, dtype=np.int8)
    without_val = []
    for group in sorted(rows.group.list_used(), key=rows.group.names.__getitem__):
        members = np.flatnonzero(rows.group.codes == group)
        members = members[np.lexsort((rows.start_s[members], place_of_name[rows.recording.codes[members]]))]
        planned = _cut_group(rows, members, rule.ratios)
        if planned is None and len(rule.ratios) > 1:
            planned = _cut_group(rows, members, {"test": rule.test_ratio})
            without_val.append(rows.group.names[group])
        if planned is None:
            raise DrivingError(
                f"{rows.group.names[group]} has {len(members)} segments, too few to be split in time with a gap "
                "between the sides (at least 3, and 5 with val); use a longer recording"
            )
        for side, taken in planned.items():
            codes[taken] = RANK[side]
    return codes, tuple(without_val)


def _cut_group(rows: SplitRows, members: np.ndarray, ratios: dict[str, float]) -> dict[str, np.ndarray] | None:
    """The members of each side, in time; None where nothing would be left to train on."""
    planned: dict[str, np.ndarray] = {}
    left = members
    for side, ratio in ratios.items():  # test is cut off the end first, then val
        num_taken = max(1, round(len(members) * ratio))
        left, planned[side] = left[:-num_taken], left[-num_taken:]
        if len(left):
            left = _leave_gap(rows, left, planned[side][0])
        if not len(left):
            return None
    return {**planned, "train": left}


def _leave_gap(rows: SplitRows, before: np.ndarray, first_after: int) -> np.ndarray:
    """Drop rows from the end of `before` until none shares time with the first row of the next side."""
    recordings = rows.recording.codes[before]
    if recordings[-1] != rows.recording.codes[first_after]:
        return before[:-1]  # clocks of two recordings cannot be compared; leave one segment out
    shares = (recordings == recordings[-1]) & (rows.stop_s[before] > rows.start_s[first_after] + TIME_TOLERANCE_S)
    apart = np.flatnonzero(~shares)
    return before[: apart[-1] + 1 if len(apart) else 0]
