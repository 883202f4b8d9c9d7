"""Where a point of the road is in the picture. Pixels by hand: column = cx + fx x / z, row = cy + fy y / z."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from driving.calibration import build_rotation, parse_calibration, read_calibration
from driving.camera import CameraModel, build_f_theta, build_pinhole, format_camera, parse_camera
from driving.errors import SourceError

PINHOLE = build_pinhole((600, 800), (500.0, 400.0), (390.0, 310.0), (1.5, 0.2, 1.2))
F_THETA = build_f_theta((600, 800), (0.0, 450.0, -20.0), (400.0, 300.0), (0.0, 0.0, 1.0))


def test_a_pinhole_puts_a_point_where_hand_arithmetic_does():
    # 11.5 m ahead is 10 m before the camera; 2.2 m left is 2 m left of it; on the road is 1.2 m below it
    assert PINHOLE.project([11.5, 2.2, 0.0], 600, 800) == pytest.approx([390 - 500 * 0.2, 310 + 400 * 0.12])


def test_a_point_straight_ahead_of_the_camera_is_its_center():
    assert PINHOLE.project([30.0, 0.2, 1.2], 600, 800) == pytest.approx([390, 310])
    assert F_THETA.project([30.0, 0.0, 1.0], 600, 800) == pytest.approx([400, 300])


def test_an_f_theta_lens_bends_a_ray_by_its_polynomial():
    # 45 degrees to the right, level: radius = 450 a - 20 a^2 with a = pi / 4
    radius = 450 * math.pi / 4 - 20 * (math.pi / 4) ** 2
    assert F_THETA.project([5.0, -5.0, 1.0], 600, 800) == pytest.approx([400 + radius, 300])


@pytest.mark.parametrize("camera", [PINHOLE, F_THETA])
def test_a_camera_holds_for_the_scaled_picture_too(camera):
    point = [9.0, -1.0, 0.3]
    large, small = camera.project(point, 600, 800), camera.project(point, 150, 400)
    assert small == pytest.approx(large * [0.5, 0.25])


def test_what_is_behind_a_pinhole_is_nowhere():
    assert np.isnan(PINHOLE.project([[0.0, 0.0, 0.0], [1.5, 0.2, 0.0]], 600, 800)).all()


def test_what_lies_beyond_the_angle_at_which_the_radius_shrinks_is_nowhere():
    camera = build_f_theta((600, 800), (0.0, 450.0, -225.0), (400.0, 300.0), (0.0, 0.0, 1.0))  # grows up to 1 rad
    assert camera.widest_angle_rad == pytest.approx(1.0)
    right = np.array([[1.0, -math.tan(0.99), 1.0], [1.0, -math.tan(1.01), 1.0]])
    assert np.isnan(camera.project(right, 600, 800)).tolist() == [[False, False], [True, True]]


def test_nvidias_devkit_projects_to_the_same_pixels():
    from physical_ai_av.utils.camera_models import FThetaCameraModel
    from scipy.spatial.transform import Rotation

    devkit = FThetaCameraModel(
        1920, 1080, np.array([950.0, 530.0]), np.polynomial.Polynomial([0, 930, 12, -40, 9]), None
    )
    turn = Rotation.from_euler("xyz", [-91.0, 0.7, -90.4], degrees=True)  # camera axes -> vehicle axes
    camera = build_f_theta((1080, 1920), (0, 930, 12, -40, 9), (950, 530), (1.7, -0.1, 1.4), turn.as_quat())
    points = np.random.default_rng(0).uniform([3, -6, -0.2], [40, 6, 3], (50, 3))
    expected = devkit.ray2pixel(turn.inv().apply(points - [1.7, -0.1, 1.4]))
    np.testing.assert_allclose(camera.project(points, 1080, 1920), expected, atol=1e-8)


@pytest.mark.parametrize("camera", [PINHOLE, F_THETA])
def test_a_camera_is_read_back_equal(camera):
    assert parse_camera(format_camera(camera)) == camera


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"lens": "fisheye"}, "camera lens 'fisheye' is not one of pinhole, f_theta"),
        ({"focal": [0.6, 0]}, r"camera focal \[0.6, 0.0\] must be above 0"),
        ({"center": [0.5]}, r"camera center \[0.5\] must be 2 finite numbers"),
        ({"position_m": [1, 2, None]}, "camera position_m .* must be 3 finite numbers"),
        ({"rotation_xyzw": [0, 0, 0, 2]}, "is no unit quaternion"),
        ({"radius": [0, 1]}, "an f_theta camera has a radius polynomial, a pinhole has none"),
        ({"lens": "f_theta", "radius": ["x"]}, "camera radius .* must be finite numbers"),
        ({"lens": "f_theta", "radius": [0, -1]}, "does not grow with the angle"),
        ({"zoom": 2}, "a camera needs lens, focal, center"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(change, complaint):
    values = json.loads(format_camera(PINHOLE)) | change
    with pytest.raises(SourceError, match=complaint):
        parse_camera(json.dumps(values))


def test_a_camera_that_is_no_json_is_refused():
    with pytest.raises(SourceError, match="a camera that is not JSON .*'{lens'"):
        parse_camera("{lens")


def test_a_picture_without_area_has_no_camera():
    with pytest.raises(SourceError, match="camera picture of 0x800 px has no area"):
        build_pinhole((0, 800), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0, 1.0))


# calibration files

MEASURED = {"width": 800, "height": 600, "fx": 500, "fy": 400, "cx": 390, "cy": 310, "position_m": [1.5, 0.2, 1.2]}


def test_a_calibration_in_pixels_is_a_level_camera_that_looks_ahead():
    assert parse_calibration(MEASURED) == PINHOLE


def test_a_calibration_of_an_f_theta_lens():
    lens = {key: value for key, value in MEASURED.items() if key not in ("fx", "fy")} | {"fw_poly": [0, 450, -20]}
    camera = parse_calibration(lens)
    assert camera == CameraModel(
        "f_theta",
        (1.0, 4 / 3),
        (390 / 800, 310 / 600),
        (1.5, 0.2, 1.2),
        camera.rotation_xyzw,
        (0, 450 / 800, -20 / 800),
    )


@pytest.mark.parametrize(
    "angles, place",
    [
        ((5.0, 0.0, 0.0), (0.0, -math.tan(math.radians(5)))),  # looking down, the horizon rises
        ((0.0, 5.0, 0.0), (math.tan(math.radians(5)), 0.0)),  # looking left, what is ahead moves right
        ((0.0, 0.0, 5.0), (0.0, 0.0)),  # rolled, what is ahead stays
    ],
)
def test_a_turned_camera_sees_the_point_ahead_elsewhere(angles, place):
    camera = build_pinhole((100, 100), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0, 1.0), build_rotation(*angles))
    assert camera.project([1e6, 0.0, 1.0], 100, 100) == pytest.approx(place, abs=1e-5)


def test_a_camera_rolled_to_the_right_sees_the_left_side_lower():
    camera = build_pinhole((100, 100), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0, 1.0), build_rotation(0.0, 0.0, 90.0))
    # right becomes down, down becomes left: what is 1 m left at 1 m lies one focal length below the axis
    assert camera.project([1.0, 1.0, 1.0], 100, 100) == pytest.approx([0.0, 1.0], abs=1e-9)


def test_what_format_camera_wrote_is_a_calibration_too(tmp_path):
    (tmp_path / "camera.json").write_text(format_camera(F_THETA))
    assert read_calibration(tmp_path / "camera.json") == F_THETA


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("{", "is not JSON"),
        ("[1]", r"a calibration is a JSON object, this is \[1\]"),
        ('{"width": 800}', "a calibration lacks height"),
        (json.dumps({**MEASURED, "fov": 90}), "a calibration knows no fov"),
        (json.dumps({**MEASURED, "fx": "wide"}), "a calibration holds something else than numbers"),
        (
            json.dumps({**MEASURED, "fx": -1}),
            "camera.json: camera focal .* must be above 0; see driving/calibration.py",
        ),
    ],
)
def test_a_calibration_that_cannot_be_used_names_the_file_and_the_fault(tmp_path, text, complaint):
    (tmp_path / "camera.json").write_text(text)
    with pytest.raises(SourceError, match=complaint):
        read_calibration(tmp_path / "camera.json")


def test_a_calibration_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SourceError, match="none.json is not there; leave --calibration out"):
        read_calibration(tmp_path / "none.json")
