"""Errors of predicted motion, each against arithmetic done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from driving import metrics


def poses(*rows: tuple[float, float, float]) -> np.ndarray:
    """One sample: (1, T + 1, 3)."""
    return np.array([rows], dtype=np.float64)


STILL = poses((0, 0, 0), (0, 0, 0), (0, 0, 0))
AHEAD = poses((0, 0, 0), (3, 4, 0), (6, 8, 0.5))


def test_displacement_leaves_the_common_start_out():
    assert metrics.displacement_m(AHEAD, STILL).tolist() == [[5.0, 10.0]]


def test_ade_is_the_mean_and_fde_the_last():
    assert metrics.ade_m(AHEAD, STILL).tolist() == [7.5]
    assert metrics.fde_m(AHEAD, STILL).tolist() == [10.0]


def test_the_final_error_is_seen_along_the_true_heading():
    # The truth ends facing left: 6 m of x is 6 m to its right, 8 m of y is 8 m ahead of it.
    truth = poses((0, 0, 0), (0, 0, 0), (0, 0, math.pi / 2))
    ahead, left = metrics.longitudinal_lateral_m(AHEAD, truth)
    assert ahead == pytest.approx([8.0]) and left == pytest.approx([-6.0])


@pytest.mark.parametrize(
    "predicted, true, error",
    [(0.3, 0.1, 0.2), (3.1, -3.1, 2 * math.pi - 6.2), (0.0, math.pi, math.pi), (7.0, 0.7, 6.3 - 2 * math.pi)],
)
def test_the_heading_error_goes_the_short_way_round(predicted, true, error):
    result = metrics.heading_error_rad(poses((0, 0, 0), (0, 0, predicted)), poses((0, 0, 0), (0, 0, true)))
    assert result == pytest.approx([error])


def test_the_mean_absolute_error_is_over_the_intervals_of_a_sample():
    assert metrics.mean_absolute(np.array([[1.0, 4.0]]), np.array([[0.0, 6.0]])).tolist() == [1.5]


def test_a_weight_of_zero_leaves_an_interval_out():
    weight = np.array([[1.0, 0.0]])
    assert metrics.mean_absolute(np.array([[1.0, 4.0]]), np.array([[0.0, 6.0]]), weight).tolist() == [1.0]


def test_a_sample_without_any_weight_has_no_error():
    assert np.isnan(metrics.mean_absolute(np.ones((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)))).all()


def test_a_standing_car_has_no_weight_and_a_reversing_one_has():
    assert metrics.moving_weight(np.array([[0.0, 0.29, 0.3, -5.0]])).tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_the_sign_is_judged_only_on_curves():
    true = np.array([[0.01, 0.01], [-0.01, -0.01], [0.001, 0.001]])
    predicted = np.array([[0.001, 0.0], [0.02, 0.02], [-1.0, -1.0]])
    right = metrics.sign_is_right(predicted, true)
    assert right[:2].tolist() == [1.0, 0.0] and np.isnan(right[2])


def test_a_prediction_of_zero_curvature_has_no_side():
    assert metrics.sign_is_right(np.zeros((1, 2)), np.full((1, 2), 0.01)).tolist() == [0.0]


def test_the_three_l2_protocols_differ_as_published():
    # One error a half second: 1, 2, 3, 4 m. At 2 s: the end 4; the mean so far 2.5; the mean of the last second 3.5.
    truth = np.zeros((1, 5, 3))
    predicted = truth.copy()
    predicted[0, 1:, 0] = [1, 2, 3, 4]
    result = metrics.l2_at_horizons_m(predicted, truth, 0.5, (1.0, 2.0))
    assert result == {
        "uniad": {1.0: 2.0, 2.0: 4.0},
        "st_p3": {1.0: 1.5, 2.0: 2.5},
        "lightemma": {1.0: 1.5, 2.0: 3.5},
    }


def test_a_horizon_beyond_the_answer_is_left_out():
    assert metrics.l2_at_horizons_m(AHEAD, STILL, 0.5, (3.0,)) == {"uniad": {}, "st_p3": {}, "lightemma": {}}


def test_a_horizon_between_two_intervals_ends_is_left_out():
    # at 0.4 s an interval, half a second would be the error at 0.4 s and two seconds the one at 2.0 s
    still = np.zeros((1, 6, 3))
    result = metrics.l2_at_horizons_m(still, still, 0.4, (0.5, 1.0, 2.0))
    assert [list(values) for values in result.values()] == [[2.0]] * 3
