"""The choice of frames, against every other choice."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.sampling import choose_frames, median_rate_hz


def best_worst_us(times, grid):
    """The smallest worst distance of all strictly increasing choices, by trying them all."""
    choices = np.array(list(combinations(range(len(times)), len(grid))))
    return int(np.abs(np.asarray(times)[choices] - grid).max(axis=1).min())


instants = st.lists(st.integers(0, 60), min_size=1, max_size=9, unique=True).map(sorted).map(np.array)


@settings(max_examples=300, deadline=None)
@given(times=instants, grid=instants)
def test_no_other_increasing_choice_has_a_smaller_worst_distance(times, grid):
    grid = grid[: len(times)]
    indices, worst_us = choose_frames(times, grid)
    assert np.all(np.diff(indices) > 0)
    assert np.abs(times[indices] - grid).max() == worst_us
    assert worst_us == best_worst_us(times, grid)


@settings(max_examples=200, deadline=None)
@given(times=instants, grid=instants)
def test_no_single_frame_can_be_moved_nearer_to_its_instant(times, grid):
    grid = grid[: len(times)]
    indices, _ = choose_frames(times, grid)
    bounds = [-1, *indices, len(times)]
    for step, index in enumerate(indices):
        free = np.arange(bounds[step] + 1, bounds[step + 2])
        assert np.abs(times[free] - grid[step]).min() == abs(times[index] - grid[step])


def test_frames_on_the_grid_are_taken_as_they_are():
    grid = np.arange(30) * 33_333
    indices, worst_us = choose_frames(np.arange(60) * 33_333, grid)
    assert indices.tolist() == list(range(30))
    assert worst_us == 0


def test_half_the_rate_takes_every_second_frame():
    indices, worst_us = choose_frames(np.arange(60) * 10, np.arange(30) * 20)
    assert indices.tolist() == list(range(0, 60, 2))
    assert worst_us == 0


def test_a_slower_camera_repeats_no_frame():
    times = np.round(np.arange(12) * 1e6 / 9.62).astype(np.int64)
    indices, worst_us = choose_frames(times, np.arange(10) * 100_000)
    assert np.diff(indices).tolist() == [1] * 9
    assert worst_us < 0.75 * 100_000


@pytest.mark.parametrize("rate_hz, fps, worst", [(9.62, 10, 0.69), (29.97, 30, 0.51)])
def test_the_worst_distance_of_known_cameras_stays_within_the_tolerance(rate_hz, fps, worst):
    times = np.round(np.arange(600) * 1e6 / rate_hz).astype(np.int64)
    seconds = range(int(600 / rate_hz) - 1)
    found = [choose_frames(times, s * 1_000_000 + np.round(np.arange(fps) * 1e6 / fps))[1] for s in seconds]
    assert max(found) * fps / 1e6 == pytest.approx(worst, abs=0.02)


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="2 recorded frames cannot fill a grid of 3"):
        choose_frames(np.array([0, 1]), np.array([0, 1, 2]))


def test_the_rate_is_that_of_the_median_interval():
    assert median_rate_hz(np.array([0, 100_000, 200_000, 900_000])) == pytest.approx(10.0)
    assert median_rate_hz(np.array([5])) == 0.0
