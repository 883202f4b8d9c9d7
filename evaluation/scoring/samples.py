"""Several drawn answers a row against the recorded motion: the oracle's choice, the spread, and whether it is honest.

    minADE_K   the best of K samples: an oracle picks it, so it stands beside the single answer, never for it
    CRPS       how far the samples' distribution lies from the truth; for one sample it is the absolute error
    blind      the same of K training motions drawn without looking: what drawing alone is worth
    coverage   how often the truth lies between the i-th lowest and the i-th highest sample; K exchangeable samples
               hold it in (K + 1 - 2i) / (K + 1) of the cases

Speed and curvature are judged against the label as the answer format can say it: the rounding is not the model's.
B = rows, K = samples, T = label samples.

Source: research/field.md 2.2; Gneiting and Raftery 2007 (CRPS as E|X - y| - E|X - X'| / 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driving import metrics
from driving.answer_format import AnswerFormat
from driving.trajectory import integrate_batch
from evaluation.scoring.answers import read_answers
from evaluation.scoring.baselines import Motion
from evaluation.scoring.score import Columns
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.truth import Truth
from qwenvl.train.sampling import Sampling, roll

BLIND_METRICS = ("min_ade_m", "min_fde_m", "mean_ade_m", "crps_velocity_mps", "crps_curvature_per_m")


@dataclass(frozen=True)
class Samples:
    """K drawn answers of B rows.

    Attributes:
        velocity_mps, curvature_per_m: (B, K, T), the fallback's where a sample failed.
        is_parsed: (B, K) bool.
        num_cut: (B,) samples stopped by the token limit.
        num_distinct: (B,) different texts.
    """

    velocity_mps: np.ndarray
    curvature_per_m: np.ndarray
    is_parsed: np.ndarray
    num_cut: np.ndarray
    num_distinct: np.ndarray


def read_samples(
    texts: Sequence[Sequence[str]], num_cut: Sequence[int], answer_format: AnswerFormat, fallback: Motion
) -> Samples:
    """Parse K texts of each of B rows; a sample that fails takes the fallback's motion (each (B, T))."""
    num_rows, num_samples = len(texts), len(texts[0])
    flat = [text for row in texts for text in row]
    repeated = np.repeat(fallback[0], num_samples, axis=0), np.repeat(fallback[1], num_samples, axis=0)
    answers = read_answers(flat, [False] * len(flat), [0] * len(flat), answer_format, repeated)
    shape = num_rows, num_samples, -1
    return Samples(
        answers.velocity_mps.reshape(shape),
        answers.curvature_per_m.reshape(shape),
        answers.is_parsed.reshape(num_rows, num_samples),
        np.array(num_cut, np.float64),
        np.array([len(set(row)) for row in texts], np.float64),
    )


def draw_blind(ids: Sequence[str], targets: np.ndarray, sampling: Sampling) -> Samples:
    """As many answers a row of a model that never looks: true motions of training rows, drawn by the row's own dice.

    Args:
        ids: of B rows.
        targets: (N, T, 2) speed and curvature of training rows.
    """
    dice = np.stack([roll(sampling, f"blind {name}", 0, sampling.num_samples) for name in ids])
    drawn = targets[(dice * len(targets)).astype(np.int64)]
    counts = np.zeros(len(ids))
    return Samples(drawn[..., 0], drawn[..., 1], np.ones(dice.shape, bool), counts, counts)


def measure_blind(
    truth: Truth, samples: Samples, blind: Samples, label: Motion, bootstrap: Bootstrap
) -> dict[str, Any]:
    """What as many blind draws reach on these rows, and the model's gain over them: minADE falls by drawing alone."""
    ours, theirs = score_samples(truth, samples, label), score_samples(truth, blind, label)
    return {
        **{name: bootstrap.mean(theirs[name]).to_json() for name in BLIND_METRICS},
        "gain": {name: bootstrap.gain(ours[name], theirs[name]).to_json() for name in BLIND_METRICS},
    }


