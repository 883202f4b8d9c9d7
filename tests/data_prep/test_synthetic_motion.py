"""The oracle itself: its motion is checked against closed forms and against another integrator."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from data_prep.synthetic import Motion, constant_motion, draw_motion
from data_prep.synthetic.clip import ego_table, plan_camera_times, plan_ego_times
from data_prep.synthetic.draw import MAX_SPEED_MPS, PEAK_ACCELERATION_MPS2

SECOND = 1_000_000


def at(motion, *seconds):
    return motion.sample(np.array(seconds) * SECOND)


def test_a_left_circle_turns_left_with_radius_one_over_curvature():
    state = at(constant_motion(10.0, 0.02), 0, np.pi * 50 / 2 / 10)  # a quarter of a circle of radius 50 m
    assert state.x_m[1] == pytest.approx(50.0, abs=1e-6)
    assert state.y_m[1] == pytest.approx(50.0, abs=1e-6)
    assert state.heading_rad[1] == pytest.approx(np.pi / 2, abs=1e-9)


def test_a_right_circle_is_the_mirror_of_the_left_one():
    left, right = at(constant_motion(7.0, 0.01), 3, 9), at(constant_motion(7.0, -0.01), 3, 9)
    np.testing.assert_allclose(right.y_m, -left.y_m, atol=1e-9)
    np.testing.assert_allclose(right.x_m, left.x_m, atol=1e-9)


def test_reversing_along_a_left_road_turns_the_heading_right():
    state = at(constant_motion(-2.0, 0.05), 0, 5)
    assert state.heading_rad[1] == pytest.approx(-0.5, abs=1e-9)  # kappa v t = 0.05 * -2 * 5
    assert state.x_m[1] == pytest.approx(-np.sin(0.5) / 0.05, abs=1e-6)


def test_a_standing_car_stays_at_the_anchor():
    state = at(constant_motion(0.0, 0.03), 0, 4, 19)
    assert not state.x_m.any() and not state.y_m.any() and not state.heading_rad.any()


def test_the_pose_at_time_zero_is_the_identity_wherever_the_knots_are():
    state = at(draw_motion(3, 5, 20), 0)
    assert (state.x_m[0], state.y_m[0], state.heading_rad[0]) == (0.0, 0.0, 0.0)


def test_distance_is_the_integral_of_a_speed_ramp():
    motion = Motion([0, 4], [2, 10], [0], [0])
    np.testing.assert_allclose(motion.distance_m(np.array([-1.0, 0.0, 2.0, 4.0, 5.0])), [-2, 0, 8, 24, 34])


def test_a_random_drive_agrees_with_a_general_integrator():
    motion = draw_motion(11, 2, 12)

    def rates(time_s, pose):
        speed = np.interp(time_s, motion.speed_times_s, motion.speeds_mps)
        curvature = np.interp(pose[3], motion.road_m, motion.curvatures_per_m)
        return [speed * np.cos(pose[2]), speed * np.sin(pose[2]), curvature * speed, speed]

    solved = solve_ivp(rates, (0, 10), [0, 0, 0, 0], t_eval=[2, 5, 10], rtol=1e-9, atol=1e-9, max_step=0.01).y
    state = at(motion, 2, 5, 10)
    np.testing.assert_allclose([state.x_m, state.y_m], solved[:2], atol=2e-3)
    np.testing.assert_allclose(state.heading_rad, solved[2], atol=1e-4)


def test_knots_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="speed_times_s must increase"):
        Motion([0, 0], [1, 2], [0], [0])


def test_velocity_columns_are_the_derivative_of_the_position_in_the_anchor_frame():
    times_us = np.arange(0, 8 * SECOND, 10_000)
    table = ego_table(constant_motion(9.0, 0.02), times_us)
    for place, velocity, acceleration in (("x", "vx", "ax"), ("y", "vy", "ay")):
        np.testing.assert_allclose(np.gradient(table[place], 0.01)[1:-1], table[velocity][1:-1], atol=1e-3)
        np.testing.assert_allclose(np.gradient(table[velocity], 0.01)[1:-1], table[acceleration][1:-1], atol=1e-3)


def test_the_curvature_column_leads_the_path_by_35_ms():
    motion = Motion([0], [10], [0, 100], [0, 0.01])  # d kappa / dt = 0.001 per second
    table = ego_table(motion, np.array([5 * SECOND]))
    assert table["curvature"][0] == pytest.approx(0.005 + 0.001 * 0.035, abs=1e-9)


def test_ego_motion_runs_at_100_hz_and_then_at_14_from_before_zero():
    steps = np.diff(times := plan_ego_times(7, 0, 20)) / 1000
    assert -200_500 <= times[0] <= -194_000 and 32.9 < times[-1] / SECOND < 33.2
    dense = steps[times[1:] < 20 * SECOND]
    assert np.median(dense) == pytest.approx(10, abs=0.2) and np.median(steps[-150:]) == pytest.approx(70, abs=0.3)
    assert steps.min() > 0


def test_a_gap_takes_the_rows_inside_it_away():
    times_us = plan_ego_times(7, 0, 20, ((5.0, 5.6),))
    assert not ((times_us >= 5_000_000) & (times_us < 5_600_000)).any()
    assert np.diff(times_us).max() >= 590_000


def test_camera_times_jitter_start_off_zero_and_reach_past_the_end():
    times_us = plan_camera_times(7, 4, 20)
    nominal = np.arange(len(times_us)) * SECOND / 30
    assert times_us[0] != 0 and -33_000 < times_us[0] < 11_000
    assert times_us[-1] >= 20 * SECOND and np.diff(times_us).min() > 0
    assert np.abs(times_us - nominal).max() > 1_000


@pytest.fixture(scope="module")
def drives():
    """Speed, curvature and acceleration of 100 recordings of seed 7, five times a second."""
    times_us = np.arange(0, 20 * SECOND, 200_000)
    states = [draw_motion(7, index, 34).sample(times_us) for index in range(100)]
    return {name: np.array([getattr(s, name) for s in states]) for name in ("velocity_mps", "curvature_per_m")}


def test_speeds_cover_standing_to_motorway_and_some_reverse(drives):
    speed = drives["velocity_mps"]
    assert speed.max() <= MAX_SPEED_MPS and (speed > 28).mean() > 0.03 and (speed == 0).mean() > 0.05
    assert 0.002 < (speed < -0.5).mean() < 0.03


def test_left_and_right_bends_balance(drives):
    curvature = drives["curvature_per_m"]
    left, right = (curvature > 0.005).mean(), (curvature < -0.005).mean()
    assert left > 0.2 and right > 0.2 and abs(left - right) < 0.1


def test_speed_and_curvature_are_not_related(drives):
    speed, bend = drives["velocity_mps"].ravel(), np.abs(drives["curvature_per_m"]).ravel()
    assert abs(np.corrcoef(speed, bend)[0, 1]) < 0.1


def test_speed_changes_no_faster_than_a_car_can():
    times_us = np.arange(0, 20 * SECOND, 50_000)
    fastest = max(np.abs(draw_motion(7, index, 34).sample(times_us).acceleration_mps2).max() for index in range(30))
    assert 1.0 < fastest <= PEAK_ACCELERATION_MPS2 + 0.2
