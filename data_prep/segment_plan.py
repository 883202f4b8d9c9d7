"""Decide which segments a recording gives: frames and labels of each. Nothing is decoded, nothing is written.

frame times, motion ──plan_segments──▶ windows ──choose_frames──▶ frame indices ┐
                                               ──label_segments─▶ labels        ├─▶ Segment, or a Skip with the reason
                                               ──facts_of───────▶ motion facts  ┘
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_prep.segment_facts import SegmentFacts, lay_facts
from data_prep.segment_labels import SegmentLabels, label_segments
from driving.clock import US_PER_S, SegmentTimes, plan_grid, plan_segments, to_us
from driving.errors import DrivingError, MotionError, VideoError
from driving.ledger import Skip
from driving.recording import Recording
from driving.sampling import choose_frames_of_all, median_rate_hz

MIN_RATE_FRACTION = 0.95  # a recording may be this much slower than the rate asked for
MAX_START_S = 3_600.0  # frames that begin further from the clock zero are on another clock (unix time, say)
MAX_SPAN_S = 86_400.0
PAUSE_S = 2.0  # frames further apart are a pause of the camera, not dropped frames
MAX_PAUSES, MAX_PAUSE_S = 3, 60.0  # with more or longer ones it is the clock that is broken
MAX_TIME_US = 2**62  # beyond it a window's end may not fit into int64
EDGE = "edge"  # the stage of a skip that is no fault: camera and motion begin or end inside the segment
EXCLUDED = "excluded"  # and of another: the dataset itself leaves the recording out


def skip_segment(segment_id: str, stage: str, reason: str, start_s: float) -> Skip:
    """A ledger line of one segment; its second tells it from the line of a whole recording."""
    return Skip(segment_id, stage, reason, {"start_second": start_s})


def is_of_segment(skip: Skip) -> bool:
    """Whether a ledger line is of one segment, whatever its recording is called."""
    return "start_second" in skip.values


@dataclass(frozen=True)
class SegmentRules:
    """What decides the segments of a recording.

    Attributes:
        fps: frames a second of a segment.
        duration_s: length of the input window, and of the target window after it.
        frame_tolerance: of a frame interval, the largest distance between a frame and its nominal instant.
        max_gap_s, curvature: see `driving.ego_motion.sample_motion`.
    """

    fps: float
    duration_s: float
    frame_tolerance: float
    max_gap_s: float
    curvature: str

    @property
    def num_frames(self) -> int:
        return max(1, round(self.fps * self.duration_s))


@dataclass(frozen=True)
class Segment:
    """One segment that can be cut.

    Attributes:
        id: `<recording>_seg_<number>`.
        frame_indices: (T,) int64 into the recording's frames, strictly increasing.
        labels: None where the recording has no motion, or too coarse one.
        facts: what a coarse motion tells; None where there is none.
    """

    id: str
    times: SegmentTimes
    start_s: float
    frame_indices: np.ndarray
    labels: SegmentLabels | None
    facts: SegmentFacts | None = None


def plan_recording(
    recording: Recording, frame_times_us: np.ndarray, rules: SegmentRules
) -> tuple[list[Segment], list[Skip]]:
    """Plan all segments of one recording.

    Args:
        frame_times_us: (F,) int64 on the recording's clock.

    Raises:
        DrivingError: The recording as a whole cannot be used: its times are broken, or its rate is too low.
    """
    check_frame_times(frame_times_us, recording.ref.recording_id)
    check_rate(frame_times_us, rules.fps, recording.ref.recording_id)
    clock_zero_us = int(frame_times_us[0]) if recording.clock_zero_us is None else recording.clock_zero_us
    check_span(frame_times_us, clock_zero_us, recording.ref.recording_id)
    interval_us = round(float(np.median(np.diff(frame_times_us))))
    windows = plan_segments(clock_zero_us, int(frame_times_us[-1]) + interval_us, to_us(rules.duration_s))
    if not windows:
        raise DrivingError(
            f"{recording.ref.recording_id} shows {(frame_times_us[-1] - clock_zero_us) / US_PER_S:.2f} s; a segment "
            f"and its future need {2 * rules.duration_s:g} s"
        )
    told = lay_facts(recording, frame_times_us, interval_us)
    if told is not None:
        recording = replace(recording, ego_motion=None)
    segments: list[Segment] = []
    skips: list[Skip] = []
    for planned in _plan_all(recording, frame_times_us, windows, rules):
        if isinstance(planned, Segment) and told is not None:
            planned = replace(planned, facts=told.facts_of(planned.times))
        (segments if isinstance(planned, Segment) else skips).append(planned)
    if told is not None:
        skips += told.list_unknown(recording.ref.recording_id, [segment.facts for segment in segments])
    return segments, skips


def _plan_all(
    recording: Recording, frame_times_us: np.ndarray, windows: Sequence[SegmentTimes], rules: SegmentRules
) -> Iterator[Segment | Skip]:
    first = plan_grid(windows[0].observed, rules.fps)
    if len(frame_times_us) < len(first):
        reason = f"the recording has {len(frame_times_us)} frames, a segment needs {len(first)}"
        for times in windows:
            yield _skip(recording, times, rules, "frames", reason)
        return
    starts_us = np.array([times.observed.start_us for times in windows])
    chosen = choose_frames_of_all(frame_times_us, first + (starts_us - starts_us[0])[:, None])
    motion = recording.ego_motion
    labels: list[SegmentLabels | MotionError | None] = [None] * len(windows)
    if motion is not None:
        labels[:] = label_segments(motion, windows, rules.fps, max_gap_s=rules.max_gap_s, curvature=rules.curvature)
    for times, (indices, worst_us), label in zip(windows, chosen, labels, strict=True):
        allowed_us = rules.frame_tolerance * US_PER_S / rules.fps
        if worst_us > allowed_us:
            is_edge = frame_times_us[0] > times.observed.start_us + allowed_us
            reason = f"a frame is {worst_us / 1e3:.1f} ms from its instant, {allowed_us / 1e3:.1f} ms are allowed"
            yield _skip(recording, times, rules, EDGE if is_edge else "frames", reason)
        elif isinstance(label, MotionError):
            is_edge = times.target.stop_us > int(motion.timestamps_us[-1]) >= frame_times_us[-1]
            yield _skip(recording, times, rules, EDGE if is_edge else "label", str(label))
        else:
            yield Segment(_name(recording, times), times, times.index * rules.duration_s, indices, label)


def _name(recording: Recording, times: SegmentTimes) -> str:
    return f"{recording.ref.recording_id}_seg_{times.index:02d}"


def _skip(recording: Recording, times: SegmentTimes, rules: SegmentRules, stage: str, reason: str) -> Skip:
    return skip_segment(_name(recording, times), stage, reason, times.index * rules.duration_s)


def check_frame_times(frame_times_us: np.ndarray, recording_id: str) -> None:
    """Raise unless frame times increase; a short pause or three may be in them, and cost the segments over it.

    Raises:
        VideoError: With the frame where they repeat, go backwards or jump too far, or too often.
    """
    if len(frame_times_us) < 2:
        raise VideoError(f"{recording_id} has {len(frame_times_us)} frames; a recording of two or more is needed")
    steps = np.diff(frame_times_us)
    is_pause = steps > PAUSE_S * US_PER_S
    is_jump = is_pause if is_pause.sum() > MAX_PAUSES else steps > MAX_PAUSE_S * US_PER_S
    for is_wrong, what in ((steps < 0, "go back"), (steps == 0, "repeat"), (is_jump, "jump")):
        if is_wrong.any():
            row = int(np.argmax(is_wrong))
            raise VideoError(
                f"{recording_id}: frame times {what} after frame {row}: {frame_times_us[row] / US_PER_S:.3f} s, then "
                f"{frame_times_us[row + 1] / US_PER_S:.3f} s"
            )


def check_span(frame_times_us: np.ndarray, clock_zero_us: int, recording_id: str) -> None:
    """Raise where frames begin far from the clock zero, or go on for days: one fault, not a million empty segments.

    Raises:
        VideoError: With both instants.
    """
    first_us, last_us = int(frame_times_us[0]), int(frame_times_us[-1])
    if max(abs(first_us), abs(last_us)) > MAX_TIME_US or abs(first_us - clock_zero_us) > MAX_START_S * US_PER_S:
        raise VideoError(
            f"{recording_id}: frames begin at {first_us / US_PER_S:.3f} s, its clock zero is "
            f"{clock_zero_us / US_PER_S:.3f} s: two clocks; write both on one"
        )
    if last_us - first_us > MAX_SPAN_S * US_PER_S:
        raise VideoError(
            f"{recording_id}: frames span {(last_us - first_us) / US_PER_S:.0f} s, a recording is at most "
            f"{MAX_SPAN_S:.0f} s; its clock is broken, or cut it into parts"
        )


def check_rate(frame_times_us: np.ndarray, fps: float, recording_id: str) -> None:
    """Raise where the recording has too few frames a second, and say how many it can give.

    Raises:
        VideoError: The median rate is below 0.95 fps.
    """
    rate_hz = median_rate_hz(frame_times_us)
    if rate_hz < MIN_RATE_FRACTION * fps:
        highest = highest_rate(rate_hz)
        raise VideoError(
            f"{recording_id} was recorded at {rate_hz:.2f} frames a second, this run asks for {fps:g}; "
            f"pass --fps {highest:g} or --fps auto"
        )


def highest_rate(rate_hz: float) -> float:
    """The highest whole rate that a recording can give: 9.62 -> 10, 29.97 -> 30, 14.3 -> 14; below 1 Hz its own."""
    if rate_hz < 1:
        return math.floor(rate_hz * 1000) / 1000
    nearest = round(rate_hz)
    return float(nearest if rate_hz >= MIN_RATE_FRACTION * nearest else math.floor(rate_hz))