def measure_samples(
    truth: Truth, samples: Samples, single: Columns, label: Motion, sampling: Sampling, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Everything under metrics["samples"]; each number with its interval.

    Args:
        single: errors of the single answer of the same rows.
        label: the truth as the answer format says it, (B, T) each.
    """
    columns = score_samples(truth, samples, label)
    estimates = {name: bootstrap.mean(column).to_json() for name, column in columns.items()}
    beside = ("ade_m", "fde_m", "velocity_mae_mps", "curvature_mae_per_m")
    return {
        "num_samples": sampling.num_samples,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "num_rows": len(truth),
        "num_clips": bootstrap.num_clusters,
        **estimates,
        "single": {name: bootstrap.mean(single[name]).to_json() for name in beside},
        "coverage": measure_coverage(truth, samples, label, bootstrap),
    }


def score_samples(truth: Truth, samples: Samples, label: Motion) -> Columns:
    """One value a row: errors of the best, the average and the mean sample, CRPS, spread, failures.

    The best is chosen among the samples that can be read: a failure must not put the fallback into the choice.
    """
    num_rows, num_samples, num_instants = samples.velocity_mps.shape
    flat = (num_rows * num_samples, num_instants)
    poses = integrate_batch(samples.velocity_mps.reshape(flat), samples.curvature_per_m.reshape(flat), truth.interval_s)
    true = np.repeat(truth.poses, num_samples, axis=0)
    ade = metrics.ade_m(poses, true).reshape(num_rows, num_samples)
    fde = metrics.fde_m(poses, true).reshape(num_rows, num_samples)
    middle = integrate_batch(samples.velocity_mps.mean(axis=1), samples.curvature_per_m.mean(axis=1), truth.interval_s)
    moving = metrics.moving_weight(truth.velocity_mps)
    return {
        "min_ade_m": _find_best(ade, samples.is_parsed),
        "min_fde_m": _find_best(fde, samples.is_parsed),
        "mean_ade_m": ade.mean(axis=1),
        "mean_fde_m": fde.mean(axis=1),
        "ade_of_mean_m": metrics.ade_m(middle, truth.poses),
        "crps_velocity_mps": crps(samples.velocity_mps, label[0]).mean(axis=1),
        "crps_curvature_per_m": metrics.weighted_mean(crps(samples.curvature_per_m, label[1]), moving),
        "spread_velocity_mps": samples.velocity_mps.std(axis=1).mean(axis=1),
        "spread_curvature_per_m": metrics.weighted_mean(samples.curvature_per_m.std(axis=1), moving),
        "failed_rate": 1 - samples.is_parsed.mean(axis=1),
        "cut_rate": samples.num_cut / num_samples,
        "distinct_rate": samples.num_distinct / num_samples,
    }


def _find_best(errors: np.ndarray, is_parsed: np.ndarray) -> np.ndarray:
    """(B, K) -> (B,); where nothing was parsed, the fallback's error."""
    return np.where(is_parsed | ~is_parsed.any(axis=1, keepdims=True), errors, np.inf).min(axis=1)


def crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(B, K, T) samples and (B, T) truth -> (B, T), the unbiased estimate over K samples (K = 1: absolute error)."""
    num_samples = samples.shape[1]
    error = np.abs(samples - truth[:, None]).mean(axis=1)
    if num_samples == 1:
        return error
    # sum over i < j of |x_i - x_j| from the sorted samples, without K^2 of memory
    weights = 2 * np.arange(num_samples) - num_samples + 1
    apart = np.einsum("k,bkt->bt", weights.astype(np.float64), np.sort(samples, axis=1))
    return error - apart / (num_samples * (num_samples - 1))


def measure_coverage(truth: Truth, samples: Samples, label: Motion, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Expected and found share of truths inside each interval that K samples span, widest first."""
    num_samples = samples.velocity_mps.shape[1]
    moving = metrics.moving_weight(truth.velocity_mps)
    found = []
    for order in range(1, num_samples // 2 + 1):
        velocity = share_inside(samples.velocity_mps, label[0], order).mean(axis=1)
        curvature = metrics.weighted_mean(share_inside(samples.curvature_per_m, label[1], order), moving)
        found.append(
            {
                "expected": (num_samples + 1 - 2 * order) / (num_samples + 1),
                "velocity": bootstrap.mean(velocity).to_json(),
                "curvature": bootstrap.mean(curvature).to_json(),
            }
        )
    return found


def share_inside(samples: np.ndarray, truth: np.ndarray, order: int) -> np.ndarray:
    """(B, T) chance that the truth's place among K samples is inside the `order`-th lowest and highest.

    Rounded numbers tie. The truth may then stand before, between or behind its equals, each place as likely as the
    other: counted so, an honest model is found to be honest however coarse the digits are.
    """
    num_samples = samples.shape[1]
    below = (samples < truth[:, None]).sum(axis=1)
    equal = (samples == truth[:, None]).sum(axis=1)
    first, last = np.maximum(below, order), np.minimum(below + equal, num_samples - order)
    return np.maximum(last - first + 1, 0) / (equal + 1)
