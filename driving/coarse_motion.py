"""Motion recorded too seldom for labels (a phone's GPS once a second): what the car did, in words.

    fixes ──lay_grid──▶ speed and heading every 0.1 s, NaN where not known
                            ├─ describe_window    ──▶ ["brakes", "drives", "turns_left"]      one second
                            └─ describe_recording ──▶ MOTION_FACTS of all of it, or None

A (velocity, curvature) pair is never made of it: at 30 Hz nearly all of it would be invented.
S, H = fixes of speed and of heading, T = steps of the grid. Times are us since the first frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driving.clock import US_PER_S
from driving.motion_bins import TURN_EDGES_DEG
from driving.motion_facts import (
    ACCELERATES,
    BRAKES,
    REVERSES,
    STANDSTILL_MPS,
    STARTED_MPS,
    STARTS,
    STOPS,
    TURN_DEG,
    TURN_S,
    TURNS_LEFT,
    TURNS_RIGHT,
    find_motion_facts,
    lasts,
)

MIN_LABEL_HZ = 5.0  # motion recorded less often gives facts, never labels
DRIVES, STRAIGHT, SPEED_UNKNOWN, TURN_UNKNOWN = "drives", "straight", "speed_unknown", "turn_unknown"
WINDOW_FACTS = (
    ACCELERATES, BRAKES, STOPS, STARTS, REVERSES, DRIVES, TURNS_LEFT, TURNS_RIGHT, STRAIGHT, SPEED_UNKNOWN,
    TURN_UNKNOWN,
)  # fmt: skip
STRAIGHT_DEG_PER_S = TURN_EDGES_DEG[0]
SPLIT_TURN_DEG = 5.0  # a smaller turn around a stop makes neither side of it a turn
MAX_FIX_GAP_US = 2_500_000  # of fixes that come once a second, one may be lost
MAX_END_S = 2.0  # so much of a recording may lie before its first fix, and after its last
GRID_US = 100_000
GRID_S = GRID_US / US_PER_S


@dataclass(frozen=True)
class CoarseMotion:
    """Fixes of one recording.

    Attributes:
        speed_times_us: (S,) int64, strictly increasing; S may be 0.
        speed_mps: (S,) float64, finite.
        heading_times_us: (H,) int64, strictly increasing; H may be 0.
        heading_rad: (H,) float64, positive = left, without jumps; its zero means nothing.
        problem: what of the log could not be used, for the ledger; "" where all of it could.
        length_us: how long the recording is by the log's own account, or None.
    """

    speed_times_us: np.ndarray
    speed_mps: np.ndarray
    heading_times_us: np.ndarray
    heading_rad: np.ndarray
    problem: str = ""
    length_us: int | None = None


@dataclass(frozen=True)
class MotionGrid:
    """Speed and heading at 0, 0.1, 0.2, ... s after the first frame; NaN where they are not known.

    Attributes:
        speed_mps, heading_rad: (T,) float64.
        is_placed: (T,) bool: how far the car turned is known, and when. False where it turned between two fixes on
            either side of a stop.
        is_left, is_right: (T,) bool, inside a turn to that side.
    """

    speed_mps: np.ndarray
    heading_rad: np.ndarray
    is_placed: np.ndarray
    is_left: np.ndarray
    is_right: np.ndarray


def no_motion(problem: str) -> CoarseMotion:
    """No fix at all, and why."""
    return CoarseMotion(*(np.zeros(0, kind) for kind in (np.int64, float, np.int64, float)), problem)


def lay_grid(motion: CoarseMotion, stop_us: int) -> MotionGrid:
    """Read the fixes every 0.1 s from the first frame to `stop_us`: between fixes, never beyond them or over a gap.

    A standing car keeps its heading: heading is read off the time driven, in which a stop of a minute is no gap. (A
    GPS tells no course below walking speed.)
    """
    times_us = np.arange(0, stop_us + GRID_US, GRID_US)
    speed = _read_between(times_us, motion.speed_times_us, motion.speed_mps)
    is_driving = ~(np.abs(speed) < STANDSTILL_MPS)  # also where it is not known
    driven_us = np.concatenate([[0], np.cumsum(is_driving[1:] * GRID_US)])
    at_us = motion.heading_times_us
    beyond_us = np.minimum(at_us, 0) + np.maximum(at_us - times_us[-1], 0)
    fixes_us = np.round(np.interp(at_us, times_us, driven_us)).astype(np.int64) + beyond_us
    is_last = np.append(np.diff(fixes_us) > 0, True)[: len(fixes_us)]  # of those of one standstill
    at_us, fixes_us, fixes_rad = at_us[is_last], fixes_us[is_last], motion.heading_rad[is_last]
    heading = _read_between(driven_us, fixes_us, fixes_rad)
    if not is_driving.any():
        heading = np.zeros(len(times_us))
    is_split = (np.diff(at_us) > MAX_FIX_GAP_US) & (np.abs(np.diff(fixes_rad)) > np.radians(SPLIT_TURN_DEG))
    is_placed = np.ones(len(times_us), dtype=bool)
    if len(fixes_us):
        after = _find_next(driven_us, fixes_us)
        is_placed = ~np.append(False, is_split)[after] | (fixes_us[after] == driven_us)
    degrees, num_steps = np.degrees(heading), round(TURN_S / GRID_S)
    return MotionGrid(speed, heading, is_placed, _mark_turns(degrees, num_steps), _mark_turns(-degrees, num_steps))


def _find_next(at_us: np.ndarray, times_us: np.ndarray) -> np.ndarray:
    """(T,) the fix at each instant or the first one after it; the last fix where there is none."""
    return np.clip(np.searchsorted(times_us, at_us), 0, len(times_us) - 1)


def _read_between(at_us: np.ndarray, times_us: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(T,) values between fixes; NaN before the first, after the last, and between two that are too far apart."""
    if not len(times_us):
        return np.full(len(at_us), np.nan)
    after = _find_next(at_us, times_us)
    before = np.where(times_us[after] == at_us, after, np.maximum(after - 1, 0))
    is_inside = (at_us >= times_us[0]) & (at_us <= times_us[-1])
    is_known = is_inside & (times_us[after] - times_us[before] <= MAX_FIX_GAP_US)
    return np.where(is_known, np.interp(at_us, times_us, values), np.nan)


