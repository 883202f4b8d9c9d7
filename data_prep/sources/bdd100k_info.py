"""The info file of one BDD100K video: what the phone behind the windscreen measured, as far as it can be used.

    {"rideID", "startTime", "endTime" [ms since 1970], "timelapse",
     "locations": [{"timestamp" [ms], "speed" [m/s], "course" [degrees clockwise from north], ...}],
     "gps": [the same without course], "accelerometer": [{"x", "y", "z", "timestamp"}], "gyro": [...]}

    read_info ──▶ PhoneLog ──build_motion──▶ CoarseMotion (us since the first frame, positive = left)

Speed and course are -1 where the phone had none. The first frame was taken at startTime. Numbers may be strings; lists
may be missing, out of order, or hold one instant twice; `filename` is not the video's name.

Source: github.com/gy20073/BDD_Driving_Model, data_prepare/json_to_speed.py (times, -1, course), and
github.com/pwais/au2018, au/fixtures/datasets/bdd100k.py (the lists and their keys). Units and axes of gyro and
accelerometer are written nowhere: see bdd100k_gyro.py. No file of the dataset itself was at hand when this was written.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.bdd100k_gyro import integrate_gyro
from driving.coarse_motion import CoarseMotion, no_motion
from driving.errors import SourceError

US_PER_MS = 1_000
MAX_SPEED_MPS = 100.0
MIN_COURSE_SPEED_MPS = 2.0  # below it a GPS course swings by more than a bend turns
MAX_DISTANCE_MS = 3_600_000  # a fix further from the start than this is on another clock


@dataclass(frozen=True)
class Series:
    """One list of the log, in order, each instant once.

    Attributes:
        times_ms: (N,) float64 since 1970.
        values: (N, K) float64, NaN where there is no number.
        dropped: entries without a usable time, by reason.
    """

    times_ms: np.ndarray
    values: np.ndarray
    dropped: Counter[str]


@dataclass(frozen=True)
class PhoneLog:
    """One info file.

    Attributes:
        ride_id: "" where it says none.
        start_ms, end_ms: of the video; NaN where it says none.
        fixes: speed and course of `locations`, or of `gps` where that knows more speeds.
        gyro, accelerometer: x, y, z in the phone's frame.
    """

    ride_id: str
    start_ms: float
    end_ms: float
    is_timelapse: bool
    fixes: Series
    gyro: Series
    accelerometer: Series
    fixes_name: str = field(default="locations")


def read_info(path: Path) -> PhoneLog:
    """Read an info file.

    Raises:
        SourceError: It cannot be read as a JSON object.
    """
    try:
        log = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read as JSON ({error}); unpack it again") from error
    if not isinstance(log, dict):
        raise SourceError(f"{path} holds no JSON object; unpack it again")
    lists = {name: parse_series(log.get(name), ("speed", "course")) for name in ("locations", "gps")}
    fixes_name = max(lists, key=lambda name: int(_is_speed(lists[name].values[:, 0]).sum()))
    return PhoneLog(
        ride_id=log["rideID"] if isinstance(log.get("rideID"), str) else "",
        start_ms=parse_number(log.get("startTime")),
        end_ms=parse_number(log.get("endTime")),
        is_timelapse=str(log.get("timelapse")).lower() in ("true", "1"),
        fixes=lists[fixes_name],
        gyro=parse_series(log.get("gyro"), ("x", "y", "z")),
        accelerometer=parse_series(log.get("accelerometer"), ("x", "y", "z")),
        fixes_name=fixes_name,
    )


def parse_number(value: Any) -> float:
    """A number, or a string of one; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def parse_series(entries: Any, names: tuple[str, ...]) -> Series:
    """One list of the log; of entries of one instant the first is kept."""
    dropped: Counter[str] = Counter()
    rows: dict[float, list[float]] = {}
    for entry in entries if isinstance(entries, list) else []:
        time_ms = parse_number(entry.get("timestamp")) if isinstance(entry, dict) else math.nan
        if math.isnan(time_ms):
            dropped["without a time"] += 1
        elif time_ms in rows:
            dropped["a time that was there before"] += 1
        else:
            rows[time_ms] = [parse_number(entry.get(name)) for name in names]
    times_ms = sorted(rows)
    values = np.array([rows[time] for time in times_ms]).reshape(-1, len(names))
    return Series(np.array(times_ms, dtype=np.float64), values, dropped)


def build_motion(log: PhoneLog) -> CoarseMotion:
    """Speed and heading since the first frame, and what of the log could not be used."""
    if math.isnan(log.start_ms):
        return no_motion("startTime is missing, so nothing tells which frame a fix belongs to")
    if log.is_timelapse:
        return no_motion("a time lapse: its seconds are not those of the video")
    times_ms = log.fixes.times_ms - log.start_ms
    speed, course = log.fixes.values.T
    is_near = np.abs(times_ms) <= MAX_DISTANCE_MS
    has_speed = is_near & _is_speed(speed)
    has_course = has_speed & (speed >= MIN_COURSE_SPEED_MPS) & (course >= 0) & (course <= 360)
    dropped = log.fixes.dropped + Counter(
        {
            "an hour or more from startTime": int((~is_near).sum()),
            "speed -1": int((is_near & (speed == -1)).sum()),
            "no speed": int((is_near & ~_is_speed(speed) & (speed != -1)).sum()),
            "moving without a course": int((has_speed & (speed >= MIN_COURSE_SPEED_MPS) & ~has_course).sum()),
        }
    )
    times_us = np.round(times_ms * US_PER_MS)
    heading_times, heading = times_us[has_course].astype(np.int64), np.unwrap(-np.radians(course[has_course]))
    gyro = integrate_gyro(
        np.round((log.gyro.times_ms - log.start_ms) * US_PER_MS),
        log.gyro.values, log.accelerometer.values, heading_times, heading,
    )  # fmt: skip
    if gyro is not None:
        heading_times, heading = gyro
    return CoarseMotion(
        speed_times_us=times_us[has_speed].astype(np.int64),
        speed_mps=speed[has_speed],
        heading_times_us=heading_times,
        heading_rad=heading,
        problem=_format_dropped(log, dropped, int(has_speed.sum())),
        length_us=None if math.isnan(log.end_ms) else round((log.end_ms - log.start_ms) * US_PER_MS),
    )


def _is_speed(speed_mps: np.ndarray) -> np.ndarray:
    return (speed_mps >= 0) & (speed_mps <= MAX_SPEED_MPS)  # a NaN is neither


def _format_dropped(log: PhoneLog, dropped: Counter[str], num_used: int) -> str:
    num_fixes = len(log.fixes.times_ms) + log.fixes.dropped.total()
    if not num_fixes:
        return "neither locations nor gps holds a fix"
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()) if count)
    if not reasons:
        return ""
    return f"{num_used} of {num_fixes} fixes of {log.fixes_name} tell a speed ({reasons})"
