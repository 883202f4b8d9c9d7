"""Checks of ego motion against itself. Each takes ordered samples (or raw ones, where it says so) to a Finding."""

from __future__ import annotations

from collections import Counter

import numpy as np

from data_prep.audit.findings import FAIL, PASS, SKIP, Finding
from data_prep.audit.samples import Samples
from driving.clock import US_PER_S
from driving.ego_motion import MAX_GAP_S

MIN_RATE_HZ = 5.0
MOVING_MPS = 1.0
MIN_TURN_RAD = 0.1  # below this turn a velocity in the body frame looks like one in the fixed frame
MAX_SLIP = 0.1


def check_order(raw: Samples) -> Finding:
    """Ego timestamps increase from row to row, in file order."""
    name = "ego timestamps"
    steps = np.diff(raw.timestamps_us)
    num_bad = int(np.sum(steps <= 0))
    if num_bad:
        row = int(np.argmax(steps <= 0)) + 1
        fix = "sort the rows by timestamp; where instants repeat, find out which row is true before dropping one"
        return Finding(name, raw.recording_id, FAIL, f"{num_bad} steps back or repeated, first at row {row}", fix)
    start_s, stop_s = raw.timestamps_us[[0, -1]] / US_PER_S
    return Finding(name, raw.recording_id, PASS, f"{len(raw.timestamps_us)} rows, {start_s:.2f} to {stop_s:.2f} s")


def check_finite(raw: Samples) -> Finding:
    """Every row holds numbers. Takes raw samples: the other checks leave such rows out."""
    name = "finite values"
    columns = {"position": raw.position_m, "quaternion": raw.quaternion_xyzw, "velocity": raw.velocity_mps}
    bad = {column: ~np.isfinite(rows).all(axis=1) for column, rows in columns.items() if rows is not None}
    is_bad = np.any(list(bad.values()), axis=0)
    if not is_bad.any():
        return Finding(name, raw.recording_id, PASS, f"{len(is_bad)} rows", value=0.0)
    row = int(np.argmax(is_bad))
    named = ", ".join(column for column, rows in bad.items() if rows[row])
    measured = f"{int(is_bad.sum())} rows hold NaN or infinity, first {named} of row {row} in {raw.recording_id}"
    fix = "windows over these rows go to the ledger; find out why the log has no value there"
    return Finding(name, raw.recording_id, FAIL, measured, fix, float(is_bad.sum()))


def check_rate(samples: Samples) -> Finding:
    """How often ego motion was sampled; says so where the rate changes, since then rows are not time."""
    name = "ego rate"
    rates_hz = US_PER_S / np.diff(samples.timestamps_us)
    # Bins of a tenth of a decade hold clock jitter together and 100 Hz apart from 14 Hz.
    bins = Counter(np.round(10 * np.log10(rates_hz)).astype(int).tolist())
    shares = [(count / len(rates_hz), bin_) for bin_, count in bins.items() if count > 0.02 * len(rates_hz)]
    classes = [
        (share, float(np.median(rates_hz[np.round(10 * np.log10(rates_hz)) == bin_])))
        for share, bin_ in sorted(shares, reverse=True)
    ]
    measured = ", ".join(f"{rate:.3g} Hz {share:.0%}" for share, rate in classes)
    median_hz = float(np.median(rates_hz))
    if median_hz < MIN_RATE_HZ:
        fix = f"below {MIN_RATE_HZ:g} Hz the motion between samples is guessed; find the full-rate log"
        return Finding(name, samples.recording_id, FAIL, measured, fix, median_hz)
    found = [rate for _, rate in classes]
    changes = len(found) > 1 and max(found) > 1.5 * min(found)
    note = "the rate changes within a recording: resample by time, never by row stride" if changes else ""
    return Finding(name, samples.recording_id, PASS, measured, note, median_hz)


def check_gaps(samples: Samples) -> Finding:
    """No stretch without ego motion longer than the segments tolerate."""
    name = "ego gaps"
    gaps_s = np.diff(samples.timestamps_us) / US_PER_S
    worst_s = float(gaps_s.max())
    measured = f"longest step {worst_s:.3f} s"
    if worst_s <= MAX_GAP_S:
        return Finding(name, samples.recording_id, PASS, measured, value=worst_s)
    at_s = samples.timestamps_us[int(np.argmax(gaps_s))] / US_PER_S
    fix = "nothing is filled in: windows over the gap go to the ledger; --max-gap-s decides what a gap is"
    return Finding(name, samples.recording_id, FAIL, f"{measured} at {at_s:.2f} s", fix, worst_s)


