"""Pictures: where things are drawn, that motion carries the speed, and that one picture does not."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from data_prep.synthetic import ClipPlan, constant_motion, draw_motion
from data_prep.synthetic.camera import CAMERA_FORWARD_M, CAMERA_HEIGHT_M, Camera
from data_prep.synthetic.clip import draw_frames
from data_prep.synthetic.scene import LANE_M, draw_scene

SECOND = 1_000_000


def picture(motion, time_s, camera, index=0):
    times_us = np.array([round(time_s * SECOND)])
    luma, _, _ = next(draw_frames(ClipPlan(motion, index=index), 7, camera, times_us))
    return luma.astype(np.float64)


def test_the_right_edge_line_lies_where_the_camera_model_puts_it():
    camera = Camera(256, 448)
    scene = draw_scene(7, 0, -150, 200)
    luma = picture(constant_motion(0.0), 0, camera)
    for forward_m in (6.0, 9.0, 14.0):
        row = camera.cy + camera.focal_px * CAMERA_HEIGHT_M / forward_m
        column = camera.cx - scene.left_edge_m * camera.focal_px / forward_m
        if scene.lanes_left:  # wide on the left: look at the nearer right edge
            column = camera.cx + (scene.lanes_right + 0.5) * LANE_M * camera.focal_px / forward_m
        beside = 0.6 * camera.focal_px / forward_m
        line, asphalt = luma[int(row), int(column)], luma[int(row), int(column - np.sign(column - camera.cx) * beside)]
        assert line > asphalt + 50


def test_the_same_place_looks_the_same_at_every_speed():
    camera = Camera(64, 112)
    slow, fast = picture(constant_motion(5.0, 0.01), 4, camera), picture(constant_motion(20.0, 0.01), 1, camera)
    np.testing.assert_array_equal(slow, fast)


def test_a_standing_car_sees_a_standing_picture():
    camera = Camera(64, 112)
    frames = list(draw_frames(ClipPlan(constant_motion(0.0), index=0), 7, camera, np.array([0, SECOND, 5 * SECOND])))
    for first, last in zip(frames[0], frames[2], strict=True):
        np.testing.assert_array_equal(first, last)


def mismatch(before, after, camera, driven_m):
    """How unlike the asphalt ahead in `after` is to the same places in `before`, `driven_m` further away there."""
    forward_m, left_m = camera.ground_points()
    on_lane = (forward_m[:, None] < 9.0) & (np.abs(left_m) < 1.4)  # between the lines, which look the same all along
    row, _ = np.nonzero(on_lane)
    ahead_m = forward_m[row] + driven_m
    rows = camera.cy + camera.focal_px * CAMERA_HEIGHT_M / ahead_m - 0.5  # of pixel centres
    columns = camera.cx - left_m[on_lane] * camera.focal_px / ahead_m - 0.5
    difference = map_coordinates(before, [rows, columns], order=1) - after[camera.first_ground_row :][on_lane]
    return np.mean(difference**2)


@pytest.mark.parametrize("speed_mps", [0.0, 3.0, 8.0, 15.0, 22.0, 31.0])
def test_two_small_pictures_a_tenth_of_a_second_apart_tell_the_speed(speed_mps):
    camera = Camera(96, 160)
    motion = constant_motion(speed_mps)
    before, after = picture(motion, 1.0, camera, index=2), picture(motion, 1.1, camera, index=2)
    tried_m = np.arange(0.0, 4.0, 0.05)
    found_m = tried_m[np.argmin([mismatch(before, after, camera, driven_m) for driven_m in tried_m])]
    assert found_m == pytest.approx(speed_mps * 0.1, abs=0.15)


def test_a_left_bend_is_drawn_to_the_left():
    camera = Camera(128, 224)
    left, right = (picture(constant_motion(0.0, sign * 0.02), 0, camera, index=1) for sign in (1, -1))
    straight = picture(constant_motion(0.0), 0, camera, index=1)
    band = slice(camera.first_ground_row + 4, camera.first_ground_row + 14)
    half = camera.width // 2
    # Where the bend went there is ground instead of asphalt on the other side.
    assert np.abs(left - straight)[band, half:].mean() > 5 and np.abs(right - straight)[band, :half].mean() > 5


def ridge_gain(pictures, values, folds):
    """Best out-of-fold R^2 over a range of penalties: what single pictures tell about `values`, at the very most."""
    penalties = np.geomspace(1.0, 1e5, 11)
    centred = pictures - pictures.mean(axis=0)
    gram = centred @ centred.T / centred.shape[1]
    errors, spread = np.zeros(len(penalties)), 0.0
    for fold in range(5):
        train, test = folds != fold, folds == fold
        mean = values[train].mean()
        strengths, directions = np.linalg.eigh(gram[np.ix_(train, train)])
        along = directions.T @ (values[train] - mean)
        weights = directions @ (along[:, None] / (strengths[:, None] + penalties))
        guesses = mean + gram[np.ix_(test, train)] @ weights
        errors += np.sum((values[test][:, None] - guesses) ** 2, axis=0)
        spread += np.sum((values[test] - mean) ** 2)
    return float(1 - errors.min() / spread)


@pytest.fixture(scope="module")
def single_pictures():
    """One small picture of each of 300 recordings, with the speed and curvature of that moment."""
    camera = Camera(64, 112)
    rng = np.random.default_rng(0)
    pictures, speeds, curvatures = [], [], []
    for index in range(300):
        motion = draw_motion(7, index, 21)
        time_us = np.array([int(rng.integers(0, 20 * SECOND))])
        luma, _, _ = next(draw_frames(ClipPlan(motion, index=index), 7, camera, time_us))
        state = motion.sample(time_us)
        pictures.append(luma.reshape(32, 2, 56, 2).mean(axis=(1, 3)).ravel())
        speeds.append(state.velocity_mps[0])
        curvatures.append(state.curvature_per_m[0])
    return np.array(pictures), np.array(speeds), np.array(curvatures), np.arange(300) % 5


def test_one_picture_does_not_tell_the_speed(single_pictures):
    pictures, speeds, _, folds = single_pictures
    assert ridge_gain(pictures, speeds, folds) < 0.03


def test_the_same_regression_finds_curvature_which_one_picture_does_tell(single_pictures):
    pictures, _, curvatures, folds = single_pictures
    assert ridge_gain(pictures, curvatures, folds) > 0.4


def test_the_same_regression_would_find_a_brightness_that_followed_the_speed(single_pictures):
    pictures, speeds, _, folds = single_pictures
    assert ridge_gain(pictures + 1.0 * speeds[:, None], speeds, folds) > 0.2


def test_the_f_theta_columns_follow_the_drawn_pinhole_to_half_a_pixel():
    from physical_ai_av.utils.camera_models import FThetaCameraModel

    camera = Camera(256, 448)
    model = FThetaCameraModel.from_camera_row(camera.intrinsics())
    points = np.array([[-4.0, 1.4, 12.0], [3.0, 1.4, 6.0], [0.5, -3.0, 20.0], [-2.0, 1.4, 4.0]])  # right, down, ahead
    column, row = camera.project(points[:, 2], -points[:, 0], CAMERA_HEIGHT_M - points[:, 1])
    np.testing.assert_allclose(model.ray2pixel(points), np.stack([column, row], axis=1), atol=0.5)
    rays = model.pixel2ray(np.stack([column, row], axis=1))
    np.testing.assert_allclose(rays, points / np.linalg.norm(points, axis=1, keepdims=True), atol=2e-3)


def test_the_camera_looks_along_the_vehicle_axis():
    from scipy.spatial.transform import Rotation

    from data_prep.synthetic.camera import CAMERA_QUATERNION

    to_vehicle = Rotation.from_quat(CAMERA_QUATERNION)
    np.testing.assert_allclose(to_vehicle.apply([[0, 0, 1], [1, 0, 0]]), [[1, 0, 0], [0, -1, 0]], atol=1e-12)
    assert CAMERA_FORWARD_M > 0
