"""Which rows are trained on, which choices are made on, and which only the final report reads.

    rows ──choose_rows──▶ fewer rows ──plan_splits──▶ SplitPlan(sides: one a row) ──check_leakage──▶ silent, or an error

Pure functions: nothing is read or written. What must not be cut is the *group* (clip, ride, scene). Its side is the
dataset's official one where it has one, else a hash of the group's name, so that it stays when the data grow.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from driving.errors import DrivingError

SIDES = ("train", "val", "test")
LEFT_OUT = ""
TIME_TOLERANCE_S = 1e-6  # seconds that touch do not overlap, whatever their last binary digit
_RANK = {side: rank for rank, side in enumerate(SIDES)}  # higher = held out further


class SplitRow(NamedTuple):
    """What splitting needs to know of one segment.

    Attributes:
        segment: its id.
        recording: its recording's id; `start_s` and `stop_s` are on that recording's clock.
        group: what must stay on one side.
        official: "train", "val", "test", or "" where the dataset does not say.
        start_s, stop_s: from the start of its input to the end of its target, half-open.
        video: identity of its pixels (path, member, start).
    """

    segment: str
    recording: str
    group: str
    official: str
    start_s: float
    stop_s: float
    video: str


@dataclass(frozen=True)
class SplitRule:
    """How sides are chosen.

    Attributes:
        test_ratio, val_ratio: share of the groups; 0 for no such side.
        by: "official" (the dataset's split first) or "hash" (as if it had none).
        allow_one_recording: split inside groups, in time, where there are fewer groups than sides.

    Raises:
        DrivingError: The ratios leave nothing to train on.
    """

    test_ratio: float = 0.1
    val_ratio: float = 0.05
    seed: int = 7
    by: str = "official"
    allow_one_recording: bool = False

    def __post_init__(self) -> None:
        if min(self.test_ratio, self.val_ratio) < 0 or self.test_ratio + self.val_ratio >= 1:
            raise DrivingError(
                f"--test-ratio {self.test_ratio} and --val-ratio {self.val_ratio} must not be negative "
                "and must leave something to train on (sum below 1)"
            )

    @property
    def ratios(self) -> dict[str, float]:
        """The held-out sides asked for and their shares."""
        return {side: ratio for side, ratio in (("test", self.test_ratio), ("val", self.val_ratio)) if ratio > 0}


@dataclass(frozen=True)
class SplitPlan:
    """The side of every row, in the order of the rows.

    Attributes:
        sides: "train", "val", "test", or LEFT_OUT for a row in the gap between two sides of one recording.
        rule: "official", "hash", "official and hash" or "time".
        moved: groups that changed side so that none is empty -> their side now.
        cut: groups that the official split cuts -> the held-out side they went to.
    """

    sides: list[str]
    rule: str
    moved: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)

    @property
    def is_one_recording(self) -> bool:
        """Whether sides share a recording: such a test says little about other roads, and reports are stamped."""
        return self.rule == "time"

    def to_json(self) -> dict[str, Any]:
        """Plain values for dataset.json; long lists of groups are cut to 20 and counted."""
        return {
            "rule": self.rule,
            "one_recording": self.is_one_recording,
            "num_moved_groups": len(self.moved),
            "moved_groups": dict(sorted(self.moved.items())[:20]),
            "num_cut_groups": len(self.cut),
            "cut_groups": dict(sorted(self.cut.items())[:20]),
            "num_left_out": self.sides.count(LEFT_OUT),
        }


def hash_fraction(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the key: equal on every machine, for ever."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def choose_rows(rows: Sequence[SplitRow], num_rows: int, seed: int) -> list[int]:
    """Choose some rows evenly over recordings: one of each before a second of any.

    Returns:
        Indices into `rows`, ascending; all of them where there are no more than `num_rows`.
    """
    by_recording: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_recording[row.recording].append((hash_fraction(seed, row.segment), index))
    ranked = [
        (rank, hash_fraction(seed, recording), index)
        for recording, members in by_recording.items()
        for rank, (_, index) in enumerate(sorted(members))
    ]
    return sorted(index for *_, index in sorted(ranked)[:num_rows])


def plan_splits(rows: Sequence[SplitRow], rule: SplitRule) -> SplitPlan:
    """Give every row its side.

    Raises:
        DrivingError: There are fewer groups than sides and rows may not be split in time, or nothing may be trained on.
    """
    official = _read_official_sides(rows) if rule.by == "official" else {}
    groups = sorted({row.group for row in rows})
    num_sides = 1 + len(rule.ratios)
    if len(groups) < num_sides:
        _check_may_split_in_time(groups, num_sides, rule)
        return SplitPlan(plan_time_sides(rows, rule), "time")
    side_of = plan_group_sides(groups, {group: side for group, (side, _) in official.items()}, rule)
    moved = fill_empty_sides(side_of, {group: side for group, (side, _) in official.items()}, rule)
    cut = {group: side_of[group] for group, (_, is_cut) in official.items() if is_cut}
    is_all_official = len(official) == len(groups)
    rule_name = "hash" if not official else "official" if is_all_official else "official and hash"
    return SplitPlan([side_of[row.group] for row in rows], rule_name, moved, cut)


def _check_may_split_in_time(groups: list[str], num_sides: int, rule: SplitRule) -> None:
    if rule.allow_one_recording:
        return
    if not groups:
        raise DrivingError("there is no row to split")
    wanted = ", ".join(side for side in SIDES if side == "train" or side in rule.ratios)
    if len(groups) == 1:
        raise DrivingError(
            f"all rows come from one recording ({groups[0]}): a test on it says nothing about other roads; "
            "add recordings, or pass --allow-one-recording to split it in time (every report will say so)"
        )
    raise DrivingError(
        f"{len(groups)} recordings ({', '.join(groups)}) cannot be shared among {num_sides} sides ({wanted}); "
        "add recordings, pass --val-ratio 0, or pass --allow-one-recording to split each in time"
    )


def _read_official_sides(rows: Sequence[SplitRow]) -> dict[str, tuple[str, bool]]:
    """group -> (its official side, whether the official split cuts it). A cut group goes to the held-out side."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.official:
            if row.official not in _RANK:
                raise DrivingError(
                    f"segment {row.segment} has the split {row.official!r}, not one of {', '.join(SIDES)}"
                )
            found[row.group].add(row.official)
    return {group: (max(sides, key=_RANK.__getitem__), len(sides) > 1) for group, sides in found.items()}


def plan_group_sides(groups: Sequence[str], official: dict[str, str], rule: SplitRule) -> dict[str, str]:
    """Each group's side before empty sides are filled.

    A group without an official side is hashed. So is an official training group where the dataset has no val (or no
    test) at all: what is missing is taken out of train, never out of what is held out.
    """
    missing = {side: ratio for side, ratio in rule.ratios.items() if side not in official.values()}
    side_of = {}
    for group in groups:
        known = official.get(group)
        if known is None:
            side_of[group] = _hash_side(group, rule.ratios, rule.seed)
        elif known == "train":
            side_of[group] = _hash_side(group, missing, rule.seed)
        else:
            side_of[group] = known
    return side_of


def _hash_side(group: str, ratios: dict[str, float], seed: int) -> str:
    fraction = hash_fraction(seed, group)
    for side, ratio in ratios.items():
        if fraction < ratio:
            return side
        fraction -= ratio
    return "train"


def fill_empty_sides(side_of: dict[str, str], official: dict[str, str], rule: SplitRule) -> dict[str, str]:
    """Move groups, changing `side_of`, until no side that was asked for is empty.

    The largest side gives, and of its groups the one whose hash lies nearest. A group with an official side only moves
    to where it is held out further: nothing officially held out is ever trained on.

    Returns:
        The groups that moved, and where to.

    Raises:
        DrivingError: An empty side cannot be filled.
    """
    moved: dict[str, str] = {}
    for side in ("train", *rule.ratios):
        sizes = Counter(side_of.values())
        if sizes[side]:
            continue
        donors = [
            group
            for group, now in side_of.items()
            if sizes[now] > 1 and (group not in official or _RANK[side] >= _RANK[official[group]])
        ]
        if not donors:
            raise DrivingError(
                f"no group can be used for {side}: the official split gives "
                f"{', '.join(f'{count} {name}' for name, count in sorted(sizes.items()))}; "
                "add recordings, or pass --split-by hash to ignore the official split"
            )
        # Towards train the highest hash is nearest, towards a held-out side the lowest.
        toward = -1.0 if side == "train" else 1.0
        order = {group: (-sizes[side_of[group]], toward * hash_fraction(rule.seed, group), group) for group in donors}
        chosen = min(donors, key=order.__getitem__)
        side_of[chosen] = moved[chosen] = side
    return moved


def plan_time_sides(rows: Sequence[SplitRow], rule: SplitRule) -> list[str]:
    """Split every group in time: train first, then val, then test, with a gap between.

    In the gap lie the rows that would share a second with the next side: no target of one side is an input of another.

    Raises:
        DrivingError: A group has too few segments.
    """
    by_group: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_group[row.group].append(index)
    sides = [LEFT_OUT] * len(rows)
    for group, members in sorted(by_group.items()):
        members.sort(key=lambda index: (rows[index].recording, rows[index].start_s))
        left = members
        for side, ratio in rule.ratios.items():  # test is cut off the end first, then val
            num_taken = max(1, round(len(members) * ratio))
            left, taken = left[:-num_taken], left[-num_taken:]
            for index in taken:
                sides[index] = side
            if left:
                left = _leave_gap(rows, left, rows[taken[0]])
            if not left:
                needed = 2 * len(rule.ratios) + 1
                raise DrivingError(
                    f"{group} has {len(members)} segments, too few to be split in time into "
                    f"{len(rule.ratios) + 1} sides with a gap between (at least {needed}); use a longer recording"
                )
        for index in left:
            sides[index] = "train"
    return sides


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
