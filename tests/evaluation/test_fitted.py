"""Baselines fitted to training motion, and those with closed forms, against scipy and hand arithmetic."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from driving.answer_format import AnswerFormat
from driving.trajectory import integrate_batch
from evaluation.scoring.baselines import DESCRIPTIONS, FLOORS, KNOWS, constant_acceleration, ctra, predict_baselines
from evaluation.scoring.fitted import (
    MIN_FIT_ROWS,
    RIDGE_SHARE,
    _differentiate,
    fit_network,
    fit_ridge,
    motion_features,
    predict_fitted,
    predict_speed_bins,
)
from evaluation.scoring.train_labels import TrainLabels, TrainMotion

DT = 0.1
RNG = np.random.default_rng(11)


def observed(velocity, curvature):
    return np.stack([np.asarray(velocity, float), np.asarray(curvature, float)], axis=-1)[None]


def cars(num_rows, seed=0):
    """Cars that keep their acceleration and turn rate: (n, 20, 2), ten samples seen and ten to predict."""
    rng = np.random.default_rng(seed)
    times_s = (np.arange(20) + 0.5) * DT
    velocity = rng.uniform(8, 25, (num_rows, 1)) + rng.normal(0, 1.5, (num_rows, 1)) * times_s
    return np.stack([velocity, rng.normal(0, 0.2, (num_rows, 1)) / velocity], axis=-1)


def train_motion(num_rows, seed=0):
    pairs = cars(num_rows, seed)
    return TrainMotion(pairs[:, :10], pairs[:, 10:])


# CTRA


def test_ctra_is_exact_for_a_car_of_constant_turn_rate_and_acceleration():
    pairs = cars(50)
    velocity, curvature = ctra(pairs[:, :10], DT, 10)
    # the turn rate is the mean of the last two samples, the acceleration the slope of the last five: both constant here
    assert velocity == pytest.approx(pairs[:, 10:, 0], abs=1e-9)
    assert curvature == pytest.approx(pairs[:, 10:, 1], abs=1e-9)


def test_ctra_turns_at_the_rate_of_its_closed_form():
    # v = 10 - 2 t, w = 0.5 rad/s: after one second the heading is 0.5 rad, the way 9 m
    times_s = (np.arange(10) - 9.5) * DT  # middles of the second seen; the answer starts at 0
    velocity = 10 - 2 * times_s
    motion = ctra(observed(velocity, 0.5 / velocity), DT, 10)
    assert integrate_batch(*motion, DT)[0, -1, 2] == pytest.approx(0.5, abs=1e-9)
    assert motion[0].sum() * DT == pytest.approx(9.0, abs=1e-9)


def test_the_path_of_ctra_is_that_of_its_differential_equation():
    from scipy.integrate import solve_ivp

    times_s = (np.arange(200) - 199.5) / 200
    velocity = 10 - 2 * times_s
    end = integrate_batch(*ctra(observed(velocity, 0.5 / velocity), 1 / 200, 200), 1 / 200)[0, -1]

    def move(t, state):
        return [(10 - 2 * t) * np.cos(state[2]), (10 - 2 * t) * np.sin(state[2]), 0.5]

    exact = solve_ivp(move, (0, 1), [0, 0, 0], rtol=1e-11, atol=1e-12).y[:, -1]
    assert end == pytest.approx(exact, abs=2e-5)  # arcs of 5 ms: the middle of a linear speed, second order


def test_a_car_that_brakes_to_a_stop_under_ctra_turns_no_further():
    velocity = 1.0 - 4.0 * (np.arange(5) - 4) * DT
    motion = ctra(observed(velocity, 0.1 / velocity), DT, 5)
    assert motion[0][0] == pytest.approx([0.6, 0.2, 0, 0, 0], abs=1e-9)
    assert motion[1][0, 2:].tolist() == [0, 0, 0]


def test_the_acceleration_agrees_with_numpys_polynomials_to_1e_9():
    speed = 9 + RNG.normal(0, 1, (20, 10))
    ours = constant_acceleration(np.stack([speed, np.zeros_like(speed)], axis=-1), DT, 4)
    slopes = np.array([np.polynomial.Polynomial.fit(np.arange(5) * DT, row[-5:], 1).deriv()(0) for row in speed])
    assert ours == pytest.approx(speed[:, -1:] + slopes[:, None] * DT * np.arange(1, 5), abs=1e-9)


# fitted ones


def test_the_ridge_agrees_with_scipys_least_squares_to_1e_9():
    from scipy.linalg import lstsq

    inputs, outputs = RNG.normal(size=(300, 7)), RNG.normal(size=(300, 4))
    # a ridge is least squares with the root of the penalty as more rows
    more = np.sqrt(RIDGE_SHARE * 300) * np.eye(7)
    expected = lstsq(np.vstack([inputs, more]), np.vstack([outputs, np.zeros((7, 4))]))[0]
    assert fit_ridge(inputs, outputs) == pytest.approx(expected, abs=1e-9)


def test_the_gradient_of_the_network_is_that_of_finite_differences():
    weights = [RNG.normal(size=shape) for shape in ((3, 4), (4,), (4, 2), (2,))]
    inputs, outputs = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 2))

    def loss(flat):
        parts = np.split(flat, np.cumsum([w.size for w in weights])[:-1])
        first, first_bias, second, second_bias = (p.reshape(w.shape) for p, w in zip(parts, weights, strict=True))
        predicted = np.tanh(inputs @ first + first_bias) @ second + second_bias
        return 0.5 * ((predicted - outputs) ** 2).sum() / len(inputs)

    from scipy.optimize import approx_fprime

    flat = np.concatenate([w.ravel() for w in weights])
    ours = np.concatenate([g.ravel() for g in _differentiate(weights, inputs, outputs)])
    assert ours == pytest.approx(approx_fprime(flat, loss, 1e-7), abs=1e-5)


def test_the_network_learns_what_no_line_can():
    inputs = np.random.default_rng(3).uniform(-2, 2, (2000, 1))
    outputs = np.abs(inputs)
    network, line = fit_network(inputs, outputs), fit_ridge(inputs, outputs)
    assert np.abs(network(inputs) - outputs).mean() < 0.1
    assert np.abs(inputs @ line - outputs).mean() > 0.9


def test_the_network_is_a_pure_function_of_its_rows():
    inputs, outputs = RNG.normal(size=(200, 3)), RNG.normal(size=(200, 2))
    assert np.array_equal(fit_network(inputs, outputs)(inputs), fit_network(inputs, outputs)(inputs))


def test_a_speed_bin_answers_the_mean_of_its_rows_and_an_empty_one_that_of_all():
    train = TrainMotion(
        np.array([[[3.9, 0]], [[2.0, 0]], [[9.0, 0]]], float), np.array([[[4, 0.1]], [[2, 0.3]], [[9, 0.2]]], float)
    )
    velocity, curvature = predict_speed_bins(train, np.array([[[2.5, 0]], [[8.0, 0]], [[30.0, 0]]], float))
    assert velocity[:, 0].tolist() == [3.0, 9.0, 5.0]  # bins 2-4, 8-10, and none
    assert curvature[:, 0] == pytest.approx([0.2, 0.2, 0.2])


def test_features_are_ten_means_of_each_quantity_and_the_last_values():
    features = motion_features(observed(np.arange(1, 21), [0.1] * 20))[0]
    assert features.shape == (33,)
    assert features[0::3][:10] == pytest.approx(np.arange(10) * 2 + 1.5)
    assert features[-3:] == pytest.approx([20, 0.1, 2.0])


def test_fitted_baselines_beat_the_last_value_where_cars_keep_their_acceleration():
    train, test = train_motion(3000), cars(400, seed=1)
    motions = predict_fitted(test[:, :10], 10, train)
    error = {name: np.abs(velocity - test[:, 10:, 0]).mean() for name, (velocity, _) in motions.items()}
    last = np.abs(test[:, 9:10, 0] - test[:, 10:, 0]).mean()
    assert error["ridge"] < 0.05 * last
    assert error["ego_mlp"] < 0.2 * last
    assert error["speed_bin_mean"] < 0.2 * np.abs(train.targets[..., 0].mean() - test[:, 10:, 0]).mean()


@pytest.mark.parametrize(
    "train",
    [None, train_motion(MIN_FIT_ROWS - 1), dataclasses.replace(train_motion(200), targets=np.zeros((200, 5, 2)))],
    ids=["no motion", "too few rows", "another rate"],
)
def test_what_cannot_be_fitted_is_left_out(train):
    assert predict_fitted(cars(3)[:, :10], 10, train) == {}


def test_a_constant_column_does_no_harm():
    still = TrainMotion(np.zeros((200, 10, 2)), np.zeros((200, 10, 2)))
    motions = predict_fitted(np.zeros((2, 10, 2)), 10, still)
    assert all(np.abs(values).max() < 1e-6 for motion in motions.values() for values in motion)


def test_every_baseline_is_described_and_comes_out_once(drive):
    labels = TrainLabels(np.zeros((10, 2)), np.zeros((10, 2)), 500, train_motion(500))
    truth = drive([(8.0, 0.0), (3.0, 0.01)], ["a", "a"])
    motions = predict_baselines(
        truth, labels, AnswerFormat(num_pairs=10, fps=10.0), (truth.velocity_mps, truth.curvature_per_m)
    )
    assert list(motions) == list(DESCRIPTIONS)
    assert set(KNOWS) == set(DESCRIPTIONS)
    assert list(motions)[-2:] == list(FLOORS)
    assert all(part.shape == (2, 10) for motion in motions.values() for part in motion)
