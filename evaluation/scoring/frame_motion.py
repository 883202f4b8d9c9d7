"""A baseline that looks without a network: ridge regression of the training answers on what moves in the frames.

    train clips' features and answers ──fit by recording──▶ ridge ──▶ (v, kappa) of the rows to score

It knows what a model that sees video only knows: training rows, and the clip. Classical geometry beats many a large
model at telling how a car moves (EgoDyn-Bench), so what such a model is worth is read beside it.

N = training rows, B = rows, F = features, T = label samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.scoring.fitted import MIN_FIT_ROWS, Motion

MAX_FRAME_ROWS = 2000  # training rows whose clips are decoded
PENALTIES = tuple(10.0**power for power in range(-4, 3))  # on standardised weights, as shares of the number of rows
NUM_FOLDS = 5
MAX_SPREADS = 5.0  # a feature further from its mean counts as so far


@dataclass(frozen=True)
class FrameRows:
    """What was measured in the frames, and what the training rows answer.

    Attributes:
        features: (B, F) of the rows to predict; NaN where a clip could not be read.
        train_features: (N, F).
        train_targets: (N, T, 2) speed and curvature.
        train_groups: (N,) recordings; the penalty is chosen on recordings that were not fitted to.
    """

    features: np.ndarray
    train_features: np.ndarray
    train_targets: np.ndarray
    train_groups: np.ndarray


@dataclass(frozen=True)
class FrameMotion:
    """The baseline's answers, and how they were fitted as JSON values."""

    motion: Motion | None
    facts: dict[str, Any]


def predict_frame_motion(rows: FrameRows) -> FrameMotion:
    """Fit and predict; no motion where fewer than MIN_FIT_ROWS training clips could be read.

    A row whose clip could not be read is answered with the training mean.
    """
    num_train = len(rows.train_features)
    facts: dict[str, Any] = {"num_train_rows": num_train, "num_train_recordings": len(np.unique(rows.train_groups))}
    if num_train < MIN_FIT_ROWS:
        reason = f"{num_train} training clips could be read, {MIN_FIT_ROWS} are needed"
        return FrameMotion(None, {**facts, "reason": reason})
    mean, spread = _moments(rows.train_features)
    train = _standardise(rows.train_features, mean, spread)
    shown = np.nan_to_num(_standardise(rows.features, mean, spread))  # the mean features: the mean answer
    folds = _choose_folds(rows.train_groups)
    answers, penalties = [], {}
    for place, name in enumerate(("velocity", "curvature")):
        targets = rows.train_targets[..., place]
        offset, scale = _moments(targets)
        outputs = (targets - offset) / scale
        penalties[name] = choose_penalty(train, outputs, folds)
        weights = fit_penalties(train, outputs, (penalties[name],))[0]
        answers.append(shown @ weights * scale + offset)
    facts |= {"num_features": train.shape[1], "penalty": penalties}
    return FrameMotion((answers[0], answers[1]), facts)


def choose_penalty(inputs: np.ndarray, outputs: np.ndarray, folds: np.ndarray) -> float:
    """The penalty with the least squared error on folds that were left out; the middle one where there is one fold."""
    if len(np.unique(folds)) < 2:
        return PENALTIES[len(PENALTIES) // 2]
    errors = np.zeros(len(PENALTIES))
    for fold in np.unique(folds):
        out = folds == fold
        for place, weights in enumerate(fit_penalties(inputs[~out], outputs[~out], PENALTIES)):
            errors[place] += ((inputs[out] @ weights - outputs[out]) ** 2).sum()
    return PENALTIES[int(errors.argmin())]


def fit_penalties(inputs: np.ndarray, outputs: np.ndarray, penalties: tuple[float, ...]) -> list[np.ndarray]:
    """(F, D) weights for each penalty: least |outputs - inputs w|^2 + penalty N |w|^2."""
    values, vectors = np.linalg.eigh(inputs.T @ inputs)
    turned = vectors.T @ (inputs.T @ outputs)
    scaled = (turned / (np.maximum(values, 0.0) + penalty * len(inputs))[:, None] for penalty in penalties)
    return [vectors @ part for part in scaled]


def _choose_folds(groups: np.ndarray) -> np.ndarray:
    """(N,) fold of each row: whole recordings, dealt out in the order of their names."""
    _, place = np.unique(groups.astype(str), return_inverse=True)
    return place % NUM_FOLDS


def _standardise(features: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.clip((features - mean) / spread, -MAX_SPREADS, MAX_SPREADS)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, spread = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(spread > 1e-9, spread, 1.0)
