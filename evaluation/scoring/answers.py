"""Texts -> motions to score: parsed, or replaced by a fallback that knows no more than the model was given.

    text ──judge_answer──▶ strict | lenient ──▶ its own motion
                       └─▶ failed ──▶ the fallback's motion, and counted

B = rows, T = label samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driving.answer_format import AnswerFormat, count_pairs, judge_answer
from driving.errors import AnswerError
from driving.trajectory import Trajectory, repeat_to_rate
from evaluation.asking.predictions import Prediction
from evaluation.scoring.baselines import Motion

# Beyond these a value is called out of range in the report (research/field.md 2.2; reversing is in range here). What
# no vehicle at all can do (driving.feasibility) is a failed answer.
VELOCITY_RANGE_MPS = (-20.0, 70.0)
CURVATURE_RANGE_PER_M = (-0.2, 0.2)


@dataclass(frozen=True)
class Parsed:
    """One answer as it was read.

    Attributes:
        parsing: "strict", "lenient" or "failed".
        trajectory: what it says, None when failed.
        error: why it failed, else "".
        count_error: pairs found less pairs asked for; 0 where it was read.
    """

    parsing: str
    trajectory: Trajectory | None
    error: str = ""
    count_error: int = 0


@dataclass(frozen=True)
class Answers:
    """The answers of B rows, ready to be scored.

    Attributes:
        velocity_mps, curvature_per_m: (B, T), the fallback's where the answer failed.
        parsed: the B answers as read.
        is_cut: (B,) bool, stopped by the token limit.
        num_tokens: (B,) generated tokens.
    """

    velocity_mps: np.ndarray
    curvature_per_m: np.ndarray
    parsed: list[Parsed]
    is_cut: np.ndarray
    num_tokens: np.ndarray

    @property
    def is_parsed(self) -> np.ndarray:
        """(B,) bool."""
        return np.array([answer.parsing != "failed" for answer in self.parsed], dtype=bool)


def parse_text(text: str, answer_format: AnswerFormat) -> Parsed:
    """Read one answer; a failure is a result, not an exception."""
    try:
        answer = judge_answer(text, answer_format)
    except AnswerError as error:
        return Parsed("failed", None, str(error), count_pairs(text) - answer_format.num_pairs)
    return Parsed(answer.parsing, answer.trajectory)


def read_answers(
    texts: Sequence[str],
    is_cut: Sequence[bool],
    num_tokens: Sequence[int],
    answer_format: AnswerFormat,
    fallback: Motion,
) -> Answers:
    """Parse B texts; rows that fail take the fallback's motion (each (B, T))."""
    velocity, curvature = fallback[0].copy(), fallback[1].copy()
    parsed = [parse_text(text, answer_format) for text in texts]
    for row, answer in enumerate(parsed):
        if answer.trajectory is not None:
            fine = repeat_to_rate(answer.trajectory, velocity.shape[1])
            velocity[row], curvature[row] = fine.velocity_mps, fine.curvature_per_m
    return Answers(velocity, curvature, parsed, np.array(is_cut, bool), np.array(num_tokens, np.float64))


def judge_predictions(entries: Sequence[Prediction], answer_format: AnswerFormat, fallback: Motion) -> Answers:
    """`read_answers` of stored predictions."""
    return read_answers(
        [entry.text for entry in entries],
        [entry.is_cut for entry in entries],
        [entry.num_tokens for entry in entries],
        answer_format,
        fallback,
    )


def channel_columns(answers: Answers) -> dict[str, np.ndarray]:
    """The text channel, one 0 / 1 value a row (and tokens): how well the model keeps to the format.

    `degenerate_rate` and `out_of_range_rate` are over parsed answers (NaN elsewhere): all pairs equal, or any value
    that no car reaches. `count_error` is how many pairs an answer holds too many or too few.
    """
    kinds = np.array([answer.parsing for answer in answers.parsed], dtype=object)
    judged = [
        (np.nan, np.nan)
        if answer.trajectory is None
        else (_is_degenerate(answer.trajectory), _is_out_of_range(answer.trajectory))
        for answer in answers.parsed
    ]
    degenerate, out_of_range = np.array(judged, dtype=np.float64).reshape(-1, 2).T
    return {
        "strict_rate": (kinds == "strict").astype(np.float64),
        "lenient_rate": (kinds == "lenient").astype(np.float64),
        "failed_rate": (kinds == "failed").astype(np.float64),
        "cut_rate": answers.is_cut.astype(np.float64),
        "degenerate_rate": degenerate,
        "out_of_range_rate": out_of_range,
        "count_error": np.array([abs(answer.count_error) for answer in answers.parsed], dtype=np.float64),
        "mean_tokens": answers.num_tokens,
    }


def _is_degenerate(trajectory: Trajectory) -> float:
    """1.0 when all pairs (two or more) are one and the same and the car is not simply standing still."""
    pairs = trajectory.to_pairs()
    return float(len(pairs) > 1 and bool((pairs == pairs[0]).all()) and bool(pairs[0].any()))


def _is_out_of_range(trajectory: Trajectory) -> float:
    low_v, high_v = VELOCITY_RANGE_MPS
    low_k, high_k = CURVATURE_RANGE_PER_M
    velocity, curvature = trajectory.velocity_mps, trajectory.curvature_per_m
    inside = (velocity >= low_v) & (velocity <= high_v) & (curvature >= low_k) & (curvature <= high_k)
    return float(not inside.all())
