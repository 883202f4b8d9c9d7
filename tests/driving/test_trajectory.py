"""Arcs driven from speed and curvature, against circles and lines."""

from __future__ import annotations

import numpy as np
import pytest

from driving.trajectory import Trajectory, average_to_rate, integrate, integrate_batch, repeat_to_rate


def steady(speed, curvature, num=30):
    return Trajectory(np.full(num, float(speed)), np.full(num, float(curvature)))


def test_a_straight_line_is_speed_times_time():
    path = integrate(steady(12.0, 0.0), 1 / 30)
    assert path.shape == (31, 3)
    assert path[-1] == pytest.approx([12.0, 0.0, 0.0])


@pytest.mark.parametrize("num", [1, 7, 30], ids=["one arc", "seven", "thirty"])
def test_a_quarter_circle_to_the_left_ends_beside_its_centre(num):
    radius = 20.0
    way = radius * np.pi / 2
    end = integrate(steady(way, 1 / radius, num), 1 / num)[-1]
    assert end == pytest.approx([radius, radius, np.pi / 2])


def test_a_full_circle_comes_back():
    end = integrate(steady(2 * np.pi * 10, -0.1), 1 / 30)[-1]
    assert end == pytest.approx([0.0, 0.0, -2 * np.pi], abs=1e-9)


def test_reversing_to_the_left_turns_the_nose_right():
    end = integrate(steady(-3.0, 0.02), 1 / 30)[-1]
    assert end == pytest.approx([-50 * np.sin(0.06), 50 * (1 - np.cos(0.06)), -0.06])


def test_standing_stays():
    assert integrate(steady(0.0, 0.1), 1 / 30).tolist() == [[0.0, 0.0, 0.0]] * 31


def test_two_arcs_follow_each_other():
    path = integrate(Trajectory(np.array([np.pi, 5.0]), np.array([0.5, 0.0])), 1.0)
    assert path[1] == pytest.approx([2.0, 2.0, np.pi / 2])  # a quarter of radius 2
    assert path[2] == pytest.approx([2.0, 7.0, np.pi / 2])  # then 5 m along y


def test_a_batch_is_each_of_its_rows():
    rows = [steady(5.0, 0.02), steady(-2.0, 0.0)]
    batch = integrate_batch(np.stack([t.velocity_mps for t in rows]), np.stack([t.curvature_per_m for t in rows]), 0.1)
    assert np.array_equal(batch[0], integrate(rows[0], 0.1))
    assert np.array_equal(batch[1], integrate(rows[1], 0.1))


def test_averaging_keeps_the_way_and_the_turn():
    fine = Trajectory(np.array([1.0, 3.0, 2.0, 2.0]), np.array([0.1, 0.3, 0.0, 0.2]))
    coarse = average_to_rate(fine, 2)
    assert coarse.velocity_mps.tolist() == [2.0, 2.0]
    assert coarse.curvature_per_m == pytest.approx([(0.1 + 0.9) / 4, 0.1])
    assert integrate(coarse, 0.2)[-1, 2] == pytest.approx(integrate(fine, 0.1)[-1, 2])


def test_averaging_where_the_car_stands_or_turns_back_takes_the_plain_mean():
    still = average_to_rate(Trajectory(np.array([0.0, 0.0]), np.array([0.1, 0.3])), 1)
    assert still.curvature_per_m.tolist() == [0.2]


def test_averaging_needs_equal_runs():
    with pytest.raises(ValueError, match="30 samples cannot be averaged into 7 equal intervals"):
        average_to_rate(steady(1.0, 0.0), 7)


def test_repeating_drives_the_same_path():
    coarse = Trajectory(np.array([1.0, 3.0]), np.array([0.1, -0.2]))
    fine = repeat_to_rate(coarse, 6)
    assert fine.velocity_mps.tolist() == [1, 1, 1, 3, 3, 3]
    assert integrate(fine, 0.1)[[0, 3, 6]] == pytest.approx(integrate(coarse, 0.3))
    with pytest.raises(ValueError, match="2 intervals cannot be cut into 5"):
        repeat_to_rate(coarse, 5)


def test_pairs_go_there_and_back():
    pairs = [[1.0, 0.1], [2.0, -0.2]]
    assert Trajectory.from_pairs(pairs).to_pairs().tolist() == pairs
    assert len(Trajectory.from_pairs(np.array(pairs))) == 2


def test_speeds_and_curvatures_must_be_as_many():
    with pytest.raises(ValueError, match=r"velocity \(3,\) and curvature \(2,\) must be 1-D and equal"):
        Trajectory(np.zeros(3), np.zeros(2))
