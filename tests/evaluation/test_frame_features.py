"""What is measured in the frames: flow of a drawn texture that is moved by a known way, and differences."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scoring.frame_features import GRID, NUM_PARTS, NUM_SIZES, measure_frames, shrink

NUM_CELLS = GRID[0] * GRID[1]
NUM_FLOW = NUM_PARTS * NUM_CELLS * 2
NUM_OF_SIZE = NUM_FLOW + 2 * NUM_PARTS * NUM_CELLS + NUM_CELLS
FPS = 10.0


def draw(shift_x_px: float, shift_y_px: float = 0.0, num_frames: int = 5) -> np.ndarray:
    """A smooth texture of 64 x 160 px that goes right and down by so much a frame."""
    rows, columns = np.mgrid[:64, :160].astype(np.float64)
    frames = []
    for index in range(num_frames):
        x, y = columns - index * shift_x_px, rows - index * shift_y_px
        frames.append(128 + 40 * np.sin(x / 5) + 40 * np.cos(y / 6) + 20 * np.sin((x + y) / 7))
    return np.repeat(np.round(frames).astype(np.uint8)[..., None], 3, axis=-1)


def flow_of(features: np.ndarray, size: int = 0) -> np.ndarray:
    """(parts, cells, 2) picture heights a second."""
    start = size * NUM_OF_SIZE
    return features[start : start + NUM_FLOW].reshape(NUM_PARTS, NUM_CELLS, 2)


def test_the_flow_of_a_moved_texture_is_its_speed_in_picture_heights_a_second():
    # half a px to the right and a quarter down, ten times a second, of 64 px
    flow = flow_of(measure_frames(draw(0.5, 0.25), FPS))
    assert np.allclose(np.median(flow[..., 0], axis=1), 0.5 * FPS / 64, rtol=0.1)
    assert np.allclose(np.median(flow[..., 1], axis=1), 0.25 * FPS / 64, rtol=0.1)


def test_a_way_of_two_px_is_seen_where_the_picture_is_half_as_high():
    flow = flow_of(measure_frames(draw(2.0), FPS), size=1)
    assert np.allclose(np.median(flow[..., 0], axis=1), 2.0 * FPS / 64, rtol=0.15)


def test_the_same_way_in_half_the_time_is_twice_the_flow():
    slow, fast = (flow_of(measure_frames(draw(0.5), fps)) for fps in (10.0, 20.0))
    assert np.allclose(fast, 2 * slow)


def test_a_mirrored_clip_flows_the_other_way_in_the_mirrored_cells():
    clip = draw(0.5)[:, :, :155]  # five cells of 31 px: they mirror onto one another only where they are equal
    plain, mirrored = (
        flow_of(measure_frames(frames, FPS)).reshape(NUM_PARTS, *GRID, 2) for frames in (clip, clip[:, :, ::-1])
    )
    assert np.median(mirrored[..., 0]) == pytest.approx(-np.median(plain[..., 0]), rel=0.05)


def test_a_clip_that_stands_still_has_no_differences_and_no_flow():
    features = measure_frames(draw(0.0), FPS)
    for size in range(NUM_SIZES):
        moving = features[size * NUM_OF_SIZE : (size + 1) * NUM_OF_SIZE - NUM_CELLS]
        assert not moving.any()


def test_a_grey_clip_and_one_of_a_single_frame_have_finite_features():
    assert not measure_frames(np.full((4, 64, 96, 3), 128, np.uint8), FPS).any()
    assert np.isfinite(measure_frames(draw(1.0, num_frames=1), FPS)).all()


def test_the_features_of_clips_of_any_shape_and_length_are_as_many():
    shapes = [(5, 64, 128), (30, 256, 448), (2, 32, 32), (1, 96, 64)]
    lengths = {len(measure_frames(np.zeros((*shape, 3), np.uint8), FPS)) for shape in shapes}
    assert lengths == {NUM_SIZES * NUM_OF_SIZE}


def test_shrinking_takes_the_mean_of_squares_over_all_colours():
    frames = np.zeros((1, 128, 64, 3), np.uint8)
    frames[0, :2, :2] = [[[0, 30, 60], [30, 30, 30]], [[90, 90, 90], [0, 0, 0]]]
    grey = shrink(frames)
    assert grey.shape == (1, 64, 32)
    assert grey[0, 0, 0] == (90 + 90 + 270 + 0) / 12
    assert grey[0, 0, 1] == 0
