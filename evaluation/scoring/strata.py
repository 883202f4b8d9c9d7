"""Rows sorted by what the car did, so that 70 % straight roads cannot hide what happens in the rest.

Source: research/field.md 2.4 (bins of speed, turn, longitudinal motion, starts and stops, place and time).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.metrics import MOVING_MPS
from driving.motion_bins import (
    MOTION_BINS,
    SPEED_BINS,
    TURN_BINS,
    mean_acceleration_mps2,
    mean_speed_mps,
    motion_bin,
    speed_bin,
    turn_bin,
    turn_deg,
)
from evaluation.scoring.truth import Truth

EVENT_BINS = ("standing", "starts", "stops", "driving")
HOUR_BINS = tuple(f"{hour:02d}-{hour + 4:02d} h" for hour in range(0, 24, 4))
DAYLIGHT_BINS = ("day (7-19 h)", "night")
DAY_HOURS = (7, 19)
NAMED_AXES = ("country", "platform", "weather")  # one bin a value, as the data spells it
MAX_NAMED_BINS = 30
UNKNOWN, OTHERS = "unknown", "others"


def assign_strata(truth: Truth) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Each axis -> (names of its bins, (B,) index of each row's bin).

    Country, platform, weather and the hour are axes where the data says them of at least one row.
    """
    axes = {
        "speed": (SPEED_BINS, speed_bin(mean_speed_mps(truth.velocity_mps))),
        "turn": (TURN_BINS, turn_bin(turn_deg(truth.poses))),
        "motion": (MOTION_BINS, motion_bin(mean_acceleration_mps2(truth.velocity_mps, truth.interval_s))),
        "event": (EVENT_BINS, event_bin(truth.velocity_mps)),
    }
    hours = [_read_hour(fact.get("hour")) for fact in truth.facts]
    if any(hour is not None for hour in hours):
        axes["hour"] = ((*HOUR_BINS, UNKNOWN), hour_bin(hours))
        axes["daylight"] = ((*DAYLIGHT_BINS, UNKNOWN), daylight_bin(hours))
    for name in NAMED_AXES:
        values = [fact.get(name) for fact in truth.facts]
        if any(value not in (None, "") for value in values):
            axes[name] = named_bin(values)
    return axes


def event_bin(velocity_mps: np.ndarray) -> np.ndarray:
    """(B,) index into EVENT_BINS: whether the car stands (under 0.3 m/s) at the first and at the last sample."""
    stands = np.abs(velocity_mps) < MOVING_MPS
    first, last = stands[:, 0], stands[:, -1]
    names = [stands.all(axis=1), first & ~last, ~first & last]
    return np.select(names, [0, 1, 2], default=3)


def hour_bin(hours: Sequence[int | None]) -> np.ndarray:
    """(B,) index into HOUR_BINS, and one more for rows without an hour."""
    return np.array([len(HOUR_BINS) if hour is None else hour // 4 for hour in hours], dtype=np.int64)


def daylight_bin(hours: Sequence[int | None]) -> np.ndarray:
    """(B,) index into DAYLIGHT_BINS by the clock alone (neither season nor place), and one more for no hour."""
    start, stop = DAY_HOURS
    return np.array([2 if hour is None else int(not start <= hour < stop) for hour in hours], dtype=np.int64)


def named_bin(values: Sequence[Any]) -> tuple[tuple[str, ...], np.ndarray]:
    """(names by falling count, (B,) index); beyond MAX_NAMED_BINS names the rest are "others"."""
    texts = [UNKNOWN if value in (None, "") else str(value) for value in values]
    ranked = sorted(Counter(texts).items(), key=lambda entry: (-entry[1], entry[0]))
    names = [name for name, _ in ranked[:MAX_NAMED_BINS]]
    place = {name: index for index, name in enumerate(names)}
    if len(ranked) > MAX_NAMED_BINS:
        names.append(OTHERS)
    return tuple(names), np.array([place.get(text, MAX_NAMED_BINS) for text in texts], dtype=np.int64)


def _read_hour(value: Any) -> int | None:
    is_hour = isinstance(value, int | float) and 0 <= value < 24
    return int(value) if is_hour else None
