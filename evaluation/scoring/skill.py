"""The model beside each baseline on the same rows: skill, differences, wins, and the gate that a run must pass.

columns of the model and of a baseline ──compare──▶ {metric: skill, difference, what could be told at all}
                                       ──win_rates──▶ {metric: share of rows where the model is nearer}
metrics.json's content ──judge_gate──▶ {"baseline", "holds", ...}   --require-beat reads `holds`
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.errors import DrivingError
from evaluation.scoring.baselines import DESCRIPTIONS, FLOORS, NEEDS_HISTORY
from evaluation.scoring.score import Columns
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.tracks import GATES
from evaluation.scoring.truth import Truth

GATE_METRIC = "ade_m"
GATE_MARGIN = 1e-9  # of skill: a model that answers exactly the baseline differs by rounding
GATE_FAILED = 3  # the exit code
AUTO_GATE = "auto"


def compare(model: Columns, reference: Columns, bootstrap: Bootstrap, names: Sequence[str]) -> dict[str, Any]:
    """Of each metric: skill 1 - error / reference error with its interval, and the same as a difference.

    `min_detectable` of the skill is a share, that of `difference` (reference - model, positive is better) has the
    metric's unit: so small a true advantage would have been shown by these clips in four of five tries.
    """
    return {
        name: bootstrap.gain(model[name], reference[name]).to_paired_json()
        | {"difference": bootstrap.difference(model[name], reference[name]).to_paired_json()}
        for name in names
    }


def win_rates(model: Columns, reference: Columns, bootstrap: Bootstrap, names: Sequence[str]) -> dict[str, Any]:
    """Share of rows on which the model's error is smaller; a tie is half a win, a row without an error has no say."""
    wins = {name: _wins(model[name], reference[name]) for name in names}
    bootstrap.prepare(wins.values())
    return {name: bootstrap.mean(column).to_json() for name, column in wins.items()}


def _wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        wins = (ours < theirs) + 0.5 * (ours == theirs)
    return np.where(np.isnan(ours) | np.isnan(theirs), np.nan, wins)


def choose_best(columns: dict[str, Columns], candidates: Sequence[str], name: str) -> str | None:
    """The candidate whose mean error is lowest; the first of equals, None where none has one."""
    means = {who: np.nanmean(columns[who][name]) for who in candidates if not np.isnan(columns[who][name]).all()}
    return min(means, key=means.__getitem__) if means else None


def parse_gate(text: str) -> str:
    """`auto`, nothing, or a baseline's name with dashes or underscores."""
    name = text.replace("-", "_")
    if not name:
        return name
    known = [AUTO_GATE, *(baseline for baseline in DESCRIPTIONS if baseline not in FLOORS)]
    if name not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
    return name


def check_gate(asked: str, truth: Truth, *, reads_frames: bool = False) -> None:
    """Raise before a model is asked, where the baseline asked for cannot be computed on these rows.

    Args:
        reads_frames: whether the run has the baseline that reads the frames.

    Raises:
        DrivingError: It needs the observed second, and a row has none; or the frames, and they are not read.
    """
    if asked == "frame_motion" and not reads_frames:
        raise DrivingError("--require-beat frame_motion needs --frame-baseline, which decodes the clips for it; add it")
    if asked in NEEDS_HISTORY and truth.observed is None:
        raise DrivingError(
            f"--require-beat {asked} needs how the car moved during each clip, and a row of truth.parquet does not "
            "hold it; run convert_to_training_format.py again, or ask for train_mean"
        )


def judge_gate(metrics: dict[str, Any], asked: str = "") -> dict[str, Any]:
    """Whether the model's ADE is below the baseline's, the whole 95 % interval of it.

    A baseline that could not be computed (too few training rows, say) is not beaten.

    Args:
        metrics: what metrics.json holds.
        asked: a baseline; empty or "auto": the training mean for video only, CTRA where the model was told its past.
    """
    name = GATES[metrics["track"]] if asked in ("", AUTO_GATE) else asked
    skill = metrics["skill"].get(name, {}).get(GATE_METRIC)
    holds = skill is not None and skill["low"] is not None and skill["low"] > GATE_MARGIN
    return {
        "baseline": name,
        "metric": GATE_METRIC,
        "skill": skill,
        "holds": holds,
        "is_required": asked != "",
        "sentence": explain_gate(name, skill, holds),
    }


def explain_gate(name: str, skill: dict[str, Any] | None, holds: bool) -> str:
    """The verdict in one line."""
    if skill is None:
        return f"not shown to beat {name}: it could not be computed on these rows"
    if skill["value"] is None:
        return f"not shown to beat {name}: its own error is 0"
    percent = f"{100 * skill['value']:.1f} %"
    if skill["low"] is None:
        return f"not shown to beat {name}: ADE is lower by {percent}, and one clip gives no interval"
    interval = f"[{100 * skill['low']:.1f}, {100 * skill['high']:.1f}]"
    return f"{'beats' if holds else 'does not beat'} {name}: ADE is lower by {percent} {interval}"
