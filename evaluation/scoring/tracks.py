"""What each track is judged by. A model that is told how the car moved is held to more than one that only sees.

What a model gains by *seeing* is over what it could say blindly: the training mean for video only, and CTRV where it
was told the motion. What it gains by being *told* is over the training mean.

The fallback of a failed answer never knows more than the model was given, under a control neither; the gate is the
cheap answer that a model of this track must beat to be worth anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY, AnswerFormat
from driving.ego_history import find_prompt, read_back, read_history
from driving.errors import DrivingError
from driving.trajectory import Trajectory, repeat_to_rate
from evaluation.scoring.baselines import FITTED, FRAMES, HISTORY, LABELS, Motion, ctrv
from evaluation.scoring.truth import Truth

FALLBACKS = {VIDEO_ONLY: "train_mean", EGO_HISTORY: "ctrv"}
REFERENCES = {VIDEO_ONLY: "train_mean", EGO_HISTORY: "ctrv"}  # what gains by seeing are over; shown beside the model
SPOKEN = {"train_mean": "training mean", "ctrv": "CTRV"}  # references as people are told them
GATES = {VIDEO_ONLY: "train_mean", EGO_HISTORY: "ctra"}  # what --require-beat asks for where nobody names another
# What a baseline may know to be no better informed than a model of the track.
FAIR = {VIDEO_ONLY: (LABELS, FRAMES), EGO_HISTORY: (LABELS, FRAMES, HISTORY, FITTED)}


def build_fallback(truth: Truth, baselines: dict[str, Motion], answer_format: AnswerFormat) -> Motion:
    """The motion that failed answers are scored with: (velocity (B, T), curvature (B, T)).

    With history it is CTRV over the motion as the prompt told it, rounded and averaged like an answer.

    Raises:
        DrivingError: The prompts tell a history and the truth has none.
    """
    if answer_format.track == VIDEO_ONLY:
        return baselines[FALLBACKS[VIDEO_ONLY]]
    return ctrv(read_told(truth, answer_format), truth.interval_s, truth.num_samples)


def build_control_fallback(
    truth: Truth, asked: Sequence[dict[str, Any]], blind: Motion, answer_format: AnswerFormat
) -> Motion:
    """The same for rows whose prompts a control changed: CTRV over what *these* prompts tell.

    Args:
        asked: the records as they were asked, one a row.
        blind: (B, T) each, for rows that are told nothing any more: the training mean.
    """
    velocity, curvature = blind[0].copy(), blind[1].copy()
    for row, record in enumerate(asked):
        told = read_history(find_prompt(record), answer_format)
        if told is not None:
            pairs = repeat_to_rate(told, truth.num_samples).to_pairs()
            (velocity[row],), (curvature[row],) = ctrv(pairs[None], truth.interval_s, truth.num_samples)
    return velocity, curvature


def read_told(truth: Truth, answer_format: AnswerFormat) -> np.ndarray:
    """(B, T', 2) the observed motion of each row as its prompt tells it.

    Raises:
        DrivingError: A row has none, or its samples do not divide into the pairs.
    """
    if truth.observed is None:
        raise DrivingError(
            "the prompts tell how the car moved during the clip, but a row of truth.parquet has no observed motion; "
            "run prepare_huggingface_dataset.py --ego-history and convert_to_training_format.py again"
        )
    num_samples = truth.observed.shape[1]
    return np.stack(
        [
            repeat_to_rate(read_back(answer_format, Trajectory.from_pairs(pairs)), num_samples).to_pairs()
            for pairs in truth.observed
        ]
    )
