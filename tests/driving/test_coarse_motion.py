"""Words for one second of a motion that was recorded once a second. Expected words are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from driving.coarse_motion import CoarseMotion, describe_recording, describe_window, lay_grid, no_motion

S = 1_000_000


def grid_of(speeds, degrees=None, seconds=None, stop_s=10):
    """Fixes at 0, 1, 2, ... s, or at `seconds`; None is no fix. Heading only where it is given."""
    degrees = [0.0] * len(speeds) if degrees is None else degrees
    seconds = range(len(speeds)) if seconds is None else seconds

    def pick(values):
        rows = [(round(t * S), value) for t, value in zip(seconds, values, strict=True) if value is not None]
        return np.array([t for t, _ in rows], np.int64), np.array([value for _, value in rows], float)

    return lay_grid(CoarseMotion(*pick(speeds), *(part for part in _to_rad(*pick(degrees)))), stop_s * S)


def _to_rad(times, degrees):
    return times, np.radians(degrees)


def second(grid, start_s):
    return describe_window(grid, round(start_s * S), round((start_s + 1) * S))


def test_a_steady_second_is_driving_straight():
    assert second(grid_of([10] * 11), 3) == ["drives", "straight"]


def test_a_second_that_loses_two_metres_a_second_brakes():
    assert second(grid_of([10, 10, 8, 6, 6]), 1) == ["brakes", "drives", "straight"]


def test_a_second_that_gains_less_than_one_metre_a_second_does_not_accelerate():
    assert second(grid_of([10, 10.9, 12.5]), 0) == ["drives", "straight"]
    assert second(grid_of([10, 10.9, 12.5]), 1) == ["accelerates", "drives", "straight"]


def test_a_standing_car_stops_and_its_way_has_no_word():
    assert second(grid_of([5, 2, 0, 0, 0, 2, 5]), 2) == ["stops"]


def test_a_car_that_sets_off_stands_then_drives():
    # 0 m/s until 3 s, then 4 m/s2: 0.3 m/s at 3.075 s, 1 m/s at 3.25 s.
    grid = grid_of([0, 0, 0, 0, 4, 8])
    assert second(grid, 2.5) == ["accelerates", "stops", "starts", "drives", "straight"]
    assert second(grid, 3) == ["accelerates", "starts", "drives", "straight"]
    assert second(grid, 4) == ["accelerates", "drives", "straight"]


@pytest.mark.parametrize("sign, word", [(1, "turns_left"), (-1, "turns_right")])
def test_a_second_inside_a_street_corner_turns_to_its_side(sign, word):
    corner = [sign * angle for angle in (0, 0, 0, 15, 45, 75, 90, 90, 90)]
    grid = grid_of([5] * 9, corner)
    assert [second(grid, start)[-1] for start in range(8)] == [
        "straight", "straight", word, word, word, word, "straight", "straight",
    ]  # fmt: skip


def test_a_bend_is_neither_straight_nor_a_turn():
    grid = grid_of([25] * 11, [3 * t for t in range(11)])  # 24 degrees in 8 s
    assert second(grid, 4) == ["drives"]


def test_whether_a_turn_was_before_a_stop_or_after_it_is_not_known():
    # Stands from 3 s to 7 s; a phone tells no course while it does. It turned by 20 degrees between 2 s and 8 s.
    speeds = [8, 8, 4, 0, 0, 0, 0, 0, 4, 8, 8]
    course = [0, 0, 0, None, None, None, None, None, -20, -60, -80]
    grid = grid_of(speeds, course)
    assert second(grid, 4) == ["stops"]
    assert second(grid, 8) == ["accelerates", "drives", "turns_right"]
    assert second(grid, 1) == ["brakes", "drives", "straight"]
    assert second(grid, 2) == ["brakes", "stops", "drives", "turn_unknown"]
    assert second(grid, 7) == ["accelerates", "starts", "drives", "turn_unknown"]


def test_a_stop_on_a_straight_road_leaves_both_sides_straight():
    grid = grid_of([8, 8, 4, 0, 0, 0, 0, 0, 4, 8, 8], [0, 0, 0, None, None, None, None, None, 3, 3, 3])
    assert [second(grid, start)[-1] for start in (2, 3, 7, 8)] == ["straight", "stops", "straight", "straight"]


def test_one_lost_fix_is_bridged_and_two_are_not():
    assert second(grid_of([10, 10, None, 10, 10]), 1) == ["drives", "straight"]
    assert second(grid_of([10, 10, None, None, 10, 10]), 2) == ["straight", "speed_unknown"]


def test_before_the_first_fix_and_after_the_last_nothing_is_known():
    grid = grid_of([10] * 5, seconds=[0.5, 1.5, 2.5, 3.5, 4.5])
    assert second(grid, 0) == ["speed_unknown", "turn_unknown"]
    assert second(grid, 1) == ["drives", "straight"]
    assert second(grid, 4) == ["speed_unknown", "turn_unknown"]


def test_speed_without_a_course_still_tells_of_speed():
    assert second(grid_of([10] * 5, [None] * 5), 1) == ["drives", "turn_unknown"]


def test_a_log_without_fixes_tells_nothing():
    grid = lay_grid(no_motion("why"), 5 * S)
    assert second(grid, 2) == ["speed_unknown", "turn_unknown"]
    assert describe_recording(grid) is None


def test_a_whole_recording_has_the_facts_that_texts_are_scored_by():
    speeds = [8, 8, 4, 0, 0, 0, 0, 0, 4, 8, 8]
    course = [0, 0, 0, None, None, None, None, None, -20, -60, -80]
    assert describe_recording(grid_of(speeds, course)) == ["accelerates", "brakes", "stops", "starts", "turns_right"]


def test_a_car_that_stands_all_the_time_needs_no_course():
    grid = grid_of([0] * 11, [None] * 11)
    assert second(grid, 4) == ["stops"]
    assert describe_recording(grid) == ["stops"]


def test_a_recording_that_is_not_known_throughout_has_no_facts_as_a_whole():
    assert describe_recording(grid_of([10, 10, None, None, 10, 10, 10, 10, 10, 10, 10])) is None
    assert describe_recording(grid_of([10] * 7)) is None  # three seconds after the last fix
    assert describe_recording(grid_of([10] * 9)) == []  # two
