"""What a motion that is too coarse for labels tells of each segment: words, and a ledger line where it tells nothing.

A segment whose facts are not known is cut all the same: its line in the ledger is a note, and counts as bad nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driving.clock import US_PER_S, SegmentTimes, Window
from driving.coarse_motion import (
    MIN_LABEL_HZ,
    SPEED_UNKNOWN,
    TURN_UNKNOWN,
    CoarseMotion,
    MotionGrid,
    describe_recording,
    describe_window,
    lay_grid,
    no_motion,
)
from driving.ledger import Skip
from driving.recording import Recording
from driving.sampling import median_rate_hz

FACTS = "facts"  # the stage of a ledger line that is a note: the segments are there, some of their facts are not
MAX_LENGTH_ERROR_S = 2.0


@dataclass(frozen=True)
class SegmentFacts:
    """What the car did, in words of `driving.coarse_motion.WINDOW_FACTS`.

    Attributes:
        observed, target: in the input second, and in the one after it.
        clip: in the whole recording, in words of MOTION_FACTS; None where it is not known throughout.
    """

    observed: list[str]
    target: list[str]
    clip: list[str] | None


@dataclass(frozen=True)
class ToldMotion:
    """A recording's coarse motion, ready to be asked about its segments.

    Attributes:
        first_us: the first frame, on the recording's clock.
        problem: what could not be used.
    """

    grid: MotionGrid
    clip: list[str] | None
    first_us: int
    problem: str

    def facts_of(self, times: SegmentTimes) -> SegmentFacts:
        """The facts of one segment."""

        def describe(window: Window) -> list[str]:
            return describe_window(self.grid, window.start_us - self.first_us, window.stop_us - self.first_us)

        return SegmentFacts(describe(times.observed), describe(times.target), self.clip)

    def list_unknown(self, recording_id: str, facts: Sequence[SegmentFacts | None]) -> list[Skip]:
        """One ledger line of the recording where facts are missing, or part of its log was not used; else none."""
        num_unknown = sum(told is not None and not is_told(told.observed) for told in facts)
        if not num_unknown and not self.problem:
            return []
        problem = self.problem or "fixes do not reach its ends, or lie too far apart"
        reason = f"{problem}; motion facts of {num_unknown} of {len(facts)} segments are not known"
        return [Skip(recording_id, FACTS, reason, {"num_unknown": num_unknown})]


def is_told(facts: Sequence[str]) -> bool:
    """Whether speed and way are both known."""
    return SPEED_UNKNOWN not in facts and TURN_UNKNOWN not in facts


def lay_facts(recording: Recording, frame_times_us: np.ndarray, interval_us: int) -> ToldMotion | None:
    """A recording's coarse motion: its own, or ego motion below 5 Hz; None where there is neither.

    Args:
        frame_times_us: (F,) on the recording's clock.
        interval_us: of a frame.
    """
    first_us = int(frame_times_us[0])
    length_us = int(frame_times_us[-1]) - first_us + interval_us
    coarse = recording.coarse_motion or _coarsen(recording, first_us)
    if coarse is None:
        return None
    if coarse.length_us is not None and abs(coarse.length_us - length_us) > MAX_LENGTH_ERROR_S * US_PER_S:
        coarse = no_motion(
            f"the video lasts {length_us / US_PER_S:.1f} s, its log says {coarse.length_us / US_PER_S:.1f} s, so "
            "nothing tells which part of it the log is of"
        )
    grid = lay_grid(coarse, length_us)
    return ToldMotion(grid, describe_recording(grid), first_us, coarse.problem)


def _coarsen(recording: Recording, first_us: int) -> CoarseMotion | None:
    """Ego motion that is recorded less often than labels need, as fixes."""
    motion = recording.ego_motion
    if motion is None or median_rate_hz(motion.timestamps_us) >= MIN_LABEL_HZ:
        return None
    rows = motion.is_finite & np.isfinite(motion.heading_rad)
    times_us = motion.timestamps_us[rows] - first_us
    rate_hz = median_rate_hz(motion.timestamps_us)
    problem = f"ego motion comes {rate_hz:.1f} times a second, labels need {MIN_LABEL_HZ:g}: facts only"
    return CoarseMotion(times_us, motion.speed_mps[rows], times_us, np.unwrap(motion.heading_rad[rows]), problem)