def _mark_turns(degrees: np.ndarray, num_steps: int) -> np.ndarray:
    """(T,) bool: samples of every shortest span of `num_steps` or less over which `degrees` rises by a turn."""
    marked = np.zeros(len(degrees), dtype=bool)
    is_open = np.ones(len(degrees), dtype=bool)
    for steps in range(1, min(num_steps, len(degrees) - 1) + 1):
        starts = np.flatnonzero(is_open[:-steps] & (degrees[steps:] - degrees[:-steps] >= TURN_DEG))
        is_open[starts] = False
        for start in starts:
            marked[start : start + steps + 1] = True
    return marked


def describe_window(grid: MotionGrid, start_us: int, stop_us: int) -> list[str]:
    """What the car does in one window, in the order of WINDOW_FACTS.

    Speed: `stops` and `drives` where it stands, or moves, for half a second; `stops` and `starts` also where it stands
    at the end, or only at the start; `accelerates`, `brakes`, `reverses` as in a whole recording; or `speed_unknown`.
    Way: `straight` (under 2 degrees a second), `turns_left` or `turns_right` (its share of a turn: inside one, and 3.75
    degrees a second or more to its side); none of them in a bend, or where the car stands; or `turn_unknown`.
    """
    first = round(start_us / GRID_US)
    rows = slice(first, max(first + 1, round(stop_us / GRID_US)) + 1)
    speed, heading = grid.speed_mps[rows], grid.heading_rad[rows]
    facts: set[str] = set()
    is_standing = False
    if len(speed) < rows.stop - rows.start or not np.isfinite(speed).all():
        facts.add(SPEED_UNKNOWN)
    else:
        stands = np.abs(speed) < STANDSTILL_MPS
        facts.update(find_motion_facts(speed, np.zeros(len(speed)), GRID_S))
        more = {
            STOPS: stands[-1],
            STARTS: stands[0] and abs(speed[-1]) > STARTED_MPS,
            DRIVES: lasts(~stands, GRID_S),
        }
        facts.update(name for name, holds in more.items() if holds)
        is_standing = bool(stands.all())
    if not is_standing:
        facts.update(_describe_way(grid, rows, heading))
    return [name for name in WINDOW_FACTS if name in facts]


def _describe_way(grid: MotionGrid, rows: slice, heading: np.ndarray) -> list[str]:
    if len(heading) < rows.stop - rows.start or not (np.isfinite(heading) & grid.is_placed[rows]).all():
        return [TURN_UNKNOWN]
    seconds = (rows.stop - 1 - rows.start) * GRID_S
    degrees = np.degrees(heading)
    change = (degrees[-1] - degrees[0]) / seconds
    share = TURN_DEG / TURN_S
    if change >= share and grid.is_left[rows].any():
        return [TURNS_LEFT]
    if change <= -share and grid.is_right[rows].any():
        return [TURNS_RIGHT]
    return [STRAIGHT] if np.ptp(degrees) / seconds < STRAIGHT_DEG_PER_S else []


def describe_recording(grid: MotionGrid) -> list[str] | None:
    """MOTION_FACTS of a whole recording; None where more than 2 s at an end, or anything between, is not known."""
    is_known = np.isfinite(grid.speed_mps) & np.isfinite(grid.heading_rad)
    rows = np.flatnonzero(is_known)
    if len(rows) < 2 or not is_known[rows[0] : rows[-1] + 1].all():
        return None
    if max(rows[0], len(is_known) - 1 - rows[-1]) * GRID_S > MAX_END_S + GRID_S:
        return None
    known = slice(rows[0], rows[-1] + 1)
    return find_motion_facts(grid.speed_mps[known], grid.heading_rad[known], GRID_S)
