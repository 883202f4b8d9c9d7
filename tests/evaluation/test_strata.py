"""Bins by what the car did."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from driving.motion_bins import (
    MOTION_BINS,
    SPEED_BINS,
    TURN_BINS,
    mean_acceleration_mps2,
    mean_speed_mps,
    motion_bin,
    speed_bin,
    turn_bin,
    turn_deg,
)
from evaluation.scoring.score import score_rows
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.strata import (
    DAYLIGHT_BINS,
    EVENT_BINS,
    HOUR_BINS,
    assign_strata,
    daylight_bin,
    event_bin,
    hour_bin,
    named_bin,
)
from evaluation.scoring.strata_scores import measure_strata


@pytest.mark.parametrize(
    "speed, name",
    [(-1.0, "reversing"), (-0.1, "0-2 m/s"), (0.0, "0-2 m/s"), (1.99, "0-2 m/s"), (2.0, "2-8 m/s"), (14.9, "8-15 m/s"),
     (15.0, "15-25 m/s"), (40.0, "over 25 m/s")],
)  # fmt: skip
def test_a_speed_falls_into_its_bin(speed, name):
    assert SPEED_BINS[speed_bin(mean_speed_mps(np.full((1, 4), speed)))[0]] == name


@pytest.mark.parametrize(
    "degrees, name",
    [(0.0, "straight"), (1.9, "straight"), (-1.9, "straight"), (2.1, "left 2-10°"), (10.1, "left over 10°"),
     (-5.0, "right 2-10°"), (-30.0, "right over 10°")],
)  # fmt: skip
def test_a_turn_falls_into_its_bin_left_and_right_apart(degrees, name):
    poses = np.zeros((1, 3, 3))
    poses[0, -1, 2] = np.radians(degrees)
    assert TURN_BINS[turn_bin(turn_deg(poses))[0]] == name


@pytest.mark.parametrize("slope, name", [(-1.5, "braking"), (-0.5, "steady"), (0.9, "steady"), (1.5, "accelerating")])
def test_the_slope_of_the_speed_says_braking_or_accelerating(slope, name):
    velocity = 10 + slope * np.arange(10)[None] * 0.1
    assert MOTION_BINS[motion_bin(mean_acceleration_mps2(velocity, 0.1))[0]] == name


def test_a_reversing_car_that_gets_faster_backwards_accelerates():
    velocity = -3 - 2 * np.arange(10)[None] * 0.1
    assert MOTION_BINS[motion_bin(mean_acceleration_mps2(velocity, 0.1))[0]] == "accelerating"


@pytest.mark.parametrize(
    "speeds, name",
    [([0, 0.2, -0.1], "standing"), ([0, 0.5, 2], "starts"), ([2, 0.5, 0.1], "stops"), ([2, 0, 2], "driving"),
     ([-1, -1, -1], "driving"), ([0.1, 2, 0.1], "driving")],
)  # fmt: skip
def test_a_start_and_a_stop_are_events(speeds, name):
    assert EVENT_BINS[event_bin(np.array([speeds], float))[0]] == name


@pytest.mark.parametrize(
    "hour, bin_name, light",
    [(0, "00-04 h", "night"), (6, "04-08 h", "night"), (7, "04-08 h", "day (7-19 h)"), (18, "16-20 h", "day (7-19 h)"),
     (19, "16-20 h", "night"), (23, "20-24 h", "night"), (None, "unknown", "unknown")],
)  # fmt: skip
def test_an_hour_has_its_bin_and_its_light(hour, bin_name, light):
    assert (*HOUR_BINS, "unknown")[hour_bin([hour])[0]] == bin_name
    assert (*DAYLIGHT_BINS, "unknown")[daylight_bin([hour])[0]] == light


def test_named_bins_come_by_falling_count_and_rare_names_are_others(monkeypatch):
    monkeypatch.setattr("evaluation.scoring.strata.MAX_NAMED_BINS", 2)
    names, bins = named_bin(["Italy", "Spain", None, "Italy", "", "", "Chile"])
    assert names == ("unknown", "Italy", "others")
    assert bins.tolist() == [1, 2, 0, 1, 0, 0, 2]


def test_places_and_hours_are_strata_only_where_the_data_says_them(drive):
    truth = drive([(10, 0), (5, 0)])
    assert list(assign_strata(truth)) == ["speed", "turn", "motion", "event"]
    told = dataclasses.replace(truth, facts=[{"hour": None, "country": "Italy", "weather": "rain"}, {"platform": None}])
    assert list(assign_strata(told)) == ["speed", "turn", "motion", "event", "country", "weather"]
    assert assign_strata(told)["country"][0] == ("Italy", "unknown")


def test_the_macro_average_counts_a_bin_of_one_row_as_much_as_one_of_nine(drive):
    # nine rows at 20 m/s with an error of 1 m/s, one standing row with 5: plain mean 1.4, mean over bins 3
    truth = drive([(20, 0)] * 9 + [(0, 0)])
    model = np.array([[21.0] * 10] * 9 + [[5.0] * 10]), np.zeros((10, 10))
    mean = np.full((10, 10), 10.0), np.zeros((10, 10))
    floors = {name: score_rows(model, truth) for name in ("representation_floor", "label_floor")}
    columns = {"model": score_rows(model, truth), "train_mean": score_rows(mean, truth), **floors}
    found = measure_strata(truth, columns, Bootstrap(truth.groups, 400), ["velocity_mae_mps"], "train_mean")["speed"]
    assert found["bins"]["15-25 m/s"]["num_rows"] == 9
    assert found["bins"]["15-25 m/s"]["model"]["velocity_mae_mps"]["value"] == pytest.approx(1)
    assert found["macro"]["model"]["velocity_mae_mps"] == pytest.approx(3)
    assert found["macro"]["train_mean"]["velocity_mae_mps"] == pytest.approx(10)
    skill = found["macro_skill"]["velocity_mae_mps"]
    assert skill["value"] == pytest.approx(0.7)
    # a draw without the standing clip sees the fast bin alone: 0.9; with it 0.7
    assert (skill["low"], skill["high"]) == pytest.approx((0.7, 0.9))
