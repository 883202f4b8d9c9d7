"""The card about the text itself: how well the format is kept, why answers failed, and those answers as they came."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

import numpy as np

from evaluation.asking.predictions import Prediction
from evaluation.report.page import format_number, render_section, render_table, show_text
from evaluation.scoring.answers import Answers

MAX_FAILURES = 12
MAX_FAILURE_CHARS = 400
MAX_REASONS = 8
RATES = {
    "strict_rate": "exactly the list asked for",
    "lenient_rate": "read after removing prose, fences or spaces",
    "failed_rate": "could not be read, or driven by any vehicle",
    "cut_rate": "stopped by the token limit",
    "degenerate_rate": "all pairs the same (of those read, standing still left out)",
    "degenerate_rate_of_truth": "the same of the true answers",
    "out_of_range_rate": "speeds over 70 m/s, reversing over 20, curves under 5 m (of those read)",
}


def render_failures(
    metrics: dict[str, Any], answers: Answers, predictions: dict[str, Prediction], ids: np.ndarray
) -> str:
    """Shares, reasons, and up to MAX_FAILURES texts: one of each reason first."""
    rows = []
    for name, label in RATES.items():
        share = metrics["parsing"][name]["value"]
        rows.append([escape(label), "\u2013" if share is None else f"{format_number(100 * share, 1)} %"])
    body = render_table(["answers", "share"], rows)
    failed = [row for row, answer in enumerate(answers.parsed) if answer.parsing == "failed"]
    if not failed:
        return render_section("Keeping to the format", f"{body}<p>Every answer could be read.</p>")
    reasons = {row: name_reason(answers.parsed[row].error) for row in failed}
    counts = Counter(reasons.values()).most_common()
    listed = [[show_text(reason, 200), f"{count:,}"] for reason, count in counts[:MAX_REASONS]]
    if len(counts) > MAX_REASONS:
        listed.append(["other reasons", f"{sum(count for _, count in counts[MAX_REASONS:]):,}"])
    body += render_table(["why an answer could not be read", "answers"], listed)
    chosen = choose_failures(reasons)
    texts = "".join(_render_text(str(ids[row]), reasons[row], predictions[str(ids[row])]) for row in chosen)
    title = f"{len(chosen):,} of {len(failed):,} that could not be read, as they came"
    return render_section("Keeping to the format", f"{body}<h3>{title}</h3>{texts}")


def name_reason(error: str) -> str:
    """What was wrong, without the answer's text that the message ends with."""
    return error.split(": '")[0].split(': "')[0]


def choose_failures(reasons: dict[int, str], num_shown: int = MAX_FAILURES) -> list[int]:
    """Rows to show: the first of each reason, then the others in their order."""
    first = {reason: row for row, reason in reversed(reasons.items())}
    order = sorted(reasons, key=lambda row: (first[reasons[row]] != row, row))
    return sorted(order[:num_shown])


def _render_text(name: str, reason: str, prediction: Prediction) -> str:
    cut = ", stopped by the token limit" if prediction.is_cut else ""
    text = show_text(prediction.text, MAX_FAILURE_CHARS) or '<span class="open">(empty)</span>'
    return f'<p class="note"><code>{show_text(name, 200)}</code>: {show_text(reason, 200)}{cut}</p><pre>{text}</pre>'
