"""Bins by what the car did."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.strata import MOTION_BINS, SPEED_BINS, TURN_BINS, motion_bin, speed_bin, turn_bin


@pytest.mark.parametrize(
    "speed, name",
    [(-1.0, "reversing"), (-0.1, "0-2 m/s"), (0.0, "0-2 m/s"), (1.99, "0-2 m/s"), (2.0, "2-8 m/s"), (14.9, "8-15 m/s"),
     (15.0, "15-25 m/s"), (40.0, "over 25 m/s")],
)  # fmt: skip
def test_a_speed_falls_into_its_bin(speed, name):
    assert SPEED_BINS[speed_bin(np.full((1, 4), speed))[0]] == name


@pytest.mark.parametrize(
    "degrees, name",
    [(0.0, "straight"), (1.9, "straight"), (-1.9, "straight"), (2.1, "left 2-10°"), (10.1, "left over 10°"),
     (-5.0, "right 2-10°"), (-30.0, "right over 10°")],
)  # fmt: skip
def test_a_turn_falls_into_its_bin_left_and_right_apart(degrees, name):
    poses = np.zeros((1, 3, 3))
    poses[0, -1, 2] = np.radians(degrees)
    assert TURN_BINS[turn_bin(poses)[0]] == name


@pytest.mark.parametrize("slope, name", [(-1.5, "braking"), (-0.5, "steady"), (0.9, "steady"), (1.5, "accelerating")])
def test_the_slope_of_the_speed_says_braking_or_accelerating(slope, name):
    velocity = 10 + slope * np.arange(10)[None] * 0.1
    assert MOTION_BINS[motion_bin(velocity, 0.1)[0]] == name


def test_a_reversing_car_that_gets_faster_backwards_accelerates():
    velocity = -3 - 2 * np.arange(10)[None] * 0.1
    assert MOTION_BINS[motion_bin(velocity, 0.1)[0]] == "accelerating"
