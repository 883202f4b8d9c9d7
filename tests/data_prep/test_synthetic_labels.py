"""Labels read from synthetic files in both layouts agree with the motion they were drawn from."""

import numpy as np
import pytest

from data_prep.sources import find_source
from data_prep.synthetic import constant_motion, draw_motion, write_dataset
from driving.clock import Window, plan_edges, plan_midpoints
from driving.ego_motion import future_pose, sample_motion

SECOND = 1_000_000
DRIVES = {
    "left": constant_motion(8.0, 0.02),
    "right": constant_motion(8.0, -0.02),
    "reversing": constant_motion(-3.0, 0.05),
    "standing": constant_motion(0.0, 0.02),
    "random": draw_motion(7, 0, 20),
}


@pytest.fixture(scope="module", params=["hub", "extracted"])
def motions(request, tmp_path_factory):
    """Ego motion by drive, as the source reads it."""
    root = tmp_path_factory.mktemp("labels") / request.param
    summary = write_dataset(root, list(DRIVES.values()), layout=request.param, seconds=4, height=32, width=48)
    source = find_source("auto", root)
    read = {ref.recording_id: source.read(ref).ego_motion for ref in source.plan(root)}
    return {name: read[clip_id] for name, clip_id in zip(DRIVES, summary.clip_ids, strict=True)}


@pytest.mark.parametrize("drive", ["left", "right", "reversing"])
def test_a_circle_gives_its_own_speed_and_signed_curvature(motions, drive):
    window = Window(2 * SECOND, 3 * SECOND)
    label = sample_motion(motions[drive], window, plan_midpoints(window, 30))
    truth = DRIVES[drive]
    np.testing.assert_allclose(label.velocity_mps, truth.speeds_mps[0], atol=0.01)
    np.testing.assert_allclose(label.curvature_per_m, truth.curvatures_per_m[0], atol=1e-4)


def test_a_standing_car_has_no_speed_and_no_curvature(motions):
    window = Window(0, SECOND)
    label = sample_motion(motions["standing"], window, plan_midpoints(window, 30))
    assert not label.velocity_mps.any() and not label.curvature_per_m.any()


# Up to 4.1 s the rows come at 100 Hz, after that at 14.3 Hz: curvature is then a mean over two rows.
@pytest.mark.parametrize("start_s, curvature_tolerance", [(0, 1e-4), (3, 1e-4), (6, 5e-4), (10, 5e-4)])
def test_a_random_drive_is_read_by_time_at_both_rates(motions, start_s, curvature_tolerance):
    window = Window(start_s * SECOND, (start_s + 1) * SECOND)
    instants_us = plan_midpoints(window, 30)
    label, truth = sample_motion(motions["random"], window, instants_us), DRIVES["random"].sample(instants_us)
    np.testing.assert_allclose(label.velocity_mps, truth.velocity_mps, atol=0.01)
    is_moving = np.abs(truth.velocity_mps) > 0.5
    assert is_moving.any()
    np.testing.assert_allclose(
        label.curvature_per_m[is_moving], truth.curvature_per_m[is_moving], atol=curvature_tolerance
    )


def test_the_future_pose_is_where_the_car_went(motions):
    edges_us = plan_edges(Window(SECOND, 2 * SECOND), 30)
    pose, state = future_pose(motions["random"], edges_us), DRIVES["random"].sample(edges_us)
    turned = state.heading_rad - state.heading_rad[0]
    dx, dy = state.x_m - state.x_m[0], state.y_m - state.y_m[0]
    cosine, sine = np.cos(state.heading_rad[0]), np.sin(state.heading_rad[0])
    expected = np.stack([cosine * dx + sine * dy, cosine * dy - sine * dx, turned], axis=1)
    np.testing.assert_allclose(pose, expected, atol=2e-3)
