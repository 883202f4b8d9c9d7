"""Splits: whole groups, official sides first, nothing empty, nothing leaked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitting import SplitRow, pack

from data_prep import leakage, splits
from data_prep.split_rule import LEFT_OUT, SIDES, SplitPlan, SplitRule, hash_fraction
from driving.errors import DrivingError


def plan_splits(rows: list[SplitRow], rule: SplitRule) -> SplitPlan:
    return splits.plan_splits(pack(rows), rule)


def check_leakage(rows: list[SplitRow], plan: SplitPlan) -> None:
    leakage.check_leakage(pack(rows), plan)


def choose_rows(rows: list[SplitRow], num_rows: int, seed: int) -> list[int]:
    return splits.choose_rows(pack(rows), num_rows, seed).tolist()


def row(group: str, second: float = 0, official: str = "", recording: str = "", video: str = "") -> SplitRow:
    name = f"{recording or group}_{second}"
    return SplitRow(name, recording or group, group, official, second, second + 2, video or f"{name}.mp4")


def rides(count: int, official: str = "", prefix: str = "ride", seconds: int = 1) -> list[SplitRow]:
    return [row(f"{prefix}{index:04d}", second, official) for index in range(count) for second in range(seconds)]


def sides_of(rows: list[SplitRow], rule: SplitRule) -> dict[str, str]:
    """group -> side, after checking that a group has only one."""
    plan = plan_splits(rows, rule)
    check_leakage(rows, plan)
    found = {(r.group, side) for r, side in zip(rows, plan.sides, strict=True)}
    assert len(found) == len({group for group, _ in found})
    return dict(found)


def test_the_hash_of_a_group_is_a_known_number():
    # python3 -c "import hashlib; print(int(hashlib.sha256(b'7:clip').hexdigest()[:12], 16) / 16**12)"
    assert hash_fraction(7, "clip") == pytest.approx(0.022439423468792796, abs=1e-12)


def test_shares_are_close_to_the_ratios_over_many_groups():
    counts = Counter(sides_of(rides(4000), SplitRule()).values())
    assert counts["test"] == pytest.approx(400, abs=60)
    assert counts["val"] == pytest.approx(200, abs=45)


def test_segments_of_a_group_stay_together_over_recordings():
    rows = [row(f"ride{i // 3}", second, recording=f"rec{i}") for i in range(60) for second in range(3)]
    assert len(sides_of(rows, SplitRule())) == 20


def test_a_group_keeps_its_side_when_the_data_grow():
    few, many = sides_of(rides(200), SplitRule()), sides_of(rides(400), SplitRule())
    assert {group: many[group] for group in few} == few


def test_the_order_of_rows_does_not_matter():
    rows = rides(50, seconds=2)
    assert sides_of(rows[::-1], SplitRule()) == sides_of(rows, SplitRule())


def test_another_seed_is_another_split():
    assert sides_of(rides(100), SplitRule(seed=7)) != sides_of(rides(100), SplitRule(seed=8))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=3, max_size=12), st.integers(0, 50))
def test_no_side_is_ever_empty(groups, seed):
    sides = sides_of([row(group) for group in sorted(groups)], SplitRule(0.01, 0.01, seed))
    assert set(sides.values()) == {"train", "val", "test"}


def test_groups_that_moved_are_named():
    plan = plan_splits(rides(3), SplitRule(1e-9, 1e-9))
    assert plan.rule == "hash"
    assert sorted(plan.moved.values()) == ["test", "val"]
    assert plan.to_json()["moved_groups"] == plan.moved


def test_too_large_ratios_leave_something_to_train_on():
    assert "train" in sides_of(rides(3), SplitRule(0.98, 0.01)).values()


def test_a_ratio_of_zero_makes_no_such_side():
    assert set(sides_of(rides(300), SplitRule(0.1, 0.0)).values()) == {"train", "test"}


def test_without_any_held_out_side_all_is_training():
    assert set(sides_of(rides(1), SplitRule(0.0, 0.0)).values()) == {"train"}


@pytest.mark.parametrize("ratios", [(-0.1, 0.1), (0.6, 0.4), (1.0, 0.0)])
def test_ratios_that_leave_nothing_to_train_on_are_refused(ratios):
    with pytest.raises(DrivingError, match="--test-ratio .* and --val-ratio .* must leave something to train on"):
        SplitRule(*ratios)


# official splits


def test_the_official_split_is_kept():
    rows = [*rides(5, "train", "a"), *rides(2, "val", "b"), *rides(3, "test", "c")]
    sides = sides_of(rows, SplitRule())
    assert {group[0] + side for group, side in sides.items()} == {"atrain", "bval", "ctest"}
    assert plan_splits(rows, SplitRule()).rule == "official"


def test_the_official_split_can_be_ignored():
    rows = [*rides(50, "train", "a"), *rides(50, "test", "b")]
    assert sides_of(rows, SplitRule(by="hash")) == sides_of(rides(50, "", "a") + rides(50, "", "b"), SplitRule())


def test_a_missing_val_is_taken_out_of_train_and_never_out_of_test():
    sides = sides_of([*rides(200, "train", "a"), *rides(30, "test", "b")], SplitRule())
    assert {side for group, side in sides.items() if group[0] == "b"} == {"test"}
    assert Counter(side for group, side in sides.items() if group[0] == "a")["val"] == pytest.approx(10, abs=9)


def test_a_missing_test_is_taken_out_of_train():
    sides = sides_of([*rides(200, "train", "a"), *rides(30, "val", "b")], SplitRule())
    assert {side for group, side in sides.items() if group[0] == "b"} == {"val"}
    assert "test" in sides.values()


def test_groups_without_an_official_side_are_hashed_beside_those_with_one():
    rows = [*rides(5, "train", "a"), *rides(2, "val", "b"), *rides(3, "test", "c"), *rides(100, "", "d")]
    assert {side for group, side in sides_of(rows, SplitRule()).items() if group[0] == "d"} == {"train", "val", "test"}
    assert plan_splits(rows, SplitRule()).rule == "official and hash"


@pytest.mark.parametrize(
    "officials, side", [(("train", "test"), "test"), (("train", "val"), "val"), (("val", "test", "train"), "test")]
)
def test_a_group_cut_by_the_official_split_goes_to_the_held_out_side(officials, side):
    cut = [row("cut", second, official) for second, official in enumerate(officials)]
    rows = [*rides(3, "train", "a"), *rides(2, "val", "b"), *rides(2, "test", "c"), *cut]
    assert sides_of(rows, SplitRule())["cut"] == side
    assert plan_splits(rows, SplitRule()).cut == {"cut": side}


def test_what_is_officially_held_out_is_never_trained_on():
    with pytest.raises(
        DrivingError, match="no group can be used for train: the official split gives 4 test.*--split-by hash"
    ):
        plan_splits(rides(4, "test"), SplitRule())


def test_an_official_test_group_does_not_fill_an_empty_val():
    rows = [*rides(1, "train", "a"), *rides(5, "test", "b")]
    with pytest.raises(DrivingError, match="no group can be used for val"):
        plan_splits(rows, SplitRule())


def test_an_unknown_official_side_is_refused():
    with pytest.raises(DrivingError, match="segment ride0000_0 has the split 'dev', not one of train, val, test"):
        plan_splits(rides(3, "dev"), SplitRule())


# too few groups


def test_one_recording_needs_leave():
    with pytest.raises(DrivingError, match=r"one recording \(ride0000\).*--allow-one-recording"):
        plan_splits(rides(1, seconds=20), SplitRule())


def test_two_recordings_need_leave_or_no_val():
    with pytest.raises(DrivingError, match=r"2 recordings .* 3 sides \(train, val, test\).*--val-ratio 0.*--allow-one"):
        plan_splits(rides(2, seconds=20), SplitRule())
    assert sorted(sides_of(rides(2), SplitRule(0.1, 0.0)).values()) == ["test", "train"]


def test_no_row_at_all_is_refused():
    with pytest.raises(DrivingError, match="there is no row to split"):
        plan_splits([], SplitRule())


def test_leave_changes_nothing_where_there_are_recordings_enough():
    allowed = SplitRule(allow_one_recording=True)
    assert sides_of(rides(30), allowed) == sides_of(rides(30), SplitRule())


def test_one_recording_is_split_in_time_with_a_gap_of_one_segment():
    rows = rides(1, seconds=20)
    plan = plan_splits(rows, SplitRule(allow_one_recording=True))
    # 10 % and 5 % of 20 are 2 and 1: test 18-19, gap 17, val 16, gap 15, train 0-14
    assert plan.sides == ["train"] * 15 + [LEFT_OUT, "val", LEFT_OUT, "test", "test"]
    assert plan.is_one_recording and plan.to_json()["num_left_out"] == 2
    check_leakage(rows, plan)


def test_no_target_second_of_one_side_is_an_input_of_another():
    rows = rides(1, seconds=40)
    plan = plan_splits(rows, SplitRule(0.3, 0.2, allow_one_recording=True))
    seconds = {
        side: {r.start_s for r, s in zip(rows, plan.sides, strict=True) if s == side}
        for side in ("train", "val", "test")
    }
    targets = {side: {second + 1 for second in starts} for side, starts in seconds.items()}
    assert not targets["train"] & seconds["val"] and not targets["val"] & seconds["test"]


def test_where_segments_are_missing_the_gap_is_in_time_not_in_rows():
    rows = [row("ride", second) for second in (0, 1, 2, 3, 10, 20)]
    plan = plan_splits(rows, SplitRule(allow_one_recording=True))
    assert plan.sides == ["train"] * 4 + ["val", "test"]


def test_segments_that_overlap_more_leave_a_wider_gap():
    rows = [row("ride", second / 2) for second in range(20)]  # one every half second, two seconds long
    plan = plan_splits(rows, SplitRule(0.1, 0.0, allow_one_recording=True))
    # test starts at 9.0; a row must end by then, so 7.5, 8.0 and 8.5 are left out
    assert plan.sides == ["train"] * 15 + [LEFT_OUT] * 3 + ["test"] * 2
    check_leakage(rows, plan)


def test_two_recordings_of_one_group_leave_a_segment_out_between_them():
    rows = [row("ride", second, recording=name) for name in ("a", "b") for second in range(5)]
    plan = plan_splits(rows, SplitRule(0.5, 0.0, allow_one_recording=True))
    assert plan.sides == ["train"] * 4 + [LEFT_OUT] + ["test"] * 5


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_recording_too_short_to_be_split_in_time_says_how_long_it_must_be(seconds):
    with pytest.raises(DrivingError, match=f"ride0000 has {seconds} segments, too few .*at least 3, and 5 with val"):
        plan_splits(rides(1, seconds=seconds), SplitRule(allow_one_recording=True))


@pytest.mark.parametrize("seconds, num_train", [(3, 1), (4, 2)])
def test_a_recording_too_short_for_val_goes_without_it_and_says_so(seconds, num_train):
    plan = plan_splits(rides(1, seconds=seconds), SplitRule(allow_one_recording=True))
    assert plan.sides == ["train"] * num_train + [LEFT_OUT, "test"]
    assert plan.to_json()["groups_without_val"] == ["ride0000"]


def test_five_segments_are_just_enough():
    plan = plan_splits(rides(1, seconds=5), SplitRule(allow_one_recording=True))
    assert plan.sides == ["train", LEFT_OUT, "val", LEFT_OUT, "test"]


# leakage


def leak(rows: list[SplitRow], sides: list[str], rule: str = "hash") -> None:
    codes = np.array([(*SIDES, LEFT_OUT).index(side) for side in sides])
    check_leakage(rows, SplitPlan(np.where(codes == len(SIDES), -1, codes), rule))


def test_a_group_on_two_sides_is_a_leak():
    with pytest.raises(DrivingError, match="leakage: g is in train and in test"):
        leak([row("g", 0), row("g", 10)], ["train", "test"])


def test_a_segment_listed_twice_is_refused_even_on_one_side():
    with pytest.raises(DrivingError, match="segment g_0 is listed twice"):
        leak([row("g", 0), row("g", 0, video="other.mp4")], ["train", "train"])


def test_one_video_on_two_sides_is_a_leak():
    with pytest.raises(DrivingError, match="leakage: the video same.mp4 is in train and in val"):
        leak([row("a", video="same.mp4"), row("b", video="same.mp4")], ["train", "val"])


@pytest.mark.parametrize("gap, is_leak", [(0.5, True), (1.0, True), (2.0, False), (3.0, False)])
def test_segments_of_a_recording_that_share_time_must_not_be_parted(gap, is_leak):
    rows, sides = [row("g", 0), row("g", gap)], ["train", "test"]
    if not is_leak:
        assert leak(rows, sides, "time") is None
        return
    with pytest.raises(DrivingError, match="leakage: g_0 in train and .* in test share recorded time"):
        leak(rows, sides, "time")


def test_a_long_segment_leaks_past_the_ones_after_it():
    long = row("g", 0)._replace(stop_s=10.0)
    with pytest.raises(DrivingError, match="g_0 in train and g_6 in test share"):
        leak([long, row("g", 2), row("g", 6)], ["train", "train", "test"], "time")


def test_a_row_in_the_gap_leaks_nothing():
    assert leak([row("g", 0), row("g", 1), row("g", 2)], ["train", LEFT_OUT, "test"], "time") is None


# fewer rows


def test_a_choice_takes_one_of_every_recording_before_a_second_of_any():
    rows = rides(10, seconds=20)
    chosen = [rows[index].recording for index in choose_rows(rows, 15, seed=7)]
    assert sorted(Counter(chosen).values()) == [1] * 5 + [2] * 5


def test_a_choice_is_not_the_first_segments():
    rows = rides(30, seconds=20)
    assert len({rows[index].start_s for index in choose_rows(rows, 30, seed=7)}) > 5


def test_a_choice_is_repeatable_ascending_and_grows_without_losing_any():
    rows = rides(10, seconds=20)
    small, large = choose_rows(rows, 20, 7), choose_rows(rows, 40, 7)
    assert small == sorted(choose_rows(rows, 20, 7)) and set(small) < set(large)


def test_a_choice_of_more_than_there_are_is_all():
    assert choose_rows(rides(3), 10, 7) == [0, 1, 2]