def check_quaternions(raw: Samples) -> Finding:
    """Rotations are unit quaternions. Takes raw samples."""
    name = "quaternion norm"
    norms = np.linalg.norm(raw.quaternion_xyzw, axis=1)
    worst = float(np.nanmax(np.abs(norms - 1))) if np.isfinite(norms).any() else np.inf
    num_bad = int(np.sum(~(np.abs(norms - 1) <= 1e-3)))
    measured = f"furthest from 1 by {worst:.2g}"
    if not num_bad:
        return Finding(name, raw.recording_id, PASS, measured, value=worst)
    fix = f"{num_bad} of {len(norms)} rows are no rotations: columns mixed up, or linearly interpolated; normalise them"
    return Finding(name, raw.recording_id, FAIL, measured, fix, worst)


def check_heading(samples: Samples) -> Finding:
    """The pose looks where the position goes: x forward, y left, quaternion as x y z w from body to world."""
    name = "pose axes"
    rows = samples.is_inner & (np.linalg.norm(samples.derivative_mps, axis=1) > MOVING_MPS)
    if rows.sum() < 5:
        return Finding(name, samples.recording_id, SKIP, "", "the car hardly moves")
    slip = _median_slip(samples, samples.quaternion_xyzw, rows)
    measured = f"sideways {slip:.1%} of speed"
    if slip <= MAX_SLIP:
        return Finding(name, samples.recording_id, PASS, measured, value=slip)
    x, y, z, w = samples.quaternion_xyzw.T
    spellings = {
        "the quaternion is stored as w x y z": np.stack([y, z, w, x], axis=1),
        "the quaternion turns world to body: invert it": np.stack([-x, -y, -z, w], axis=1),
    }
    fits = [hint for hint, other in spellings.items() if _median_slip(samples, other, rows) <= MAX_SLIP]
    fix = fits[0] if fits else "the body axes are not x forward, y left, or position is not that of the rear axle"
    return Finding(name, samples.recording_id, FAIL, measured, fix, slip)


def _median_slip(samples: Samples, quaternions: np.ndarray, rows: np.ndarray) -> float:
    from dataclasses import replace

    in_body = replace(samples, quaternion_xyzw=quaternions).to_body(samples.derivative_mps)[rows]
    sideways = np.hypot(in_body[:, 1], in_body[:, 2])
    return float(np.median(sideways / np.linalg.norm(in_body, axis=1)))


def check_velocity(samples: Samples) -> Finding:
    """The velocity columns are dX/dt in the frame of the position, not in the body's and in no other unit."""
    name = "velocity frame"
    if samples.velocity_mps is None:
        return Finding(name, samples.recording_id, SKIP, "", "no velocity columns; speed is taken from the position")
    derivative, velocity = samples.derivative_mps, samples.velocity_mps
    rows = samples.is_inner & np.isfinite(velocity).all(axis=1) & (np.linalg.norm(derivative, axis=1) > MOVING_MPS)
    if rows.sum() < 5:
        return Finding(name, samples.recording_id, SKIP, "", "the car hardly moves")
    # Only rows where the body is turned tell the two frames apart; a straight drive judges the unit alone.
    turned = rows & (np.linalg.norm(samples.to_body(derivative) - derivative, axis=1) > MIN_TURN_RAD * MOVING_MPS)
    judged = turned if turned.sum() >= 5 else rows
    speed = np.linalg.norm(derivative[judged], axis=1)
    errors = {
        "fixed": np.median(np.linalg.norm(velocity - derivative, axis=1)[judged]),
        "body": np.median(np.linalg.norm(velocity - samples.to_body(derivative), axis=1)[judged]),
    }
    measured = f"|V - dX/dt| {errors['fixed']:.3f} m/s in the anchor frame, {errors['body']:.3f} in the body frame"
    allowed = 0.05 + 0.02 * float(np.median(speed))
    if errors["fixed"] <= allowed:
        note = "" if turned.sum() >= 5 else "too straight to tell the frames apart"
        return Finding(name, samples.recording_id, PASS, measured, note, float(errors["fixed"]))
    ratio = float(np.median(np.linalg.norm(velocity[judged], axis=1) / speed))
    if errors["body"] <= allowed:
        fix = "V is in the body frame: rotate it by the pose (V_anchor = R(q) V) before our reader sees it"
    elif abs(ratio - 1) > 0.02:
        fix = f"|V| is {ratio:.3g} times |dX/dt|: another unit (3.6 is km/h, 2.24 is mph) or another clock"
    else:
        fix = "V has the right size and a wrong direction: axes swapped, or rotated by another pose"
    return Finding(name, samples.recording_id, FAIL, measured, fix, float(errors["fixed"]))
