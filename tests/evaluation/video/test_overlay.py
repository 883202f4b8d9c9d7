"""Paths in the picture: on the road where the camera says, from above where it says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from driving.camera import build_pinhole
from driving.trajectory import Trajectory, integrate
from evaluation.video.birds_eye import choose_reach
from evaluation.video.overlay import DrawnPath, describe_motion, draw_path, draw_readout, project_ribbon

HEIGHT, WIDTH = 240, 400
CAMERA = build_pinhole((HEIGHT, WIDTH), (300.0, 300.0), (200.0, 80.0), (1.5, 0.0, 1.2))
GREY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
BLUE = (0, 0, 255)


def drive(velocity_mps: float, curvature_per_m: float = 0.0, **changes) -> DrawnPath:
    motion = Trajectory(np.full(10, velocity_mps), np.full(10, curvature_per_m))
    return DrawnPath(integrate(motion, 0.1), BLUE, **changes)


def changed(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that were drawn on."""
    return np.nonzero((frame != GREY).any(axis=-1))


def test_a_ribbon_is_as_wide_as_a_car_and_ends_where_the_path_does():
    outline = project_ribbon(drive(12.0).poses, CAMERA, HEIGHT, WIDTH)
    # 12 m before the rear axle is 10.5 m before the camera: 0.9 m to each side, 1.2 m below
    assert outline[-1].tolist() == [
        [pytest.approx(200 - 300 * 0.9 / 10.5), pytest.approx(80 + 300 * 1.2 / 10.5)],
        [pytest.approx(200 + 300 * 0.9 / 10.5), pytest.approx(80 + 300 * 1.2 / 10.5)],
    ]


def test_a_path_straight_ahead_is_painted_on_the_road_before_the_car():
    rows, columns = changed(draw_path(GREY, CAMERA, [drive(12.0)]))
    assert rows.min() == pytest.approx(80 + 300 * 1.2 / 10.5, abs=3)  # the far end; the near end leaves the picture
    assert rows.max() == HEIGHT - 1
    assert columns.min() + columns.max() == pytest.approx(WIDTH, abs=3)


def test_a_left_curve_is_painted_to_the_left():
    _, columns = changed(draw_path(GREY, CAMERA, [drive(12.0, 0.03)]))
    assert np.median(columns) < WIDTH / 2 - 10


def test_the_frame_that_was_given_stays_as_it_was():
    frame = GREY.copy()
    draw_path(frame, CAMERA, [drive(12.0)])
    draw_readout(frame, ["50 km/h"])
    assert (frame == GREY).all()


def test_without_a_camera_the_path_is_drawn_from_above_in_a_corner():
    rows, columns = changed(draw_path(GREY, None, [drive(12.0)]))
    assert rows.min() > HEIGHT / 2 and columns.min() > WIDTH / 2


def test_a_path_below_the_picture_is_drawn_from_above_although_the_camera_is_known():
    rows, columns = changed(draw_path(GREY, CAMERA, [drive(2.0)]))
    assert rows.min() > HEIGHT / 2 and columns.min() > WIDTH / 2


def test_the_inset_can_be_left_out_or_asked_for():
    assert (draw_path(GREY, None, [drive(12.0)], inset=False) == GREY).all()
    assert (draw_path(GREY, CAMERA, [drive(12.0)], inset=True) != draw_path(GREY, CAMERA, [drive(12.0)])).any()


def test_a_standing_car_is_drawn_without_a_path_on_the_road():
    assert (draw_path(GREY, CAMERA, [drive(0.0)], inset=False) == GREY).all()


def test_from_above_the_way_ahead_is_up_and_left_is_left():
    plain = draw_path(GREY, None, [DrawnPath(drive(0.0).poses, (90, 90, 90))], reach_m=20.0)
    painted = draw_path(GREY, None, [drive(15.0, 0.05)], reach_m=20.0)
    rows, columns = np.nonzero((painted != plain).any(axis=-1))
    end = columns[rows == rows.min()].mean()
    start = columns[rows == rows.max()].mean()
    assert end < start - 5


def test_from_above_a_path_backwards_has_its_end_below_the_car_and_in_the_panel():
    plain = draw_path(GREY, None, [DrawnPath(drive(-6.0).poses, (90, 90, 90))], reach_m=10.0)
    painted = draw_path(GREY, None, [drive(-6.0)], reach_m=10.0)
    rows, _ = np.nonzero((painted != plain).any(axis=-1))
    panel, _ = changed(painted)
    assert panel.min() + 0.5 * np.ptp(panel) < rows.max() < panel.max()


@pytest.mark.parametrize("size", [(64, 128), (256, 448), (1080, 1920), (500, 90)])
def test_every_size_of_frame_can_be_drawn_on(size):
    frame = np.zeros((*size, 3), np.uint8)
    drawn = draw_path(frame, CAMERA, [drive(12.0, label="predicted", now=3)], inset=True)
    drawn = draw_readout(drawn, describe_motion(12.0, 0.01), "recorded at 4 frames a second")
    assert drawn.shape == frame.shape and drawn.dtype == np.uint8 and drawn.any()


def test_the_panel_shows_a_round_distance_beyond_the_farthest_path():
    assert [choose_reach([drive(speed)]) for speed in (0.0, 8.0, 14.0, 70.0, 900.0)] == [10, 10, 20, 80, 200]


@pytest.mark.parametrize(
    "motion, said",
    [
        ((11.94, 0.0042), ["43 km/h", "11.9 m/s", "left, radius 238 m (+0.0042 1/m)"]),
        ((11.94, -0.02), ["43 km/h", "11.9 m/s", "right, radius 50 m (-0.0200 1/m)"]),
        ((30.0, 0.0001), ["108 km/h", "30.0 m/s", "straight (+0.0001 1/m)"]),
        ((-0.04, -0.00001), ["0 km/h", "0.0 m/s", "straight (+0.0000 1/m)"]),
        ((-2.0, 0.0), ["7 km/h backwards", "-2.0 m/s", "straight (+0.0000 1/m)"]),
    ],
)
def test_speed_and_curvature_are_said_in_words(motion, said):
    assert describe_motion(*motion) == said
