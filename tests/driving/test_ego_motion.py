"""Speed, curvature and future poses read off recorded motion whose values are known by closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from driving.clock import Window, plan_edges, plan_midpoints
from driving.ego_motion import EgoMotion, extent_of_future, future_pose, hold_while_standing, sample_motion
from driving.errors import MotionError

SECOND = Window(1_000_000, 2_000_000)
MIDPOINTS = plan_midpoints(SECOND, 30)


def grid_us(seconds=4.0, rate_hz=100.0, start_s=0.0):
    return np.round((start_s + np.arange(round(seconds * rate_hz) + 1) / rate_hz) * 1e6).astype(np.int64)


def yaw_quaternion(heading):
    zero = np.zeros(len(heading))
    return np.stack([zero, zero, np.sin(heading / 2), np.cos(heading / 2)], axis=1)


def circle(speed, curvature, times_us=None, start_heading=0.0, **columns):
    """A car at constant speed on a circle, its velocity in the fixed frame."""
    times_us = grid_us() if times_us is None else times_us
    way = speed * times_us / 1e6
    heading = start_heading + curvature * way
    if curvature:
        x = (np.sin(heading) - np.sin(start_heading)) / curvature
        y = (np.cos(start_heading) - np.cos(heading)) / curvature
    else:
        x, y = way * np.cos(start_heading), way * np.sin(start_heading)
    zero = np.zeros(len(way))
    given = {
        "timestamps_us": times_us,
        "position_m": np.stack([x, y, zero], axis=1),
        "quaternion_xyzw": yaw_quaternion(heading),
        "velocity_mps": speed * np.stack([np.cos(heading), np.sin(heading), zero], axis=1),
    }
    return EgoMotion(**(given | columns))


def rows_of(motion, keep):
    """The same motion with only some of its rows."""
    return EgoMotion(
        motion.timestamps_us[keep], motion.position_m[keep], motion.quaternion_xyzw[keep], motion.velocity_mps[keep]
    )


def without_value(motion, row, column="position_m"):
    values = getattr(motion, column).copy()
    values[row] = np.nan
    fields = {name: getattr(motion, name) for name in ("timestamps_us", "position_m", "quaternion_xyzw")}
    return EgoMotion(**(fields | {"velocity_mps": motion.velocity_mps} | {column: values}))


@pytest.mark.parametrize("speed, curvature", [(8.0, 0.02), (8.0, -0.02), (-3.0, 0.02), (30.0, 0.0005), (10.0, 0.0)])
def test_a_circle_gives_back_its_speed_and_curvature(speed, curvature):
    read = sample_motion(circle(speed, curvature), SECOND, MIDPOINTS)
    assert read.velocity_mps == pytest.approx(speed, abs=1e-4)
    assert read.curvature_per_m == pytest.approx(curvature, abs=1e-6)


@pytest.mark.parametrize("speed, curvature", [(8.0, 0.02), (-3.0, 0.02), (-3.0, -0.02)])
def test_heading_rate_is_curvature_times_speed_also_in_reverse(speed, curvature):
    motion = circle(speed, curvature)
    read = sample_motion(motion, SECOND, MIDPOINTS)
    turned_rad = future_pose(motion, plan_edges(SECOND, 30))[-1, 2]
    assert (read.velocity_mps * read.curvature_per_m).mean() == pytest.approx(turned_rad, abs=1e-6)


def turns_left_after(instant_us):
    """Straight at 10 m/s, and from an instant on round a circle of 10 m."""
    times_us = grid_us(rate_hz=200.0)
    heading = 0.1 * 10.0 * np.maximum(times_us - instant_us, 0) / 1e6
    way = np.minimum(times_us, instant_us) / 1e5
    x, y = way + np.sin(heading) / 0.1, (1 - np.cos(heading)) / 0.1
    zero = np.zeros(len(way))
    velocity = 10.0 * np.stack([np.cos(heading), np.sin(heading), zero], axis=1)
    return EgoMotion(times_us, np.stack([x, y, zero], axis=1), yaw_quaternion(heading), velocity)


def test_what_is_observed_knows_nothing_of_a_turn_that_begins_when_the_clip_ends():
    motion = turns_left_after(SECOND.stop_us)
    read = sample_motion(motion, SECOND, MIDPOINTS, is_blind_after=True)
    assert read.curvature_per_m == pytest.approx(0, abs=1e-9)
    # The last midpoint is 16.7 ms before the turn, which +-50 ms would see.
    assert sample_motion(motion, SECOND, MIDPOINTS).curvature_per_m[-1] > 0.02


def test_a_circle_gives_back_its_curvature_also_to_one_who_does_not_look_ahead():
    read = sample_motion(circle(8.0, 0.02), SECOND, MIDPOINTS, is_blind_after=True)
    assert read.curvature_per_m == pytest.approx(0.02, abs=1e-6)


def test_speed_is_seen_along_the_car_and_not_along_the_fixed_frame():
    motion = circle(8.0, 0.02, start_heading=np.pi / 2)  # drives along fixed y: its fixed x velocity is near zero
    assert sample_motion(motion, SECOND, MIDPOINTS).velocity_mps == pytest.approx(8.0, abs=1e-4)


def test_a_sideways_velocity_is_no_speed():
    motion = circle(8.0, 0.0)
    sliding = circle(8.0, 0.0, velocity_mps=motion.velocity_mps + [0, 5.0, 0])
    assert sample_motion(sliding, SECOND, MIDPOINTS).velocity_mps == pytest.approx(8.0)


def test_without_recorded_velocity_speed_is_the_derivative_of_the_position():
    motion = circle(-3.0, 0.05, velocity_mps=None)
    read = sample_motion(motion, SECOND, MIDPOINTS)
    assert read.velocity_mps == pytest.approx(-3.0, abs=0.001)
    assert read.curvature_per_m == pytest.approx(0.05, abs=1e-5)


def test_a_heading_that_passes_half_a_turn_does_not_jump():
    motion = circle(8.0, 0.02, start_heading=np.pi - 0.2)  # crosses pi in the window
    assert sample_motion(motion, SECOND, MIDPOINTS).curvature_per_m == pytest.approx(0.02, abs=1e-6)
    assert future_pose(motion, plan_edges(SECOND, 30))[-1, 2] == pytest.approx(0.16, abs=1e-6)


def test_quaternions_of_either_sign_are_the_same_rotation():
    motion = circle(8.0, 0.02)
    flipped = circle(8.0, 0.02, quaternion_xyzw=motion.quaternion_xyzw * np.where(np.arange(401) % 3, 1, -1)[:, None])
    assert np.allclose(
        sample_motion(flipped, SECOND, MIDPOINTS).to_pairs(), sample_motion(motion, SECOND, MIDPOINTS).to_pairs()
    )
    edges = plan_edges(SECOND, 30)
    assert np.allclose(future_pose(flipped, edges), future_pose(motion, edges))


def test_fourteen_hertz_is_enough_for_the_same_answer():
    times = np.concatenate([grid_us(1.0), grid_us(3.0, 1 / 0.07, start_s=1.07)])
    read = sample_motion(circle(8.0, 0.02, times), SECOND, MIDPOINTS)
    assert read.velocity_mps == pytest.approx(8.0, abs=0.001)
    assert read.curvature_per_m == pytest.approx(0.02, abs=1e-5)


def test_a_speed_that_changes_is_read_by_time_and_not_by_row():
    times = np.concatenate([grid_us(1.5), grid_us(2.0, 1 / 0.07, start_s=1.57)])
    motion = circle(1.0, 0.0, times)
    growing = circle(1.0, 0.0, times, velocity_mps=motion.velocity_mps * (times / 1e6)[:, None])  # v = t m/s
    assert sample_motion(growing, SECOND, MIDPOINTS).velocity_mps == pytest.approx(MIDPOINTS / 1e6, abs=1e-9)


def test_noise_of_single_positions_does_not_add_up_in_the_curvature():
    motion = circle(10.0, 0.02)
    noise = np.random.default_rng(7).normal(0, 0.01, motion.position_m.shape)
    noisy = circle(10.0, 0.02, position_m=motion.position_m + noise)
    error = sample_motion(noisy, SECOND, MIDPOINTS).curvature_per_m - 0.02
    assert np.sqrt(np.mean(error**2)) < 0.0005  # 1.4 cm on a way of 1 m is 1.4 % of 0.02
    assert abs(error.mean()) < 0.0002


def test_a_gap_in_the_window_is_refused_with_its_length_and_place():
    keep = (grid_us() < 1_300_000) | (grid_us() > 1_790_000)
    with pytest.raises(MotionError, match=r"gap of 0.510 s at 1.290 s \(allowed 0.25 s\)"):
        sample_motion(rows_of(circle(8.0, 0.02), keep), SECOND, MIDPOINTS)


def test_a_gap_that_the_user_allows_is_bridged():
    keep = (grid_us() < 1_300_000) | (grid_us() > 1_790_000)
    read = sample_motion(rows_of(circle(8.0, 0.02), keep), SECOND, MIDPOINTS, max_gap_s=0.6)
    assert read.velocity_mps == pytest.approx(8.0, abs=0.02)
    assert read.curvature_per_m == pytest.approx(0.02, abs=1e-4)


@pytest.mark.parametrize("gap_us", [(500_000, 990_000), (2_010_000, 2_600_000)])
def test_a_gap_just_outside_the_window_does_not_matter(gap_us):
    times = grid_us()
    keep = (times <= gap_us[0]) | (times >= gap_us[1])
    read = sample_motion(rows_of(circle(8.0, 0.02), keep), SECOND, MIDPOINTS)
    assert read.curvature_per_m == pytest.approx(0.02, abs=1e-5)


@pytest.mark.parametrize("column", ["position_m", "quaternion_xyzw", "velocity_mps"])
def test_a_row_that_is_not_a_number_is_refused_by_the_window_that_needs_it(column):
    motion = without_value(circle(8.0, 0.02), 150, column)
    with pytest.raises(MotionError, match=r"not finite at row 150 \(1.500 s\)"):
        sample_motion(motion, SECOND, MIDPOINTS)


@pytest.mark.parametrize("column", ["position_m", "quaternion_xyzw", "velocity_mps"])
@pytest.mark.parametrize("window", [Window(0, 1_000_000), Window(2_000_000, 3_000_000)], ids=["before", "after"])
def test_a_row_that_is_not_a_number_spoils_no_other_window(column, window):
    motion = without_value(circle(8.0, 0.02), 150, column)
    read = sample_motion(motion, window, plan_midpoints(window, 30))
    assert read.velocity_mps == pytest.approx(8.0, abs=1e-4)
    assert read.curvature_per_m == pytest.approx(0.02, abs=1e-6)
    turned = future_pose(motion, plan_edges(window, 30))[-1]
    assert turned == pytest.approx([50 * np.sin(0.16), 50 * (1 - np.cos(0.16)), 0.16], abs=1e-4)


@pytest.mark.parametrize("row", [98, 99, 202, 203])
def test_a_bad_row_next_to_the_window_is_not_reached_for(row):
    read = sample_motion(without_value(circle(8.0, 0.02), row), SECOND, MIDPOINTS)
    assert read.curvature_per_m == pytest.approx(0.02, abs=1e-5)


def test_a_derived_speed_beside_a_bad_position_is_bad_too():
    motion = without_value(circle(8.0, 0.02, velocity_mps=None), 101)
    assert np.flatnonzero(~motion.is_finite).tolist() == [100, 101, 102]
    with pytest.raises(MotionError, match="not finite at row 100"):
        sample_motion(motion, SECOND, MIDPOINTS)


@pytest.mark.parametrize(
    "start_s, stop_s, message",
    [
        (0.0, 1.9, r"covers 0.000 to 1.900 s, the window needs 1.000 to 2.000 s"),
        (1.1, 4.0, r"covers 1.100 to 4.000 s, the window needs 1.000 to 2.000 s"),
    ],
)
def test_motion_that_ends_early_or_begins_late_is_never_extrapolated(start_s, stop_s, message):
    motion = circle(8.0, 0.02, grid_us(stop_s - start_s, start_s=start_s))
    with pytest.raises(MotionError, match=message):
        sample_motion(motion, SECOND, MIDPOINTS)
    with pytest.raises(MotionError, match="ego motion covers"):
        future_pose(motion, plan_edges(SECOND, 30))


def test_motion_that_ends_with_the_window_is_enough():
    read = sample_motion(circle(8.0, 0.02, grid_us(2.0)), SECOND, MIDPOINTS)
    assert read.curvature_per_m == pytest.approx(0.02, abs=1e-5)


def test_a_standing_car_has_no_curvature_whatever_its_heading_jitters():
    jitter = np.random.default_rng(7).normal(0, 0.001, 401)
    motion = circle(0.0, 0.0, quaternion_xyzw=yaw_quaternion(jitter))
    assert sample_motion(motion, SECOND, MIDPOINTS).curvature_per_m.tolist() == [0.0] * 30


def test_below_walking_pace_curvature_is_held_from_the_last_moving_instant():
    velocity = np.array([0.1, 2.0, 1.0, 0.29, 0.0, -0.2, -1.0])
    curvature = np.array([9.0, 0.1, 0.2, 9.0, 9.0, 9.0, 0.3])
    assert hold_while_standing(velocity, curvature).tolist() == [0.0, 0.1, 0.2, 0.2, 0.2, 0.2, 0.3]


def test_an_undefined_curvature_is_held_too():
    held = hold_while_standing(np.array([2.0, 2.0, 2.0]), np.array([0.1, np.nan, 0.3]))
    assert held.tolist() == [0.1, 0.1, 0.3]


def test_a_stop_in_the_window_keeps_the_curvature_it_came_with():
    times = grid_us()
    seconds = times / 1e6
    speed = np.clip(3.0 * (1.5 - seconds), 0.0, None)  # stands from 1.5 s on
    way = np.where(seconds < 1.5, 3.0 * (1.5 * seconds - seconds**2 / 2), 3.0 * 1.125)
    heading = 0.1 * way
    position = np.stack([np.sin(heading) / 0.1, (1 - np.cos(heading)) / 0.1, 0 * way], axis=1)
    velocity = speed[:, None] * np.stack([np.cos(heading), np.sin(heading), 0 * way], axis=1)
    read = sample_motion(EgoMotion(times, position, yaw_quaternion(heading), velocity), SECOND, MIDPOINTS)
    assert read.curvature_per_m == pytest.approx(0.1, abs=1e-3)
    assert read.velocity_mps[20:].max() < 0.01


def test_the_recorded_column_is_used_when_asked_for():
    motion = circle(8.0, 0.02, curvature_per_m=np.full(401, 0.03))
    assert sample_motion(motion, SECOND, MIDPOINTS, curvature="column").curvature_per_m == pytest.approx(0.03)
    assert sample_motion(motion, SECOND, MIDPOINTS).curvature_per_m == pytest.approx(0.02, abs=1e-6)


def test_a_column_that_is_missing_or_bad_points_to_the_pose():
    with pytest.raises(MotionError, match="no curvature column; use --curvature pose"):
        sample_motion(circle(8.0, 0.02), SECOND, MIDPOINTS, curvature="column")
    broken = circle(8.0, 0.02, curvature_per_m=np.where(np.arange(401) == 150, np.nan, 0.02))
    with pytest.raises(MotionError, match="curvature column is not finite in the window; use --curvature pose"):
        sample_motion(broken, SECOND, MIDPOINTS, curvature="column")


def test_a_future_pose_is_seen_from_the_first_one():
    motion = circle(8.0, 0.02, start_heading=1.0)
    poses = future_pose(motion, plan_edges(SECOND, 30))
    turned = 0.02 * 8.0 * np.arange(31) / 30
    assert poses[0].tolist() == [0, 0, 0]
    assert np.allclose(poses, np.stack([50 * np.sin(turned), 50 * (1 - np.cos(turned)), turned], axis=1), atol=1e-4)


def test_a_car_that_reverses_goes_back_in_its_own_frame():
    end = future_pose(circle(-3.0, 0.02), plan_edges(SECOND, 30))[-1]
    assert end == pytest.approx([-50 * np.sin(0.06), 50 * (1 - np.cos(0.06)), -0.06], abs=1e-4)


def test_the_future_reaches_to_the_limit_or_to_what_ends_it():
    motion = circle(8.0, 0.02)
    assert extent_of_future(motion, 1_000_000, 3_000_000) == 3_000_000
    assert extent_of_future(motion, 1_000_000, 9_000_000) == 4_000_000
    assert extent_of_future(motion, 5_000_000, 9_000_000) == 5_000_000
    assert extent_of_future(without_value(motion, 250), 1_000_000, 9_000_000) == 2_490_000
    keep = (grid_us() <= 2_000_000) | (grid_us() >= 2_500_000)
    assert extent_of_future(rows_of(motion, keep), 1_000_000, 9_000_000) == 2_000_000
    assert extent_of_future(without_value(motion, 100), 1_000_000, 9_000_000) == 1_000_000


def test_one_sample_is_no_motion():
    with pytest.raises(MotionError, match="holds 1 samples, at least 2 are needed"):
        rows_of(circle(8.0, 0.02), slice(0, 1))


def test_shapes_that_differ_are_refused():
    with pytest.raises(MotionError, match=r"position_m has shape \(401, 2\), \(401, 3\) was expected"):
        circle(8.0, 0.02, position_m=np.zeros((401, 2)))
    with pytest.raises(MotionError, match=r"curvature_per_m has shape \(400,\), \(401,\) was expected"):
        circle(8.0, 0.02, curvature_per_m=np.zeros(400))


@pytest.mark.parametrize("row, value", [(200, 1_990_000), (200, 0)], ids=["repeat", "backwards"])
def test_times_that_do_not_increase_name_the_row(row, value):
    times = grid_us()
    times[row] = value
    with pytest.raises(MotionError, match=f"do not increase at row 200: 1990000 us, then {value} us"):
        circle(8.0, 0.02, times)


def test_a_quaternion_that_is_no_rotation_names_the_row():
    quaternion = circle(8.0, 0.02).quaternion_xyzw.copy()
    quaternion[7] *= 1.1
    with pytest.raises(MotionError, match="quaternion at row 7 has norm 1.100, a rotation has 1"):
        circle(8.0, 0.02, quaternion_xyzw=quaternion)
