"""Cards that need single rows or the training log: scatter plots, failed answers, the learning curve."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from driving.metrics import moving_weight
from evaluation.answers import Answers
from evaluation.asking import Prediction
from evaluation.report.page import format_number, render_figure, render_section, render_table
from evaluation.report.svg import Series, line_chart, scatter_chart
from evaluation.truth import Truth

MAX_DOTS = 2000
MAX_FAILURES = 6
MAX_FAILURE_CHARS = 240
MAX_LINE_POINTS = 400


def render_scatter(truth: Truth, answers: Answers, seed: int) -> str:
    """Predicted over true, one dot an answer that could be read; at most MAX_DOTS, drawn by the seed."""
    known = np.flatnonzero(answers.is_parsed)
    if not len(known):
        return render_section("Predicted over true", "<p>No answer could be read.</p>")
    if len(known) > MAX_DOTS:
        known = np.sort(np.random.default_rng(seed).choice(known, MAX_DOTS, replace=False))
    speed = np.stack([truth.velocity_mps[known].mean(axis=1), answers.velocity_mps[known].mean(axis=1)], axis=1)
    figures = [_scatter("speed", "m/s", speed)]
    moving = known[moving_weight(truth.velocity_mps[known]).all(axis=1)]
    if len(moving):
        bend = [truth.curvature_per_m[moving].mean(axis=1), answers.curvature_per_m[moving].mean(axis=1)]
        figures.append(_scatter("curvature", "1/m", np.stack(bend, axis=1)))
    return render_section(
        "Predicted over true",
        f'<div class="charts">{"".join(figures)}</div>',
        "Means over the answer; the dashed line is a perfect model, a flat cloud is one that does not look.",
    )


def _scatter(label: str, unit: str, points: np.ndarray) -> str:
    chart = scatter_chart(Series(label, points), label, unit, f"predicted over true {label}")
    correlation = np.corrcoef(points.T)[0, 1] if len(points) > 2 and (np.ptp(points, axis=0) > 0).all() else None
    return render_figure(
        label.capitalize(), chart, f"{len(points):,} answers, correlation {format_number(correlation, 2)}"
    )


def render_failures(
    metrics: dict[str, Any], answers: Answers, predictions: dict[str, Prediction], ids: np.ndarray
) -> str:
    """How well the format is kept, and the answers that could not be read, as they came."""
    parsing = metrics["parsing"]
    names = {
        "strict_rate": "exactly the list asked for",
        "lenient_rate": "read after removing prose, fences or spaces",
        "failed_rate": "could not be read",
        "cut_rate": "stopped by the token limit",
        "degenerate_rate": "all pairs the same (of those read, standing still left out)",
        "degenerate_rate_of_truth": "the same of the true answers",
        "out_of_range_rate": "values that no car reaches (of those read)",
    }
    rows = []
    for name, label in names.items():
        share = parsing[name]["value"]
        rows.append([escape(label), "\u2013" if share is None else f"{format_number(100 * share, 1)} %"])
    failed = [row for row, answer in enumerate(answers.parsed) if answer.parsing == "failed"]
    body = render_table(["answers", "share"], rows)
    if failed:
        texts = [
            _failure(str(ids[row]), predictions[str(ids[row])].text, answers.parsed[row].error)
            for row in failed[:MAX_FAILURES]
        ]
        body += f"<h3>The first {len(texts)} of {len(failed):,} that could not be read</h3>{''.join(texts)}"
    else:
        body += "<p>Every answer could be read.</p>"
    return render_section("Keeping to the format", body)


def _failure(name: str, text: str, error: str) -> str:
    shown = text if len(text) <= MAX_FAILURE_CHARS else text[:MAX_FAILURE_CHARS] + " \u2026"
    return f'<p class="note"><code>{escape(name)}</code>: {escape(error)}</p><pre>{escape(shown) or "(empty)"}</pre>'


def render_learning(log: list[dict[str, Any]]) -> str:
    """Loss over steps, on training and where it was taken on validation data."""
    series = []
    for key, label, style in (("loss", "training loss", "model"), ("eval_loss", "validation loss", "mean")):
        points = [
            (float(entry["step"]), float(entry[key]))
            for entry in log
            if _is_number(entry.get(key)) and _is_number(entry.get("step"))
        ]
        if len(points) > 1:
            series.append(Series(label, _thin(np.array(points)), style))
    if not series:
        return render_section("Learning curve", "<p class='sub'>The model's folder holds no training log.</p>")
    chart = line_chart(series, "step", "loss", "loss over training steps", from_zero=True)
    last = ", ".join(f"last {entry.label} {format_number(entry.points[-1, 1], 3)}" for entry in series)
    return render_section("Learning curve", f'<div class="charts">{render_figure("Loss", chart, last)}</div>')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _thin(points: np.ndarray) -> np.ndarray:
    """At most MAX_LINE_POINTS, each the mean of its neighbours."""
    if len(points) <= MAX_LINE_POINTS:
        return points
    return np.array([part.mean(axis=0) for part in np.array_split(points, MAX_LINE_POINTS)])
