"""Where there are too few recordings: one recording split in time, with a gap between the sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from data_prep.split_rule import LEFT_OUT, TIME_TOLERANCE_S, SplitRow, SplitRule
from driving.errors import DrivingError


def plan_time_sides(rows: Sequence[SplitRow], rule: SplitRule) -> tuple[list[str], tuple[str, ...]]:
    """Split every group in time: train first, then val, then test, with a gap between.

    In the gap lie the rows that would share a second with the next side: no target of one side is an input of another.
    A group too short for all three sides goes without val rather than without test.

    Returns:
        (side of every row, groups without val).

    Raises:
        DrivingError: A group is too short even so.
    """
    by_group: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_group[row.group].append(index)
    sides = [LEFT_OUT] * len(rows)
    without_val = []
    for group, members in sorted(by_group.items()):
        members.sort(key=lambda index: (rows[index].recording, rows[index].start_s))
        planned = _cut_group(rows, members, rule.ratios)
        if planned is None and len(rule.ratios) > 1:
            planned = _cut_group(rows, members, {"test": rule.test_ratio})
            without_val.append(group)
        if planned is None:
            raise DrivingError(
                f"{group} has {len(members)} segments, too few to be split in time with a gap between the sides "
                "(at least 3, and 5 with val); use a longer recording"
            )
        for index, side in planned.items():
            sides[index] = side
    return sides, tuple(without_val)


def _cut_group(rows: Sequence[SplitRow], members: list[int], ratios: dict[str, float]) -> dict[int, str] | None:
    """The side of each member, in time; None where nothing would be left to train on."""
    planned: dict[int, str] = {}
    left = members
    for side, ratio in ratios.items():  # test is cut off the end first, then val
        num_taken = max(1, round(len(members) * ratio))
        left, taken = left[:-num_taken], left[-num_taken:]
        planned |= dict.fromkeys(taken, side)
        if left:
            left = _leave_gap(rows, left, rows[taken[0]])
        if not left:
            return None
    return planned | dict.fromkeys(left, "train")


def _leave_gap(rows: Sequence[SplitRow], before: list[int], first_after: SplitRow) -> list[int]:
    """Drop rows from the end of `before` until none shares time with the first row of the next side."""
    end = len(before)
    if rows[before[-1]].recording != first_after.recording:
        return before[:-1]  # clocks of two recordings cannot be compared; leave one segment out
    while (
        end
        and rows[before[end - 1]].recording == first_after.recording
        and (rows[before[end - 1]].stop_s > first_after.start_s + TIME_TOLERANCE_S)
    ):
        end -= 1
    return before[:end]
