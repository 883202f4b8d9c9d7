"""Rates of a motion against hand arithmetic and scipy's filter."""

from __future__ import annotations

import numpy as np
import pytest

from driving.feasibility import LIMITS, count_violations, fit_parabolas, smooth_rates

T = 30
DT = 1 / 30
TIMES_S = (np.arange(T) + 0.5) * DT


def rates(velocity, curvature):
    found = smooth_rates(np.asarray(velocity, float)[None], np.broadcast_to(curvature, (1, T)).astype(float), DT)
    return {name: values[0] for name, values in found.items()}


def crossed(velocity, curvature):
    found = count_violations(np.asarray(velocity, float)[None], np.broadcast_to(curvature, (1, T)).astype(float), DT)
    return {name for name, values in found.items() if values[0]}


def test_a_steady_bend_has_its_turn_rate_and_lateral_acceleration_and_nothing_else():
    found = rates([10.0] * T, 0.03)
    assert found["yaw_rate"] == pytest.approx(np.full(T, 0.3), abs=1e-9)
    assert found["lateral_acceleration"] == pytest.approx(np.full(T, 3.0), abs=1e-9)
    for name in ("longitudinal_acceleration", "longitudinal_jerk", "jerk", "yaw_acceleration"):
        assert found[name] == pytest.approx(np.zeros(T), abs=1e-9)


def test_a_constant_acceleration_and_jerk_are_found_exactly():
    found = rates(5 + 2 * TIMES_S + 0.5 * 3 * TIMES_S**2, 0.0)
    assert found["longitudinal_acceleration"] == pytest.approx(2 + 3 * TIMES_S, abs=1e-9)
    assert found["longitudinal_jerk"] == pytest.approx(np.full(T, 3.0), abs=1e-9)
    assert found["jerk"] == pytest.approx(np.full(T, 3.0), abs=1e-9)


def test_a_growing_turn_rate_is_a_yaw_acceleration():
    assert rates([10.0] * T, 0.05 * TIMES_S)["yaw_acceleration"] == pytest.approx(np.full(T, 0.5), abs=1e-9)


@pytest.mark.parametrize("num_samples", [30, 31, 64, 192])
def test_the_slopes_are_those_of_scipys_filter_to_1e_9(num_samples):
    from scipy.signal import savgol_filter

    values = np.random.default_rng(num_samples).normal(size=num_samples)
    smooth, slope = fit_parabolas(num_samples, DT, window_s=0.7)  # 21 samples
    assert smooth @ values == pytest.approx(savgol_filter(values, 21, 2, mode="interp"), abs=1e-9)
    expected = savgol_filter(values, 21, 2, deriv=1, delta=DT, mode="interp")
    assert slope @ values == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "velocity, curvature, names",
    [
        ([10.0] * T, 0.0, set()),
        (10 + 2.3 * TIMES_S, 0.0, set()),
        (10 + 2.5 * TIMES_S, 0.0, {"longitudinal_acceleration"}),
        (10 - 4.0 * TIMES_S, 0.0, set()),
        (10 - 4.1 * TIMES_S, 0.0, {"longitudinal_acceleration"}),
        ([10.0] * T, -0.05, {"lateral_acceleration"}),
        ([5.0] * T, 0.195, {"yaw_rate"}),
        (10 + 2.2 * TIMES_S**2, 0.0, {"longitudinal_acceleration", "longitudinal_jerk"}),
        ([2.0] * T, 0.98 * (TIMES_S - 0.5), {"yaw_acceleration"}),
    ],
)  # fmt: skip
def test_a_limit_is_crossed_where_it_is(velocity, curvature, names):
    assert crossed(velocity, curvature) == (names | {"any"} if names else set())


def test_the_rounding_of_an_answer_is_no_violation():
    smooth = 10 + 0.6 * np.sin(2 * TIMES_S)
    printed = np.round(smooth, 1)
    assert np.abs(np.diff(printed, 2)).max() / DT**2 > 80  # what raw differences would call its jerk
    assert crossed(printed, 0.01) == crossed(smooth, 0.01) == set()


def test_an_answer_of_two_pairs_has_no_rates():
    found = count_violations(np.ones((3, 2)), np.zeros((3, 2)), 0.5)
    assert set(found) == {*LIMITS, "any"}
    assert all(np.isnan(values).all() for values in found.values())
    with pytest.raises(ValueError, match="2 samples hold no parabola"):
        fit_parabolas(2, 0.5)
