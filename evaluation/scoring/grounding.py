"""Does the model see? Gains over the training mean, and what is left of them when the video is broken.

A language model can score well on ego motion without looking: most roads are straight and most speeds are usual, and
one that is told how the car moved need not look at all. So each claim is paired with a control that takes the evidence
away. B = rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY
from driving.metrics import MOVING_MPS
from evaluation.scoring.baselines import Motion
from evaluation.scoring.score import Columns
from evaluation.scoring.statistics import Bootstrap, Estimate
from evaluation.scoring.truth import Truth

# What a model that sees must reach; the quick start is held to them.
MIN_CLIPS = 20
MIN_VELOCITY_GAIN_PERCENT = 30.0
MIN_SHARE_REMOVED = 0.6
MIN_SHARE_FLIPPED = 0.75
MIN_VELOCITY_GAIN = {VIDEO_ONLY: MIN_VELOCITY_GAIN_PERCENT, EGO_HISTORY: 0.0}  # percent, over what follows
BLIND = {VIDEO_ONLY: "the training mean's", EGO_HISTORY: "CTRV's"}
TURNING_PER_M = 0.005
_OVER = {VIDEO_ONLY: "", EGO_HISTORY: " over CTRV"}
_MIRRORED = {VIDEO_ONLY: "mirrored", EGO_HISTORY: "video and ego history are mirrored (no proof of seeing)"}
REMOVING_CONTROLS = ("frozen", "wrong_clip")
HISTORY_LABELS = {
    "no_history": "share of the speed gain over the training mean that goes with the ego history",
    "wrong_history": "share of the speed gain over the training mean that another clip's ego history removes",
}


def percent(estimate: Estimate) -> dict[str, Any]:
    """An estimate of a share, in per cent."""
    values = estimate.to_paired_json()
    for key in ("value", "low", "high", "min_detectable"):
        values[key] = None if values[key] is None else 100 * values[key]
    return values


def gain_percent(model: Columns, reference: Columns, name: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """How far below the reference's error the model's is, in per cent."""
    return percent(bootstrap.gain(model[name], reference[name]))


def turning_rows(truth: Truth) -> np.ndarray:
    """(B,) bool: the car moves and bends by more than 0.005 1/m on average over the answer."""
    moves = np.abs(truth.velocity_mps).mean(axis=1) >= MOVING_MPS
    return moves & (np.abs(truth.curvature_per_m.mean(axis=1)) > TURNING_PER_M)


def flip_column(model: Motion, mirrored: Motion, is_parsed: np.ndarray, truth: Truth) -> np.ndarray:
    """(B,) 1.0 where the mean predicted curvature changes sign under the mirror; NaN where the car does not turn.

    A curvature of zero on either side, or an answer that could not be read, is no flip.
    """
    before, after = model[1].mean(axis=1), mirrored[1].mean(axis=1)
    flipped = is_parsed & (before * after < 0)
    return np.where(turning_rows(truth), flipped.astype(np.float64), np.nan)


def check_grounding(grounding: dict[str, Any], num_clips: int, track: str = VIDEO_ONLY) -> list[dict[str, Any]]:
    """Each claim with its measure, its bar and whether it holds; None where the control was not run."""
    bar = MIN_VELOCITY_GAIN[track]
    velocity, curvature = grounding["velocity_gain_percent"], grounding["curvature_gain_percent"]
    checks = [
        _check("enough_clips", "held-out clips", num_clips, MIN_CLIPS, num_clips >= MIN_CLIPS),
        _check(
            "velocity_gain",
            f"speed error below {BLIND[track]} [%]",
            velocity["value"],
            bar,
            _at_least(velocity, bar) and _excludes_zero(velocity),
        ),
        _check(
            "curvature_gain",
            f"curvature error below {BLIND[track]} [%]",
            curvature["value"],
            0.0,
            _at_least(curvature, 0.0) and _excludes_zero(curvature),
        ),
    ]
    for name in REMOVING_CONTROLS:
        share = grounding.get(name, {}).get("share_removed")
        label = f"share of the speed gain{_OVER[track]} that the {name.replace('_', ' ')} control removes"
        holds = None if share is None else velocity["value"] is not None and _at_least(share, MIN_SHARE_REMOVED)
        checks.append(_check(name, label, share and share["value"], MIN_SHARE_REMOVED, holds))
    for name, label in HISTORY_LABELS.items() if track == EGO_HISTORY else ():
        share = grounding.get(name, {}).get("share_removed")
        checks.append(
            _check(name, label, share and share["value"], 0.0, None if share is None else _excludes_zero(share))
        )
    flipped = grounding.get("mirror", {}).get("share_flipped")
    label = f"share of turning rows whose predicted curvature changes sign when {_MIRRORED[track]}"
    holds = None if flipped is None else _at_least(flipped, MIN_SHARE_FLIPPED)
    return [*checks, _check("mirror", label, flipped and flipped["value"], MIN_SHARE_FLIPPED, holds)]


def _check(name: str, label: str, value: float | None, bar: float, holds: bool | None) -> dict[str, Any]:
    return {"name": name, "label": label, "value": value, "bar": bar, "holds": holds}


def _at_least(estimate: dict[str, Any], bar: float) -> bool:
    return estimate["value"] is not None and estimate["value"] >= bar


def _excludes_zero(estimate: dict[str, Any]) -> bool:
    return estimate["low"] is not None and estimate["low"] > 0
