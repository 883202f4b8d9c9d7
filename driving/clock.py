"""Recorded time: microseconds, half-open windows, and the instants a segment asks for.

All times of one recording share one clock, in int64 microseconds (`_us`). A window is `[start, stop)`.
A segment numbered s of a recording whose clock zero is z covers, with duration d:

    input   [z + s d,        z + (s+1) d)     frames on the grid  start + i / fps
    target  [z + (s+1) d,    z + (s+2) d)     motion at midpoints start + (i + 0.5) / fps
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

US_PER_S = 1_000_000


@dataclass(frozen=True, order=True)
class Window:
    """A half-open range of recorded time, `[start_us, stop_us)`."""

    start_us: int
    stop_us: int

    def __post_init__(self) -> None:
        if self.stop_us <= self.start_us:
            raise ValueError(f"window [{self.start_us}, {self.stop_us}) us is empty or reversed")

    @property
    def duration_us(self) -> int:
        return self.stop_us - self.start_us


@dataclass(frozen=True)
class SegmentTimes:
    """One segment: the observed window, and the window whose motion is asked for.

    Attributes:
        index: s, counted from the clock zero of the recording in units of the duration.
        observed: what the model is shown.
        target: what it must predict; touches the end of `observed`.
    """

    index: int
    observed: Window
    target: Window


def to_us(seconds: float) -> int:
    """Seconds to whole microseconds, rounded to nearest."""
    return round(seconds * US_PER_S)


def plan_segments(clock_zero_us: int, end_us: int, duration_us: int) -> list[SegmentTimes]:
    """Cut a recording into touching segments whose target second has also been recorded.

    A recording of 20 s gives 19 segments of 1 s: the twentieth second has no future.
    `end_us` is the instant up to which the recording shows the world (last frame plus one frame interval).
    """
    num_windows = max(0, (end_us - clock_zero_us) // duration_us)
    starts_us = [clock_zero_us + index * duration_us for index in range(num_windows)]
    return [
        SegmentTimes(
            index, Window(start, start + duration_us), Window(start + duration_us, start + 2 * duration_us)
        )
        for index, start in enumerate(starts_us[:-1])
    ]  # fmt: skip


def plan_grid(window: Window, rate_hz: float) -> np.ndarray:
    """(n,) int64 us: the nominal frame instants `start + i / rate` inside a window."""
    return window.start_us + np.round(np.arange(_num_samples(window, rate_hz)) * US_PER_S / rate_hz).astype(np.int64)


def plan_midpoints(window: Window, rate_hz: float) -> np.ndarray:
    """(n,) int64 us: the middle of each of the window's n intervals, `start + (i + 0.5) / rate`."""
    midpoints = (np.arange(_num_samples(window, rate_hz)) + 0.5) * US_PER_S / rate_hz
    return window.start_us + np.round(midpoints).astype(np.int64)


def plan_edges(window: Window, rate_hz: float) -> np.ndarray:
    """(n + 1,) int64 us: the window's start and the end of each of its n intervals."""
    edges = np.arange(_num_samples(window, rate_hz) + 1) * US_PER_S / rate_hz
    return window.start_us + np.round(edges).astype(np.int64)


def _num_samples(window: Window, rate_hz: float) -> int:
    return max(1, round(window.duration_us * rate_hz / US_PER_S))
