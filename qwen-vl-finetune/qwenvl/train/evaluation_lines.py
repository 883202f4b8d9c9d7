"""An evaluation as a person reads it: a line of numbers, what the model said, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.data.preview import shorten, show_controls
from qwenvl.train.answer_scores import Answered
from qwenvl.train.best import explain_unfit
from qwenvl.train.progress import format_duration, format_loss
from qwenvl.train.validation import Evaluation

NUM_SHOWN = 2
MAX_CHARS = 90

# metric -> how it is said
WORDS = {
    "eval_strict_rate": "{:.1%} strict",
    "eval_lenient_rate": "{:.1%} lenient",
    "eval_exact_match": "{:.1%} exact",
    "eval_speed_mae": "speed {:.2f} m/s",
    "eval_curvature_mae": "curvature {:.4f} 1/m",
    "eval_ade": "ADE {:.2f} m",
}


def format_evaluation(step: int, evaluation: Evaluation, best_metric: str) -> list[str]:
    """One line of numbers, two answers beside the true ones, and a warning for each way in which all are the same."""
    metrics = evaluation.metrics
    loss = f"loss {format_loss(metrics['eval_loss'])} over {metrics['eval_rows']:,} rows"
    said = [text.format(metrics[name]) for name, text in WORDS.items() if name in metrics]
    answers = f"; {metrics['eval_answers']:,} answers: {', '.join(said)}" if evaluation.answered else ""
    skipped = f"; {len(evaluation.skips):,} rows skipped" if evaluation.skips else ""
    lines = [f"evaluation at step {step:,}: {loss}{answers}{skipped} ({format_duration(metrics['eval_seconds'])})"]
    lines += format_samples(evaluation.answered)
    if unfit := explain_unfit(metrics, best_metric):
        lines.append(f"  cannot be the best checkpoint: {unfit}")
    return lines + [f"WARNING at step {step:,}, collapse: {sentence}" for sentence in evaluation.collapses]


def format_samples(answered: Sequence[Answered]) -> list[str]:
    """The first and the middle row: what is true, and what the model said."""
    places = sorted({0, len(answered) // 2})[:NUM_SHOWN] if answered else []
    lines = []
    for row in (answered[place] for place in places):
        end = " (cut)" if row.is_cut else ""
        lines += [
            f"  {show_controls(row.id)}",
            f"    true  {_show(row.true)}",
            f"    said  {_show(row.generated)}{end}",
        ]
    return lines


def _show(text: str) -> str:
    return shorten(show_controls(text).replace("\n", "\\n"), MAX_CHARS)
