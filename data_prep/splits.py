"""Which rows are trained on, which choices are made on, and which only the final report reads.

    rows ──choose_rows──▶ fewer rows ──plan_splits──▶ SplitPlan(a side a row) ──check_leakage──▶ silent, or an error

Pure functions: nothing is read or written. What must not be cut is the *group* (clip, ride, scene). Its side is the
dataset's official one where it has one, else a hash of the group's name, so that it stays when the data grow.
Fewer groups than sides are an error, or with leave are split in time (split_time.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_prep.split_rows import SplitRows
from data_prep.split_rule import OUT, RANK, SIDES, SplitPlan, SplitRule, hash_fraction
from data_prep.split_time import plan_time_sides
from driving.errors import DrivingError


def choose_rows(rows: SplitRows, num_rows: int, seed: int) -> np.ndarray:
    """Choose some rows evenly over recordings: one of each before a second of any.

    Returns:
        Indices into `rows`, ascending; all of them where there are no more than `num_rows`.
    """
    places = np.arange(len(rows))
    if not len(rows):
        return places
    codes = rows.recording.codes
    fractions = np.fromiter((hash_fraction(seed, name) for name in rows.read_segments(places)), np.float64, len(rows))
    order = np.lexsort((places, fractions, codes))
    is_first = np.concatenate([[True], np.diff(codes[order]) != 0])
    firsts = np.flatnonzero(is_first)
    ranks = np.empty(len(rows), dtype=np.int64)
    ranks[order] = places - firsts[np.cumsum(is_first) - 1]
    of_recording = np.array([hash_fraction(seed, name) for name in rows.recording.names])
    return np.sort(np.lexsort((places, of_recording[codes], ranks))[:num_rows])


def plan_splits(rows: SplitRows, rule: SplitRule) -> SplitPlan:
    """Give every row its side.

    Raises:
        DrivingError: There are fewer groups than sides and rows may not be split in time, or nothing may be trained on.
    """
    official = _read_official_sides(rows) if rule.by == "official" else {}
    used = rows.group.list_used()
    groups = sorted(rows.group.names[code] for code in used)
    num_sides = 1 + len(rule.ratios)
    if len(groups) < num_sides:
        _check_may_split_in_time(groups, num_sides, rule)
        codes, without_val = plan_time_sides(rows, rule)
        return SplitPlan(codes, "time", without_val=without_val)
    side_of = plan_group_sides(groups, {group: side for group, (side, _) in official.items()}, rule)
    moved = fill_empty_sides(side_of, {group: side for group, (side, _) in official.items()}, rule)
    cut = {group: side_of[group] for group, (_, is_cut) in official.items() if is_cut}
    is_all_official = len(official) == len(groups)
    rule_name = "hash" if not official else "official" if is_all_official else "official and hash"
    of_group = np.full(len(rows.group.names), OUT, dtype=np.int8)
    of_group[used] = [RANK[side_of[rows.group.names[code]]] for code in used]
    return SplitPlan(of_group[rows.group.codes], rule_name, moved, cut)


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


def _read_official_sides(rows: SplitRows) -> dict[str, tuple[str, bool]]:
    """group -> (its official side, whether the official split cuts it). A cut group goes to the held-out side."""
    names = rows.official.names
    unknown = [code for code in rows.official.list_used() if names[code] not in ("", *SIDES)]
    if unknown:
        row = np.flatnonzero(np.isin(rows.official.codes, unknown))[:1]
        raise DrivingError(
            f"segment {next(rows.read_segments(row))} has the split {names[rows.official.codes[row[0]]]!r}, "
            f"not one of {', '.join(SIDES)}"
        )
    ranks = np.array([RANK.get(name, OUT) for name in names], dtype=np.int8)[rows.official.codes]
    is_told = ranks != OUT
    groups = rows.group.codes[is_told]
    lowest = np.full(len(rows.group.names), len(SIDES), dtype=np.int8)
    highest = np.full(len(rows.group.names), OUT, dtype=np.int8)
    np.minimum.at(lowest, groups, ranks[is_told])
    np.maximum.at(highest, groups, ranks[is_told])
    return {
        rows.group.names[code]: (SIDES[highest[code]], bool(lowest[code] < highest[code]))
        for code in np.flatnonzero(highest != OUT).tolist()
    }


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
            if sizes[now] > 1 and (group not in official or RANK[side] >= RANK[official[group]])
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
