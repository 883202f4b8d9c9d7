"""Checks of the camera's tables: are frames missing, and do they lie in the ego motion's time?"""

from __future__ import annotations

import numpy as np

from data_prep.audit.findings import FAIL, PASS, SKIP, Finding
from data_prep.audit.samples import Samples
from driving.clock import US_PER_S


def check_frames(raw: Samples, num_video_frames: int, video_times_us: np.ndarray | None) -> Finding:
    """Frame timestamps increase, leave no frame out, and are as many as the video has frames."""
    name = "camera frames"
    times = raw.frame_times_us if raw.frame_times_us is not None else video_times_us
    if times is None or len(times) < 3:
        return Finding(name, raw.recording_id, SKIP, "", "fewer than 3 frame timestamps")
    steps = np.diff(times)
    period_us = float(np.median(steps))
    measured = f"{len(times)} at {US_PER_S / period_us:.2f} Hz"
    if np.any(steps <= 0):
        row = int(np.argmax(steps <= 0)) + 1
        fix = "frame timestamps are out of order: the table is shuffled, or of another clip; download it again"
        return Finding(name, raw.recording_id, FAIL, f"{measured}, not increasing at row {row}", fix)
    num_missing = int(np.sum(np.round(steps / period_us) - 1))
    if len(times) != num_video_frames:
        fix = "frame i of the video is not row i of its timestamps; download both again"
        detail = f"{len(times)} timestamps for {num_video_frames} frames in the video"
        return Finding(name, raw.recording_id, FAIL, detail, fix, float(num_missing))
    if num_missing:
        at_s = times[int(np.argmax(steps))] / US_PER_S
        fix = "the camera dropped frames; segments over the hole go to the ledger (--frame-tolerance)"
        detail = f"{measured}, {num_missing} missing, longest hole {steps.max() / 1000:.0f} ms at {at_s:.2f} s"
        return Finding(name, raw.recording_id, FAIL, detail, fix, float(num_missing))
    return Finding(name, raw.recording_id, PASS, f"{measured}, none missing", value=0.0)


def check_overlap(samples: Samples) -> Finding:
    """Camera and ego motion were recorded over the same stretch of one clock."""
    name = "shared clock"
    times = samples.frame_times_us
    if times is None or len(times) < 2:
        return Finding(name, samples.recording_id, SKIP, "", "the camera has no timestamps of its own")
    first, last = samples.timestamps_us[[0, -1]]
    covered = float(np.mean((times >= first) & (times <= last)))
    measured = f"{covered:.1%} of frames inside the ego motion's time"
    if covered >= 0.9:
        return Finding(name, samples.recording_id, PASS, measured, value=covered)
    fix = (
        f"frames run from {times.min()} to {times.max()}, ego motion from {first} to {last}: "
        "another unit or another zero; bring both to microseconds of one clock"
    )
    return Finding(name, samples.recording_id, FAIL, measured, fix, covered)
