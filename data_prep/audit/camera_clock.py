"""Does the camera's clock agree with the ego motion's? Judged by what both see: when the car turns, the picture shifts.

    picture shifts between frames ────────────────┐
                                                  ├─ offset of least misfit over all recordings ──▶ ms
    ego heading turned over the same intervals ───┘   its uncertainty by leaving out 4 s at a time

O = offsets tried, B = blocks of 4 s, P = pairs of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.audit.findings import FAIL, PASS, SKIP, Finding
from data_prep.audit.samples import Samples
from driving.clock import US_PER_S

NAME = "camera clock"
APART_S = 0.1  # frames compared: far enough apart for a shift of pixels, near enough to look alike
BLOCK_S = 4.0
OFFSETS_US = np.arange(-500_000, 500_001, 20_000)
MAX_OFFSET_MS = 50.0
MAX_SIGMA_MS = 25.0
MIN_CORRELATION = 0.6
MAX_PX_PER_RAD = 300.0
MIN_YAW_SPREAD_RADPS = 0.01


@dataclass(frozen=True)
class TurnPair:
    """What camera and ego motion saw of one recording's turning.

    Attributes:
        middle_us: (P,) between the two frames of a pair.
        shift_px: (P,) sideways shift of the picture, positive to the right; NaN where unknown.
        turned_rad: (O, P) heading turned between the two frames, were they recorded `OFFSETS_US` later.
    """

    recording_id: str
    middle_us: np.ndarray
    shift_px: np.ndarray
    turned_rad: np.ndarray


def frames_apart(samples: Samples) -> int:
    """How many frames lie between the two that are compared."""
    return max(1, round(APART_S * US_PER_S / float(np.median(np.diff(samples.frame_times_us)))))


def yaw_spread_radps(samples: Samples) -> float:
    """How much the yaw rate varies over the frames: what the clock check holds on to. 0 where there is no overlap."""
    times = samples.frame_times_us
    if times is None:
        return 0.0
    inside = np.unique(times[(times >= samples.timestamps_us[0]) & (times <= samples.timestamps_us[-1])])
    if len(inside) < 30:
        return 0.0
    turned = np.diff(np.interp(inside, samples.timestamps_us, samples.heading_rad))
    return float(np.std(turned / np.diff(inside) * US_PER_S))


def pair_turns(samples: Samples, shift_px: np.ndarray) -> TurnPair:
    """Lay the ego motion's turning beside the pictures' shifts, for every offset."""
    apart = frames_apart(samples)
    times = samples.frame_times_us
    at = times[None, :] + OFFSETS_US[:, None]
    heading = np.interp(at, samples.timestamps_us, samples.heading_rad, left=np.nan, right=np.nan)
    turned = heading[:, apart:] - heading[:, :-apart]
    return TurnPair(samples.recording_id, (times[apart:] + times[:-apart]) / 2, _smooth(shift_px), _smooth(turned))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Median of 5 neighbours along the last axis; both series get it, so it moves neither against the other."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(2, 2)], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=-1)
    return np.median(windows, axis=-1)  # a NaN among the 5 makes NaN, which is left out later


def check_clock(pairs: Sequence[TurnPair]) -> Finding:
    """One offset for all recordings: positive where frames are stamped too early."""
    blocks = [_block_sums(pair) for pair in pairs]
    pairs_used = [block for block in blocks if block is not None]
    if not pairs_used:
        return Finding(NAME, "", SKIP, "", "no recording turns enough while its pictures can be matched")
    recording_id = pairs[0].recording_id if len(pairs) == 1 else f"{len(pairs_used)} recordings together"
    offset_ms, correlation = _estimate(pairs_used)
    if abs(correlation) < MIN_CORRELATION:
        reason = f"the pictures do not follow the turning well enough (r = {correlation:.2f})"
        return Finding(NAME, recording_id, SKIP, "", reason)
    sigma_ms = _jackknife_ms(pairs_used)
    if sigma_ms > MAX_SIGMA_MS:
        reason = f"the offset is known to +-{sigma_ms:.0f} ms only; more recordings with turns would tell"
        return Finding(NAME, recording_id, SKIP, "", reason)
    side = "early" if offset_ms > 0 else "late"
    measured = f"frames are {abs(offset_ms):.0f} +-{sigma_ms:.0f} ms {side} (r = {correlation:.2f})"
    if correlation < 0:
        fix = "the picture turns against the car: it is mirrored, or ego y points right"
        return Finding(NAME, recording_id, FAIL, measured, fix, offset_ms)
    if abs(offset_ms) <= MAX_OFFSET_MS or abs(offset_ms) <= 3 * sigma_ms:
        return Finding(NAME, recording_id, PASS, measured, value=offset_ms)
    fix = f"add {offset_ms:+.0f} ms to the frame timestamps, or find out which of the two clocks is wrong"
    return Finding(NAME, recording_id, FAIL, measured, fix, offset_ms)


def _block_sums(pair: TurnPair) -> np.ndarray | None:
    """(B, O, 6): count and sums of turn, shift, turn^2, shift^2, turn x shift in each block of 4 s."""
    usable = np.isfinite(pair.shift_px) & np.isfinite(pair.turned_rad).all(axis=0)
    if usable.sum() < 60:
        return None
    shift, turned = pair.shift_px[usable], pair.turned_rad[:, usable]
    # A mismatch can be tens of px: no lens turns one rad into more than this at the working width.
    limit_px = MAX_PX_PER_RAD * float(np.abs(turned).max()) + 3.0
    shift = np.clip(shift, -limit_px, limit_px)
    block = ((pair.middle_us[usable] - pair.middle_us[0]) / (BLOCK_S * US_PER_S)).astype(int)
    ones, both = np.ones_like(turned), np.broadcast_to(shift, turned.shape)
    terms = np.stack([ones, turned, both, turned**2, both**2, turned * both], axis=-1)
    return np.stack([terms[:, block == number].sum(axis=1) for number in np.unique(block)])


def _estimate(recordings: Sequence[np.ndarray]) -> tuple[float, float]:
    """(offset of least misfit in ms, signed correlation there), each recording with a scale and a bias of its own."""
    misfit, explained, total = np.zeros(len(OFFSETS_US)), np.zeros(len(OFFSETS_US)), np.zeros(len(OFFSETS_US))
    for sums in recordings:
        count, turn, shift, turn2, shift2, cross = np.moveaxis(sums.sum(axis=0), -1, 0)
        spread, across = turn2 - turn**2 / count, cross - turn * shift / count
        power = np.maximum(shift2 - shift**2 / count, 1e-9)
        share = np.clip(across**2 / np.maximum(spread * power, 1e-12), 0.0, 1 - 1e-9)
        misfit += count * np.log1p(-share)
        explained += count * share * np.sign(across)
        total += count
    best = int(np.argmin(misfit))
    ratio = explained[best] / total[best]
    return _refine(misfit, best) / 1000, float(np.sign(ratio) * np.sqrt(abs(ratio)))


def _refine(misfit: np.ndarray, best: int) -> float:
    if best in (0, len(misfit) - 1):
        return float(OFFSETS_US[best])
    left, middle, right = misfit[best - 1 : best + 2]
    bend = left - 2 * middle + right
    step = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(OFFSETS_US[best] + step * (OFFSETS_US[1] - OFFSETS_US[0]))


def _jackknife_ms(recordings: Sequence[np.ndarray]) -> float:
    """Standard error of the offset, from estimates that leave out one block each."""
    estimates = []
    for number, sums in enumerate(recordings):
        for block in range(len(sums)):
            rest = np.delete(sums, block, axis=0)
            others = [*recordings[:number], *([rest] if len(rest) else []), *recordings[number + 1 :]]
            if others:
                estimates.append(_estimate(others)[0])
    if len(estimates) < 2:
        return np.inf
    return float(np.sqrt((len(estimates) - 1) / len(estimates) * np.sum((estimates - np.mean(estimates)) ** 2)))
