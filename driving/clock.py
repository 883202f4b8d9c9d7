"""Recorded time: microseconds, half-open windows, and the instants a segment asks for.

All times of one recording share one clock, in int64 microseconds (`_us`). A window is `[start, stop)`.
A segment numbered s of a recording whose clock zero is z covers, with duration d:

    input   [z + s d,        z + (s+1) d)     frames on the grid  start + i d / n
    target  [z + (s+1) d,    z + (s+2) d)     motion at midpoints start + (i + 0.5) d / n

n = round(fps d) intervals fill the window exactly, so d / n is 1 / fps where fps d is whole, and stands for it where it
nearly is (29.97 fps for 1 s is 30 intervals of 1/30 s). Scores use the same d / n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from driving.errors import DrivingError

US_PER_S = 1_000_000
WHOLE_TOLERANCE = 0.005  # fps x duration may miss a whole number by this fraction: 29.97 and 23.976 x 1 s do by 0.001


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
    """(n,) int64 us: the nominal frame instants, the starts of the window's n intervals."""
    return _place(window, np.arange(_num_samples(window, rate_hz)), rate_hz)


def plan_midpoints(window: Window, rate_hz: float) -> np.ndarray:
    """(n,) int64 us: the middle of each of the window's n intervals."""
    return _place(window, np.arange(_num_samples(window, rate_hz)) + 0.5, rate_hz)


def plan_edges(window: Window, rate_hz: float, until_us: int | None = None) -> np.ndarray:
    """(n + 1,) int64 us: the window's start and the end of each of its n intervals.

    With `until_us` the same intervals go on after the window, up to that instant.
    """
    num = _num_samples(window, rate_hz)
    if until_us is not None:
        num = max(num, int((until_us - window.start_us) * num / window.duration_us + 1e-6))
    return _place(window, np.arange(num + 1), rate_hz)


def count_samples(duration_s: float, rate_hz: float) -> int:
    """n, the intervals of a window of `duration_s`.

    Raises:
        DrivingError: The window does not hold a whole number of them; the message names values near by that do.
    """
    exact = duration_s * rate_hz
    num = round(exact)
    if num >= 1 and abs(exact - num) <= WHOLE_TOLERANCE * num:
        return num
    near = [count for count in (math.floor(exact), math.ceil(exact)) if count >= 1]
    rates = " or ".join(f"{count / duration_s:g}" for count in near)
    durations = " or ".join(f"{count / rate_hz:g}" for count in near)
    raise DrivingError(
        f"--fps {rate_hz:g} for --duration {duration_s:g} s is {exact:g} frames, not a whole number; "
        f"pass --fps {rates}, or --duration {durations}"
    )


def _place(window: Window, intervals: np.ndarray, rate_hz: float) -> np.ndarray:
    """Positions counted in intervals from the window's start, as instants."""
    offsets_us = intervals * window.duration_us / _num_samples(window, rate_hz)
    return window.start_us + np.round(offsets_us).astype(np.int64)


def _num_samples(window: Window, rate_hz: float) -> int:
    return max(1, round(window.duration_us * rate_hz / US_PER_S))
