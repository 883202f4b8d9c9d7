"""Baselines against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest

from driving.answer_format import AnswerFormat
from evaluation.scoring.baselines import (
    clip_mean,
    constant_acceleration_and_curvature,
    constant_velocity,
    ctrv,
    label_floor,
    last_value,
    predict_baselines,
    train_mean,
    train_median,
)
from evaluation.scoring.train_labels import TrainLabels

DT = 0.1


def test_the_median_of_very_many_rows_is_of_a_bounded_number_evenly_chosen(monkeypatch):
    monkeypatch.setattr("evaluation.scoring.train_labels.MAX_MEDIAN_ROWS", 4)
    rows = np.arange(10.0)[:, None, None] * np.ones((1, 1, 2))  # row i says (i, i)
    labels = TrainLabels.from_batches([rows[:4], rows[4:5], rows[5:]], 10)
    assert labels.mean.tolist() == [[4.5, 4.5]]
    assert labels.median.tolist() == [[4.5, 4.5]]  # of rows 0, 3, 6 and 9
    assert labels.num_rows == 10


def observed(velocity, curvature):
    return np.stack([np.asarray(velocity, float), np.asarray(curvature, float)], axis=-1)[None]


def test_the_train_mean_is_the_mean_of_each_pair():
    targets = np.array([[[2.0, 0.1], [4.0, 0.0]], [[4.0, -0.1], [8.0, 0.2]], [[9.0, 0.0], [0.0, 0.1]]])
    labels = TrainLabels.from_batches([targets[:1], targets[1:]], 3)
    velocity, curvature = train_mean(labels, num_rows=2)
    assert velocity == pytest.approx(np.array([[5.0, 4.0]] * 2))
    assert curvature == pytest.approx(np.array([[0.0, 0.1]] * 2))
    assert train_median(labels, 1)[0] == pytest.approx(np.array([[4.0, 4.0]]))


def test_last_value_holds_the_last_pair_and_constant_velocity_goes_straight():
    seen = observed([1, 2, 7], [0.1, 0.2, 0.03])
    assert last_value(seen, DT, 4)[0].tolist() == [[7.0] * 4]
    assert last_value(seen, DT, 4)[1].tolist() == [[0.03] * 4]
    assert constant_velocity(seen, DT, 4)[1].tolist() == [[0.0] * 4]


def test_ctrv_keeps_the_mean_turn_rate_of_the_last_fifth_of_a_second():
    velocity, curvature = ctrv(observed([9, 4, 6], [0.5, 0.1, 0.05]), DT, 2)
    assert velocity[0].tolist() == [5.0, 5.0]  # mean of 4 and 6
    assert curvature[0] == pytest.approx([0.07, 0.07])  # (4 x 0.1 + 6 x 0.05) / 2 / 5


def test_ctrv_does_not_turn_a_standing_car():
    assert ctrv(observed([0, 0, 0], [0.2, 0.2, 0.2]), DT, 2)[1].tolist() == [[0.0, 0.0]]


def test_constant_acceleration_continues_a_constant_acceleration_exactly():
    times = np.arange(10) * DT
    velocity, curvature = constant_acceleration_and_curvature(observed(3 + 2 * times, np.full(10, 0.02)), DT, 10)
    assert velocity[0] == pytest.approx(3 + 2 * (times + 1.0), abs=1e-9)
    assert curvature[0] == pytest.approx(np.full(10, 0.02))


def test_the_slope_agrees_with_scipy_on_a_noisy_speed():
    from scipy.stats import linregress

    speed = 8 + np.random.default_rng(0).normal(0, 1, 10)
    velocity, _ = constant_acceleration_and_curvature(observed(speed, np.zeros(10)), DT, 3)
    slope = linregress(np.arange(5) * DT, speed[-5:]).slope
    assert velocity[0] == pytest.approx(speed[-1] + slope * np.array([0.1, 0.2, 0.3]), abs=1e-9)


def test_a_braking_car_stops_and_does_not_reverse():
    velocity, _ = constant_acceleration_and_curvature(observed(3 - 5 * np.arange(5) * DT, np.zeros(5)), DT, 5)
    assert velocity[0] == pytest.approx([0.5, 0.0, 0.0, 0.0, 0.0], abs=1e-9)


@pytest.mark.parametrize("last", [0.0, -0.004])
def test_a_car_that_has_just_stopped_stays_and_does_not_reverse(last):
    velocity, _ = constant_acceleration_and_curvature(observed([2.0, 1.5, 1.0, 0.5, last], np.zeros(5)), DT, 5)
    assert velocity[0].tolist() == [0.0] * 5


def test_a_standing_car_that_has_begun_to_roll_back_goes_on():
    # slope of 0, 0, 0, -0.1, -0.2 at 0.1 s: (-2 * 0 + ... + 1 * -0.1 + 2 * -0.2) / 10 per sample = -0.5 m/s2
    velocity, _ = constant_acceleration_and_curvature(observed([0, 0, 0, -0.1, -0.2], np.zeros(5)), DT, 2)
    assert velocity[0] == pytest.approx([-0.25, -0.30], abs=1e-9)


def test_a_reversing_car_that_slows_stops_too():
    velocity, _ = constant_acceleration_and_curvature(observed(-3 + 5 * np.arange(5) * DT, np.zeros(5)), DT, 3)
    assert velocity[0] == pytest.approx([-0.5, 0.0, 0.0], abs=1e-9)


def test_the_label_floor_is_the_truth_rounded_as_the_format_rounds(drive):
    truth = drive([(8.26, 0.01234)])
    velocity, curvature = label_floor(truth, AnswerFormat(num_pairs=10, fps=10.0))
    assert velocity[0] == pytest.approx([8.3] * 10)
    assert curvature[0] == pytest.approx([0.0123] * 10)


def test_the_seed_format_loses_the_side_of_a_right_turn(drive):
    _, curvature = label_floor(drive([(8.0, -0.02)]), AnswerFormat(name="seed", num_pairs=10, fps=10.0))
    assert curvature[0] == pytest.approx([0.02] * 10)


def test_without_an_observed_second_the_history_baselines_are_left_out(drive):
    import dataclasses

    truth = dataclasses.replace(drive([(8.0, 0.0)]), observed=None)
    labels = TrainLabels(np.zeros((10, 2)), np.zeros((10, 2)), 1)
    names = list(predict_baselines(truth, labels, AnswerFormat(num_pairs=10, fps=10.0)))
    assert names == ["train_mean", "train_median", "representation_floor", "label_floor"]


def test_the_clip_mean_is_that_of_the_clips_other_rows(drive):
    truth = drive([(2.0, 0.01), (4.0, 0.03), (9.0, 0.05), (7.0, 0.0)], ["a", "a", "a", "b"])
    alone = np.full((4, 10), 5.0), np.full((4, 10), 0.5)
    velocity, curvature = clip_mean(truth, alone)
    assert velocity[:, 0] == pytest.approx([6.5, 5.5, 3.0, 5.0])  # (4 + 9) / 2, (2 + 9) / 2, (2 + 4) / 2, no other
    assert curvature[:, 9] == pytest.approx([0.04, 0.03, 0.02, 0.5])


def test_rows_that_are_all_of_different_clips_have_no_clip_mean(drive):
    labels = TrainLabels(np.zeros((10, 2)), np.zeros((10, 2)), 1)
    answer_format = AnswerFormat(num_pairs=10, fps=10.0)
    assert "clip_mean" not in predict_baselines(drive([(8.0, 0.0), (3.0, 0.0)]), labels, answer_format)
    assert "clip_mean" in predict_baselines(drive([(8.0, 0.0), (3.0, 0.0)], ["a", "a"]), labels, answer_format)
