"""What the other ways of decoding gave, beside the single free answer: kept to the format, drawn, and how fast.

Free answers are the result; nothing here replaces them. B = rows, T = label samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.asking.predictions import CONSTRAINED, Prediction
from evaluation.scoring.answers import Answers, channel_columns, judge_predictions
from evaluation.scoring.baselines import Motion
from evaluation.scoring.measure import Measured
from evaluation.scoring.samples import draw_blind, measure_blind, measure_samples, read_samples
from evaluation.scoring.score import Columns, score_rows
from evaluation.scoring.skill import compare
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.train_labels import TrainLabels
from evaluation.scoring.truth import Truth

if TYPE_CHECKING:
    from evaluation.planning import Run

CONSTRAINED_METRICS = ("velocity_mae_mps", "curvature_mae_per_m", "ade_m", "fde_m")
_SHARES = ("strict_rate", "failed_rate", "cut_rate", "degenerate_rate", "out_of_range_rate", "mean_tokens")


def measure_decodings(
    planned: Run,
    truth: Truth,
    asked: Sequence[Prediction],
    altered: Sequence[Prediction],
    free: Answers,
    measured: Measured,
    fallback: Motion,
    train_labels: TrainLabels,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """What metrics.json says of "samples" and "constrained", as far as the run asked for them.

    Args:
        asked: the B free answers as they came, with their samples.
        altered: the constrained ones, among those of the controls.
        free: the B free answers as they were read.
    """
    found: dict[str, Any] = {}
    if planned.job.sampling is not None:
        texts, num_cut = [entry.samples for entry in asked], [entry.num_cut_samples for entry in asked]
        samples = read_samples(texts, num_cut, planned.answer_format, fallback)
        label, single = measured.baselines["label_floor"], measured.columns["model"]
        found["samples"] = measure_samples(truth, samples, single, label, planned.job.sampling, bootstrap)
        if train_labels.motion is not None:
            blind = draw_blind(truth.ids, train_labels.motion.targets, planned.job.sampling)
            found["samples"]["blind"] = measure_blind(truth, samples, blind, label, bootstrap)
    if planned.job.is_constrained:
        kept = {entry.id: entry for entry in altered if entry.control == CONSTRAINED}
        entries = [kept[name] for name in truth.ids]
        constrained = judge_predictions(entries, planned.answer_format, fallback)
        is_same = np.array([ours.text == theirs.text for ours, theirs in zip(entries, asked, strict=True)])
        found["constrained"] = measure_constrained(truth, free, constrained, fallback, is_same, bootstrap)
    return found


def measure_constrained(
    truth: Truth, free: Answers, constrained: Answers, fallback: Motion, is_same: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Constrained answers beside the free ones of the same rows, and what became of the rows that failed free.

    `rescued` are the rows whose free answer failed: what they say under the grammar, against the fallback that they
    are scored with otherwise. A grammar makes an answer readable, not true.

    Args:
        truth, free, constrained, fallback: of the same B rows.
        is_same: (B,) whether both said the same.
    """
    ours = score_rows((constrained.velocity_mps, constrained.curvature_per_m), truth)
    theirs = score_rows((free.velocity_mps, free.curvature_per_m), truth)
    is_strict = np.array([answer.parsing == "strict" for answer in free.parsed], dtype=bool)
    return {
        "num_rows": len(truth),
        "num_clips": bootstrap.num_clusters,
        **_summarise(ours, constrained, bootstrap),
        "free": _summarise(theirs, free, bootstrap),
        "gain_over_free": compare(ours, theirs, bootstrap, CONSTRAINED_METRICS),
        "same_text_rate": bootstrap.mean(is_same.astype(np.float64)).to_json(),
        "same_text_rate_of_strict": bootstrap.mean(np.where(is_strict, is_same, np.nan)).to_json(),
        "rescued": _measure_rescued(truth, free, ours, score_rows(fallback, truth), bootstrap),
    }


def _summarise(columns: Columns, answers: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    channel = channel_columns(answers)
    shown = {name: columns[name] for name in CONSTRAINED_METRICS} | {name: channel[name] for name in _SHARES}
    return {name: bootstrap.mean(column).to_json() for name, column in shown.items()}


def _measure_rescued(
    truth: Truth, free: Answers, ours: Columns, fallback: Columns, bootstrap: Bootstrap
) -> dict[str, Any]:
    failed = ~free.is_parsed
    kept = {
        name: (np.where(failed, ours[name], np.nan), np.where(failed, fallback[name], np.nan))
        for name in CONSTRAINED_METRICS
    }
    return {
        "num_rows": int(failed.sum()),
        "constrained": {name: bootstrap.mean(pair[0]).to_json() for name, pair in kept.items()},
        "fallback": {name: bootstrap.mean(pair[1]).to_json() for name, pair in kept.items()},
        "gain_over_fallback": {name: bootstrap.gain(*pair).to_json() for name, pair in kept.items()},
    }


def measure_speed(facts: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """Answers and tokens a second by kind of decoding, of one worker, prompts included and the reading of clips not.

    Never part of what two runs are compared by.

    Args:
        facts: "speed" of run.json.
    """
    kinds = {}
    for kind, counted in facts.get("kinds", {}).items():
        seconds = counted["seconds"]
        kinds[kind] = {
            **counted,
            "tokens_per_s": counted["num_tokens"] / seconds if seconds else None,
            "ms_per_answer": 1000 * seconds / counted["num_answers"] if counted["num_answers"] else None,
        }
    return {"num_workers": facts.get("num_workers", 1), "batch_size": batch_size, **kinds}
