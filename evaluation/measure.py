"""Everything that metrics.json says about the answers: scores, baselines, strata, controls, grounding.

Truth + answers of the model and of each control ──measure──▶ Measured(metrics, columns of each contender)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from driving.answer_format import VIDEO_ONLY, AnswerFormat
from evaluation import grounding as ground
from evaluation.answers import Answers, channel_columns
from evaluation.baselines import DESCRIPTIONS, NEEDS_HISTORY, Motion, predict_baselines
from evaluation.controls import HISTORY_CONTROLS
from evaluation.score import (
    Columns,
    ade_with_failures_at_p95,
    gains,
    l2_protocols,
    score_rows,
    summarise,
)
from evaluation.statistics import Bootstrap
from evaluation.strata import assign_strata
from evaluation.tracks import FALLBACKS, REFERENCES
from evaluation.train_labels import TrainLabels
from evaluation.truth import Truth

SKILL_METRICS = ("velocity_mae_mps", "curvature_mae_per_m", "ade_m", "fde_m")
FALLBACK = "train_mean"  # of video only, and what all gains are over; with history failed answers are scored as CTRV


@dataclass(frozen=True)
class ControlAnswers:
    """What the model answered to altered videos.

    Attributes:
        rows: (R,) positions in the truth of the rows that were tried.
        answers: R answers, failed ones with the fallback's motion.
    """

    rows: np.ndarray
    answers: Answers


@dataclass(frozen=True)
class Measured:
    """The numbers, and the errors of every row that they come from.

    Attributes:
        metrics: JSON values.
        columns: errors a row of "model" and of every baseline.
        baselines: the baselines' motions.
    """

    metrics: dict[str, Any]
    columns: dict[str, Columns]
    baselines: dict[str, Motion]


def measure(
    truth: Truth,
    answers: Answers,
    controls: dict[str, ControlAnswers],
    baselines: dict[str, Motion],
    *,
    track: str = VIDEO_ONLY,
    num_resamples: int = 2000,
    seed: int = 7,
) -> Measured:
    """Score the model, each baseline and each control on the same rows, with paired clip-clustered intervals."""
    bootstrap = Bootstrap(truth.groups, num_resamples, seed)
    model: Motion = (answers.velocity_mps, answers.curvature_per_m)
    columns = {"model": score_rows(model, truth)}
    columns |= {name: score_rows(motion, truth) for name, motion in baselines.items()}
    metrics: dict[str, Any] = {
        "rows": {"num_scored": len(truth), "num_clips": bootstrap.num_clusters, "num_samples": truth.num_samples},
        "horizon_s": truth.num_samples * truth.interval_s,
        "track": track,
        "fallback_of_failed_answers": FALLBACKS[track],
        "parsing": _measure_parsing(answers, baselines, bootstrap),
        "model": summarise(columns["model"], bootstrap),
        "l2_protocols_m": l2_protocols(model, truth),
    }
    worst = ade_with_failures_at_p95(columns["model"], answers.is_parsed, bootstrap)
    metrics["model"]["ade_failures_at_p95_m"] = worst.to_json()
    metrics["baselines"] = {
        name: {
            "description": DESCRIPTIONS[name],
            "needs_history": name in NEEDS_HISTORY,
            **summarise(columns[name], bootstrap),
        }
        for name in baselines
    }
    metrics["skill"] = {
        name: gains(columns["model"], columns[name], bootstrap, SKILL_METRICS)
        for name in baselines
        if name != "label_floor"
    }
    metrics["strata"] = measure_strata(truth, columns, num_resamples, seed)
    metrics["controls"] = {
        name: _measure_control(control, truth, num_resamples, seed) for name, control in controls.items()
    }
    metrics["grounding"] = measure_grounding(truth, answers, columns, controls, bootstrap, (num_resamples, seed), track)
    return Measured(metrics, columns, baselines)


def build_baselines(truth: Truth, train_labels: TrainLabels, answer_format: AnswerFormat) -> dict[str, Motion]:
    """The baselines of these rows; the fallback of failed answers is the one named FALLBACK."""
    return predict_baselines(truth, train_labels, answer_format)


def _measure_parsing(answers: Answers, baselines: dict[str, Motion], bootstrap: Bootstrap) -> dict[str, Any]:
    rates = {name: bootstrap.mean(column).to_json() for name, column in channel_columns(answers).items()}
    velocity, curvature = baselines["label_floor"]
    is_constant = (np.ptp(velocity, axis=1) == 0) & (np.ptp(curvature, axis=1) == 0) & (velocity[:, 0] != 0)
    rates["degenerate_rate_of_truth"] = bootstrap.mean(is_constant.astype(np.float64)).to_json()
    kinds = [answer.parsing for answer in answers.parsed]
    rates["counts"] = {kind: kinds.count(kind) for kind in ("strict", "lenient", "failed")}
    rates["counts"]["cut"] = int(answers.is_cut.sum())
    return rates


def measure_strata(truth: Truth, columns: dict[str, Columns], num_resamples: int, seed: int) -> dict[str, Any]:
    """Errors of the model and of the training mean in each bin, and the plain mean over bins that hold rows."""
    result: dict[str, Any] = {}
    for axis, (names, bins) in assign_strata(truth).items():
        filled = {name: np.flatnonzero(bins == index) for index, name in enumerate(names) if (bins == index).any()}
        entries = {name: _measure_bin(truth, columns, rows, num_resamples, seed) for name, rows in filled.items()}
        result[axis] = {"bins": entries, "macro": {who: _macro(entries, who) for who in ("model", FALLBACK)}}
    return result


def _measure_bin(
    truth: Truth, columns: dict[str, Columns], rows: np.ndarray, num_resamples: int, seed: int
) -> dict[str, Any]:
    bootstrap = Bootstrap(truth.groups[rows], num_resamples, seed)
    entry: dict[str, Any] = {"num_rows": len(rows), "num_clips": bootstrap.num_clusters}
    for who in ("model", FALLBACK):
        entry[who] = {name: bootstrap.mean(columns[who][name][rows]).to_json() for name in SKILL_METRICS}
    return entry


def _macro(entries: dict[str, Any], who: str) -> dict[str, float | None]:
    macro: dict[str, float | None] = {}
    for name in SKILL_METRICS:
        values = [entry[who][name]["value"] for entry in entries.values() if entry[who][name]["value"] is not None]
        macro[name] = float(np.mean(values)) if values else None
    return macro


def _measure_control(control: ControlAnswers, truth: Truth, num_resamples: int, seed: int) -> dict[str, Any]:
    part = truth.take(control.rows)
    bootstrap = Bootstrap(part.groups, num_resamples, seed)
    columns = score_rows((control.answers.velocity_mps, control.answers.curvature_per_m), part)
    failed = 1 - control.answers.is_parsed.astype(np.float64)
    scores = {name: bootstrap.mean(columns[name]).to_json() for name in SKILL_METRICS}
    return {"num_rows": len(part), "num_clips": bootstrap.num_clusters, **scores,
            "failed_rate": bootstrap.mean(failed).to_json()}  # fmt: skip


def measure_grounding(
    truth: Truth,
    answers: Answers,
    columns: dict[str, Columns],
    controls: dict[str, ControlAnswers],
    bootstrap: Bootstrap,
    draws: tuple[int, int],
    track: str = VIDEO_ONLY,
) -> dict[str, Any]:
    """Gains over what a blind model of this track could say, what each control leaves of them, and what follows.

    The controls of the ego history are about the gain over the training mean: what being told is worth.
    """
    ours, blind = columns["model"], columns[REFERENCES[track]]
    result: dict[str, Any] = {
        "reference": REFERENCES[track],
        "velocity_gain_percent": ground.gain_percent(ours, blind, "velocity_mae_mps", bootstrap),
        "curvature_gain_percent": ground.gain_percent(ours, blind, "curvature_mae_per_m", bootstrap),
    }
    for name, control in controls.items():
        part = truth.take(control.rows)
        clustered = Bootstrap(part.groups, *draws)
        if name == "mirror":
            result[name] = {"share_flipped": _share_flipped(truth, answers, control, clustered)}
            continue
        broken = score_rows((control.answers.velocity_mps, control.answers.curvature_per_m), part)
        over = FALLBACK if name in HISTORY_CONTROLS else REFERENCES[track]
        result[name] = {
            "over": over,
            "share_removed": _share_removed(ours, broken, columns[over], "velocity_mae_mps", control, clustered),
            "share_of_curvature_gain_removed": _share_removed(
                ours, broken, columns[over], "curvature_mae_per_m", control, clustered
            ),
        }
    result["checks"] = ground.check_grounding(result, bootstrap.num_clusters, track)
    return result


def _share_removed(
    ours: Columns, broken: Columns, mean: Columns, name: str, control: ControlAnswers, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Share of the gain that is gone; without a gain there is none to remove."""
    model, reference = ours[name][control.rows], mean[name][control.rows]
    share = bootstrap.share_removed(model, broken[name], reference).to_json()
    gain = bootstrap.gain(model, reference).value
    return share if gain is not None and gain > 0 else share | {"value": None, "low": None, "high": None}


def _share_flipped(truth: Truth, answers: Answers, control: ControlAnswers, bootstrap: Bootstrap) -> dict[str, Any]:
    rows, mirrored = control.rows, control.answers
    flipped = ground.flip_column(
        (answers.velocity_mps[rows], answers.curvature_per_m[rows]),
        (mirrored.velocity_mps, mirrored.curvature_per_m),
        answers.is_parsed[rows] & mirrored.is_parsed,
        truth.take(rows),
    )
    return bootstrap.mean(flipped).to_json()
