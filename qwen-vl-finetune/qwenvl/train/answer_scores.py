"""What generated answers are worth: parse rates and errors of motions, exact match of texts, and whether all are one.

    [Answered(true text, generated text, format)] ──score_answers──▶ Scores({"speed_mae": 0.8, ...}, warnings)

Errors are taken over the answers that can be read, against the label's own trajectory; evaluation scores more, against
the recorded pose, and scores failures too. B = answers, T = pairs of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from driving import metrics
from driving.answer_format import Answer, AnswerFormat, judge_answer, parse_answer
from driving.errors import AnswerError
from driving.trajectory import Trajectory, integrate_batch

# A model that has given up says nearly the same for every clip: its answers spread far less than the labels.
COLLAPSE_RATIO = 0.1
MIN_ANSWERS_TO_JUDGE = 4

# metric -> whether more of it is better
MOTION_METRICS = {"strict_rate": True, "speed_mae": False, "curvature_mae": False, "ade": False}
TEXT_METRICS = {"exact_match": True}
# The same under the names of the log: what --metric_for_best_model may ask for.
EVAL_METRICS = {
    f"eval_{name}": is_better for name, is_better in {"loss": False, **MOTION_METRICS, **TEXT_METRICS}.items()
}


@dataclass(frozen=True)
class Answered:
    """One row's true and generated answer.

    Attributes:
        answer_format: None where the answer is free text.
        is_cut: the token limit came before the end token.
    """

    id: str
    true: str
    generated: str
    answer_format: AnswerFormat | None = None
    is_cut: bool = False


@dataclass
class Scores:
    """Numbers that could be taken, and a sentence for each channel in which the answers have collapsed."""

    metrics: dict[str, float] = field(default_factory=dict)
    collapses: list[str] = field(default_factory=list)


def score_answers(answered: Sequence[Answered]) -> Scores:
    """Score answers in a format, and free texts, each by their own metrics; what cannot be taken is left out.

    Metrics: strict_rate, lenient_rate (shares of the answers), speed_mae [m/s], curvature_mae [1/m] where the car
    moves, ade [m], speed_spread and curvature_spread (of the labels' own), exact_match (share), collapse (1 or 0).
    """
    scores = Scores()
    motions = [row for row in answered if row.answer_format is not None]
    texts = [row for row in answered if row.answer_format is None]
    if motions:
        _score_motions(motions, scores)
    if texts:
        _score_texts(texts, scores)
    if answered:
        scores.metrics["collapse"] = float(bool(scores.collapses))
    return scores


def _score_motions(rows: Sequence[Answered], scores: Scores) -> None:
    read = [
        (_read(row.generated, row.answer_format, judge_answer), _read(row.true, row.answer_format, parse_answer))
        for row in rows
    ]
    kinds = [answer.parsing for answer, _ in read if answer is not None]
    scores.metrics["strict_rate"] = kinds.count("strict") / len(rows)
    scores.metrics["lenient_rate"] = kinds.count("lenient") / len(rows)
    pairs = [
        (answer.trajectory, label.trajectory) for answer, label in read if answer is not None and label is not None
    ]
    if not pairs:
        return
    predicted, true = (_stack(side) for side in zip(*pairs, strict=True))
    interval_s = rows[0].answer_format.interval_s
    curvature_errors = metrics.mean_absolute(predicted[1], true[1], metrics.moving_weight(true[0]))
    scores.metrics["speed_mae"] = float(metrics.mean_absolute(predicted[0], true[0]).mean())
    if not np.isnan(curvature_errors).all():
        scores.metrics["curvature_mae"] = float(np.nanmean(curvature_errors))
    paths = (integrate_batch(*motion, interval_s) for motion in (predicted, true))
    scores.metrics["ade"] = float(metrics.ade_m(*paths).mean())
    if len(pairs) < MIN_ANSWERS_TO_JUDGE:
        return
    for name, unit, decimals, channel in (("speed", "m/s", 2, 0), ("curvature", "1/m", 4, 1)):
        ours, labels = (float(side[channel].std(axis=0).mean()) for side in (predicted, true))
        if labels == 0:
            continue  # all rows have one label: there is nothing to tell apart
        scores.metrics[f"{name}_spread"] = ours / labels
        if ours < COLLAPSE_RATIO * labels:
            scores.collapses.append(
                f"the {name} in the answers spreads over {ours:.{decimals}f} {unit}, in the labels over "
                f"{labels:.{decimals}f} {unit}: nearly the same is said about every clip"
            )


def _score_texts(rows: Sequence[Answered], scores: Scores) -> None:
    matches = [row.generated.strip() == row.true.strip() for row in rows]
    scores.metrics["exact_match"] = sum(matches) / len(rows)
    num_said, num_true = (
        len({text.strip() for text in side}) for side in zip(*((r.generated, r.true) for r in rows), strict=True)
    )
    if len(rows) >= MIN_ANSWERS_TO_JUDGE and num_true > 1 and (num_said == 1 or num_said < COLLAPSE_RATIO * num_true):
        scores.collapses.append(
            f"{num_said} different text{'s' * (num_said > 1)} in {len(rows)} answers, {num_true} in the labels: "
            "nearly the same is said about every row"
        )


def _read(text: str, answer_format: AnswerFormat, read: Callable[[str, AnswerFormat], Answer]) -> Answer | None:
    try:
        return read(text, answer_format)
    except AnswerError:
        return None


def _stack(trajectories: Sequence[Trajectory]) -> tuple[np.ndarray, np.ndarray]:
    """(B, T) speeds and (B, T) curvatures."""
    return (
        np.stack([trajectory.velocity_mps for trajectory in trajectories]),
        np.stack([trajectory.curvature_per_m for trajectory in trajectories]),
    )
