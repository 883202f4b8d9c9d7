"""Everything that metrics.json says about the answers: scores, baselines, strata, controls, grounding.

Truth + answers of the model and of each control ──measure──▶ Measured(metrics, columns of each contender)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from driving.answer_format import VIDEO_ONLY
from evaluation.asking.controls import HISTORY_CONTROLS
from evaluation.scoring import grounding as ground
from evaluation.scoring.answers import Answers, channel_columns
from evaluation.scoring.baselines import DESCRIPTIONS, FLOORS, KNOWS, NEEDS_HISTORY, Motion
from evaluation.scoring.comfort import measure_feasibility
from evaluation.scoring.horizons import measure_horizons
from evaluation.scoring.score import (
    Columns,
    ade_with_failures_at_p95,
    l2_protocols,
    score_rows,
    summarise,
)
from evaluation.scoring.skill import choose_best, compare, win_rates
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.strata_scores import measure_strata
from evaluation.scoring.tracks import FAIR, FALLBACKS, REFERENCES
from evaluation.scoring.truth import Truth

SKILL_METRICS = ("velocity_mae_mps", "curvature_mae_per_m", "ade_m", "fde_m")
MEAN = "train_mean"  # what a gain by being told is over


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
    motions = {"model": model, **baselines}
    columns = {name: score_rows(motion, truth) for name, motion in motions.items()}
    bootstrap.prepare(column for found in columns.values() for column in found.values())
    metrics: dict[str, Any] = {
        "rows": {"num_scored": len(truth), "num_clips": bootstrap.num_clusters, "num_samples": truth.num_samples},
        "horizon_s": truth.num_samples * truth.interval_s,
        "track": track,
        "reference": REFERENCES[track],
        "fallback_of_failed_answers": FALLBACKS[track],
        "parsing": _measure_parsing(answers, baselines, bootstrap),
        "model": summarise(columns["model"], bootstrap),
        "l2_protocols_m": l2_protocols(model, truth),
        "horizons": measure_horizons(motions, truth, bootstrap),
        "feasibility": measure_feasibility(motions, answers.is_parsed, truth, bootstrap),
    }
    worst = ade_with_failures_at_p95(columns["model"], answers.is_parsed, bootstrap)
    metrics["model"]["ade_failures_at_p95_m"] = worst.to_json()
    metrics["baselines"] = {
        name: {
            "description": DESCRIPTIONS[name],
            "needs_history": name in NEEDS_HISTORY,
            "knows": KNOWS[name],
            **summarise(columns[name], bootstrap),
        }
        for name in baselines
    }
    metrics |= _measure_skill(columns, [name for name in baselines if name not in FLOORS], bootstrap, track)
    metrics["strata"] = measure_strata(truth, columns, bootstrap, SKILL_METRICS, REFERENCES[track])
    metrics["controls"] = {
        name: _measure_control(control, truth, columns["model"], bootstrap) for name, control in controls.items()
    }
    metrics["grounding"] = measure_grounding(truth, answers, columns, controls, bootstrap, track)
    return Measured(metrics, columns, baselines)


def _measure_skill(columns: dict[str, Columns], names: list[str], bootstrap: Bootstrap, track: str) -> dict[str, Any]:
    """The model against each baseline that may be beaten, and which of them is best: of all, and of those that know
    no more than a model of this track is told."""
    ours = columns["model"]
    fair = [name for name in names if KNOWS[name] in FAIR[track]]
    return {
        "skill": {name: compare(ours, columns[name], bootstrap, SKILL_METRICS) for name in names},
        "win_rate": {name: win_rates(ours, columns[name], bootstrap, SKILL_METRICS) for name in names},
        "best_baseline": {
            metric: {"fair": choose_best(columns, fair, metric), "any": choose_best(columns, names, metric)}
            for metric in SKILL_METRICS
        },
    }


def _measure_parsing(answers: Answers, baselines: dict[str, Motion], bootstrap: Bootstrap) -> dict[str, Any]:
    columns = channel_columns(answers)
    bootstrap.prepare(columns.values())
    rates = {name: bootstrap.mean(column).to_json() for name, column in columns.items()}
    velocity, curvature = baselines["label_floor"]
    is_constant = (np.ptp(velocity, axis=1) == 0) & (np.ptp(curvature, axis=1) == 0) & (velocity[:, 0] != 0)
    rates["degenerate_rate_of_truth"] = bootstrap.mean(is_constant.astype(np.float64)).to_json()
    kinds = [answer.parsing for answer in answers.parsed]
    rates["counts"] = {kind: kinds.count(kind) for kind in ("strict", "lenient", "failed")}
    rates["counts"]["cut"] = int(answers.is_cut.sum())
    return rates


def _measure_control(control: ControlAnswers, truth: Truth, model: Columns, bootstrap: Bootstrap) -> dict[str, Any]:
    """Scores under the control, and how much worse they are than those of the same rows as they are (`worse_by`)."""
    part, bootstrap = truth.take(control.rows), bootstrap.part(control.rows)
    columns = score_rows((control.answers.velocity_mps, control.answers.curvature_per_m), part)
    failed = 1 - control.answers.is_parsed.astype(np.float64)
    scores = {name: bootstrap.mean(columns[name]).to_json() for name in SKILL_METRICS}
    worse_by = {
        name: bootstrap.difference(model[name][control.rows], columns[name]).to_paired_json() for name in SKILL_METRICS
    }
    return {"num_rows": len(part), "num_clips": bootstrap.num_clusters, **scores,
            "failed_rate": bootstrap.mean(failed).to_json(), "worse_by": worse_by}  # fmt: skip


def measure_grounding(
    truth: Truth,
    answers: Answers,
    columns: dict[str, Columns],
    controls: dict[str, ControlAnswers],
    bootstrap: Bootstrap,
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
        clustered = bootstrap.part(control.rows)
        if name == "mirror":
            result[name] = {"share_flipped": _share_flipped(truth, answers, control, clustered)}
            continue
        broken = score_rows((control.answers.velocity_mps, control.answers.curvature_per_m), part)
        over = MEAN if name in HISTORY_CONTROLS else REFERENCES[track]
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
    share = bootstrap.share_removed(model, broken[name], reference).to_paired_json()
    gain = bootstrap.gain(model, reference).value
    return share if gain is not None and gain > 0 else share | dict.fromkeys(("value", "low", "high", "min_detectable"))


def _share_flipped(truth: Truth, answers: Answers, control: ControlAnswers, bootstrap: Bootstrap) -> dict[str, Any]:
    rows, mirrored = control.rows, control.answers
    flipped = ground.flip_column(
        (answers.velocity_mps[rows], answers.curvature_per_m[rows]),
        (mirrored.velocity_mps, mirrored.curvature_per_m),
        answers.is_parsed[rows] & mirrored.is_parsed,
        truth.take(rows),
    )
    return bootstrap.mean(flipped).to_json()
