"""Errors with answers known by hand: circle, straight, stop, reverse, S-curve."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from driving.answer_format import AnswerFormat
from evaluation.scoring.answers import read_answers
from evaluation.scoring.score import (
    METRICS,
    ade_with_failures_at_p95,
    l2_protocols,
    score_rows,
    summarise,
)
from evaluation.scoring.statistics import Bootstrap

T = 10  # label samples in one second


def hold(velocity_mps, curvature_per_m, rows=1):
    return np.full((rows, T), float(velocity_mps)), np.full((rows, T), float(curvature_per_m))


def test_the_truth_itself_has_no_error_on_a_circle(drive):
    errors = score_rows(hold(8, 0.05), drive([(8, 0.05)]))
    assert errors["ade_m"][0] == pytest.approx(0, abs=1e-12)
    assert errors["heading_error_rad"][0] == pytest.approx(0, abs=1e-12)
    assert errors["velocity_mae_mps"][0] == 0


def test_a_speed_that_is_two_too_high_on_a_straight_ends_two_metres_ahead(drive):
    errors = score_rows(hold(12, 0), drive([(10, 0)]))
    assert errors["fde_m"][0] == pytest.approx(2.0)
    assert errors["ade_m"][0] == pytest.approx(1.1)  # mean of 0.2, 0.4, ... 2.0
    assert errors["ade_half_m"][0] == pytest.approx(0.6)  # mean of 0.2 ... 1.0
    assert errors["fde_half_m"][0] == pytest.approx(1.0)
    assert errors["velocity_bias_mps"][0] == pytest.approx(2.0)
    assert errors["velocity_relative"][0] == pytest.approx(0.2)
    assert errors["longitudinal_m"][0] == pytest.approx(2.0)
    assert errors["lateral_m"][0] == pytest.approx(0.0)


def test_an_odd_number_of_samples_has_no_half_time(drive):
    truth = drive([(10, 0)])
    odd = dataclasses.replace(
        truth,
        velocity_mps=truth.velocity_mps[:, :9],
        curvature_per_m=truth.curvature_per_m[:, :9],
        poses=truth.poses[:, :10],
    )
    errors = score_rows((np.full((1, 9), 12.0), np.zeros((1, 9))), odd)
    assert np.isnan([errors["ade_half_m"][0], errors["fde_half_m"][0]]).all()
    assert errors["ade_m"][0] == pytest.approx(1.0)  # mean of 0.2, 0.4, ... 1.8


def test_driving_straight_where_the_road_bends_misses_by_the_chord_of_the_circle(drive):
    errors = score_rows(hold(10, 0), drive([(10, 0.1)]))  # one radian of a circle of radius 10 m
    x, y = 10 * math.sin(1), 10 * (1 - math.cos(1))
    assert errors["fde_m"][0] == pytest.approx(math.hypot(10 - x, y), abs=1e-12)
    assert errors["heading_error_rad"][0] == pytest.approx(1.0)
    assert errors["yaw_rate_mae_radps"][0] == pytest.approx(1.0)
    assert errors["lateral_acceleration_mae_mps2"][0] == pytest.approx(10.0)


def test_the_side_of_a_curve_is_wrong_when_the_sign_is(drive):
    errors = score_rows(hold(10, -0.02), drive([(10, 0.02)]))
    assert errors["curvature_sign_accuracy"][0] == 0
    assert errors["curvature_mae_per_m"][0] == pytest.approx(0.04)


def test_a_standing_car_has_no_curvature_to_be_right_about(drive):
    errors = score_rows(hold(0, 0.1), drive([(0, 0.02)]))
    assert np.isnan(errors["curvature_mae_per_m"][0])
    assert np.isnan(errors["curvature_sign_accuracy"][0])
    assert errors["ade_m"][0] == 0


def test_reversing_ends_behind(drive):
    errors = score_rows(hold(3, 0), drive([(-3, 0)]))
    assert errors["fde_m"][0] == pytest.approx(6.0)
    assert errors["velocity_mae_mps"][0] == 6
    assert score_rows(hold(-3, 0.02), drive([(-3, 0.02)]))["ade_m"][0] == pytest.approx(0, abs=1e-12)


def test_an_s_curve_is_followed_by_exact_arcs(drive):
    # half a radian left then half a radian right, radius 10 m: ends parallel to the start, twice the arc's offset aside
    truth = drive([(10, 0.0)])
    curvature = np.array([[0.1] * 5 + [-0.1] * 5])
    along, aside = 2 * 10 * math.sin(0.5), 2 * 10 * (1 - math.cos(0.5))
    poses = truth.poses.copy()
    poses[0, -1] = along, aside, 0.0
    truth = dataclasses.replace(truth, poses=poses)
    errors = score_rows((np.full((1, T), 10.0), curvature), truth)
    assert errors["fde_m"][0] == pytest.approx(0, abs=1e-12)
    assert errors["heading_error_rad"][0] == pytest.approx(0, abs=1e-12)


def test_a_miss_is_a_final_error_over_the_radius(drive):
    errors = score_rows(hold(10.75, 0), drive([(10, 0)]))
    assert [errors[f"miss_rate_{radius}m"][0] for radius in ("0.25", "0.5", "1", "2")] == [1, 1, 0, 0]


def test_every_metric_has_its_column(drive):
    assert set(score_rows(hold(1, 0), drive([(1, 0)]))) == set(METRICS)


def test_root_mean_square_is_the_root_of_the_mean_over_rows_not_the_mean_of_roots(drive):
    truth = drive([(10, 0), (10, 0)])
    velocity = np.stack([np.full(T, 10.0), np.full(T, 14.0)])
    summary = summarise(score_rows((velocity, np.zeros((2, T))), truth), Bootstrap(truth.groups, 100))
    assert summary["velocity_rmse_mps"]["value"] == pytest.approx(math.sqrt(8))  # root of (0 + 16) / 2
    assert summary["velocity_mae_mps"]["value"] == pytest.approx(2)
    assert summary["fde_m"]["p50"] == pytest.approx(2)


def test_the_three_l2_protocols_are_named_and_differ(drive):
    protocols = l2_protocols(hold(12, 0), drive([(10, 0)]))
    assert protocols["uniad"] == {"0.5 s": pytest.approx(1.0), "1 s": pytest.approx(2.0)}
    assert protocols["st_p3"]["1 s"] == pytest.approx(1.1)
    assert protocols["lightemma"]["1 s"] == pytest.approx(1.1)


def test_a_failed_answer_costs_the_p95_of_the_parsed_errors(drive):
    truth = drive([(10, 0)] * 21)
    columns = {"ade_m": np.append(np.arange(1, 21), 0.0)}  # the failed row's fallback would be perfect
    is_parsed = np.array([True] * 20 + [False])
    worst = ade_with_failures_at_p95(columns, is_parsed, Bootstrap(truth.groups, 100))
    assert worst.value == pytest.approx((210 + 19.05) / 21)  # p95 of 1..20 is 1 + 0.95 * 19


def test_failing_always_is_scored_as_the_mean_and_worse_under_the_p95_rule(drive):
    truth = drive([(0, 0), (10, 0), (20, 0)])
    mean = hold(10, 0, rows=3)
    answer_format = AnswerFormat(num_pairs=T, fps=10.0)
    answers = read_answers(["I cannot see."] * 3, [False] * 3, [5] * 3, answer_format, mean)
    failed = score_rows((answers.velocity_mps, answers.curvature_per_m), truth)
    honest = score_rows(mean, truth)
    bootstrap = Bootstrap(truth.groups, 100)
    assert bootstrap.mean(failed["ade_m"]).value == bootstrap.mean(honest["ade_m"]).value
    worst = ade_with_failures_at_p95(failed, answers.is_parsed, bootstrap)
    assert worst.value > bootstrap.mean(honest["ade_m"]).value


def test_one_lucky_answer_does_not_make_failures_cheap(drive):
    truth = drive([(10, 0), (0, 0), (20, 0)])
    columns = {"ade_m": np.array([0.01, 5.5, 5.5])}
    worst = ade_with_failures_at_p95(columns, np.array([True, False, False]), Bootstrap(truth.groups, 100))
    assert worst.value == pytest.approx((0.01 + 5.5 + 5.5) / 3)
