"""Recorded motion in words: drives drawn by the test."""

from __future__ import annotations

import numpy as np
import pytest

from driving.errors import MotionError
from driving.motion_facts import find_motion_facts

HZ = 10
TIME_S = np.arange(0, 20, 1 / HZ)
STRAIGHT = np.zeros_like(TIME_S)


def test_a_steady_straight_drive_has_no_facts():
    assert find_motion_facts(np.full_like(TIME_S, 12.0), STRAIGHT, 1 / HZ) == []


def test_braking_to_a_stop_and_off_again():
    speed = np.interp(TIME_S, [0, 5, 10, 12, 16, 20], [10, 10, 0, 0, 8, 8])
    assert find_motion_facts(speed, STRAIGHT, 1 / HZ) == ["accelerates", "brakes", "stops", "starts"]


def test_a_gentle_change_of_speed_is_neither_braking_nor_accelerating():
    assert find_motion_facts(np.interp(TIME_S, [0, 20], [10, 26]), STRAIGHT, 1 / HZ) == []  # 0.8 m/s2


def test_gps_once_a_second_is_enough():
    assert find_motion_facts([10, 10, 8, 5, 2, 0, 0, 0], np.zeros(8), 1.0) == ["brakes", "stops"]


@pytest.mark.parametrize("sign, fact", [(1, "turns_left"), (-1, "turns_right")])
def test_a_street_corner_is_a_turn_to_its_side(sign, fact):
    heading = sign * np.radians(np.interp(TIME_S, [0, 8, 12, 20], [0, 0, 90, 90]))
    assert find_motion_facts(np.full_like(TIME_S, 5.0), heading, 1 / HZ) == [fact]


def test_a_long_bend_is_no_turn():
    heading = np.radians(np.interp(TIME_S, [0, 20], [0, 60]))  # 24 degrees in 8 s
    assert find_motion_facts(np.full_like(TIME_S, 20.0), heading, 1 / HZ) == []


def test_a_heading_that_jumps_by_a_whole_turn_is_no_turn():
    heading = np.where(TIME_S < 10, np.pi - 0.01, -np.pi + 0.01)
    assert find_motion_facts(np.full_like(TIME_S, 9.0), heading, 1 / HZ) == []


def test_rolling_back_is_reversing():
    speed = np.interp(TIME_S, [0, 9, 11, 20], [-0.8, -0.8, -0.8, -0.8])
    assert find_motion_facts(speed, STRAIGHT, 1 / HZ) == ["reverses"]


def test_a_tenth_of_a_second_at_zero_is_no_stop():
    speed = np.full_like(TIME_S, 0.9)
    speed[50] = 0.0
    assert "stops" not in find_motion_facts(speed, STRAIGHT, 1 / HZ)


@pytest.mark.parametrize(
    "speed, heading, interval_s, complaint",
    [
        ([1.0], [0.0], 0.1, r"must be two rows of 2 samples or more"),
        ([1.0, 2.0], [0.0], 0.1, r"speeds \(2,\) and headings \(1,\) must be two rows"),
        ([1.0, np.nan], [0.0, 0.0], 0.1, "must be finite"),
        ([1.0, 2.0], [0.0, 0.0], 0.0, "above 0 s"),
    ],
)
def test_motion_that_cannot_be_judged_is_refused(speed, heading, interval_s, complaint):
    with pytest.raises(MotionError, match=complaint):
        find_motion_facts(speed, heading, interval_s)
