"""Windows, segments and the instants they ask for, by hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from driving.clock import Window, count_samples, plan_edges, plan_grid, plan_midpoints, plan_segments, to_us
from driving.errors import DrivingError


def test_a_twenty_second_recording_gives_nineteen_segments_that_touch():
    segments = plan_segments(0, 20_000_000, 1_000_000)
    assert len(segments) == 19
    assert [segment.index for segment in segments] == list(range(19))
    assert segments[0].observed == Window(0, 1_000_000)
    assert segments[18].target == Window(19_000_000, 20_000_000)
    assert all(segment.observed.stop_us == segment.target.start_us for segment in segments)
    assert [a.observed.stop_us for a in segments[:-1]] == [b.observed.start_us for b in segments[1:]]


@pytest.mark.parametrize("end_us, num", [(1_999_999, 0), (2_000_000, 1), (2_999_999, 1), (0, 0), (-5, 0)])
def test_a_segment_needs_its_own_second_and_the_next(end_us, num):
    assert len(plan_segments(0, end_us, 1_000_000)) == num


def test_segments_start_at_the_clock_zero_wherever_that_is():
    (segment,) = plan_segments(-300_000, 700_000, 500_000)
    assert segment.observed == Window(-300_000, 200_000)
    assert segment.target == Window(200_000, 700_000)


def test_frames_are_asked_for_at_the_start_of_each_interval():
    assert plan_grid(Window(1_000_000, 2_000_000), 4).tolist() == [1_000_000, 1_250_000, 1_500_000, 1_750_000]


def test_motion_is_asked_for_in_the_middle_of_each_interval():
    assert plan_midpoints(Window(1_000_000, 2_000_000), 4).tolist() == [1_125_000, 1_375_000, 1_625_000, 1_875_000]


def test_poses_are_asked_for_at_every_edge():
    assert plan_edges(Window(0, 1_000_000), 4).tolist() == [0, 250_000, 500_000, 750_000, 1_000_000]


def test_thirty_frames_a_second_are_rounded_one_by_one():
    grid = plan_grid(Window(0, 1_000_000), 30)
    assert len(grid) == 30
    assert grid[[0, 1, 2, 3, 29]].tolist() == [0, 33_333, 66_667, 100_000, 966_667]
    assert grid.dtype == np.int64


def test_a_long_window_does_not_drift():
    assert plan_edges(Window(0, 6_400_000), 30)[-1] == 6_400_000
    assert plan_grid(Window(0, 3_600_000_000), 30)[-1] == 3_600_000_000 - 33_333


def test_a_window_shorter_than_an_interval_still_asks_for_one_instant():
    assert plan_grid(Window(0, 10_000), 30).tolist() == [0]


def test_intervals_fill_the_window_where_the_rate_is_nearly_whole():
    window = Window(0, 1_000_000)  # 29.97 frames: 30 intervals of 33,333.3 us
    assert np.array_equal(plan_grid(window, 29.97), plan_grid(window, 30))
    assert np.array_equal(plan_midpoints(window, 29.97), plan_midpoints(window, 30))
    assert plan_edges(window, 29.97)[-1] == 1_000_000


def test_edges_go_on_at_the_same_interval_after_the_window():
    assert plan_edges(Window(0, 1_000_000), 29.97, until_us=6_400_000).tolist() == [
        round(index * 1e6 / 30) for index in range(193)
    ]
    assert plan_edges(Window(0, 500_000), 4, until_us=700_000).tolist() == [0, 250_000, 500_000]


@pytest.mark.parametrize(
    "duration_s, rate_hz, num",
    [(1, 30, 30), (1, 29.97, 30), (1, 23.976, 24), (0.48, 25, 12), (2.5, 10, 25), (2, 0.5, 1)],
)
def test_a_window_of_nearly_whole_intervals_is_counted(duration_s, rate_hz, num):
    assert count_samples(duration_s, rate_hz) == num


@pytest.mark.parametrize(
    "duration_s, rate_hz, advice",
    [
        (1, 12.5, "is 12.5 frames, not a whole number; pass --fps 12 or 13, or --duration 0.96 or 1.04"),
        (0.5, 25, "is 12.5 frames, not a whole number; pass --fps 24 or 26, or --duration 0.48 or 0.52"),
        (1, 0.5, "is 0.5 frames, not a whole number; pass --fps 1, or --duration 2$"),
    ],
)
def test_a_window_of_half_an_interval_more_names_what_would_be_whole(duration_s, rate_hz, advice):
    with pytest.raises(DrivingError, match=advice):
        count_samples(duration_s, rate_hz)


@pytest.mark.parametrize("start_us, stop_us", [(5, 5), (6, 5)])
def test_an_empty_or_reversed_window_is_our_bug(start_us, stop_us):
    with pytest.raises(ValueError, match=rf"window \[{start_us}, {stop_us}\) us is empty or reversed"):
        Window(start_us, stop_us)


def test_seconds_become_whole_microseconds():
    assert to_us(1.044989e-01) == 104_499
    assert to_us(-0.2) == -200_000
    assert Window(0, to_us(0.5)).duration_us == 500_000
