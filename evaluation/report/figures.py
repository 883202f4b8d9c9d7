"""Cards that need single rows or the training log: scatter plots, the learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.metrics import moving_weight
from evaluation.report.page import format_number, render_figure, render_section
from evaluation.report.svg import NARROW, Series, line_chart, scatter_chart
from evaluation.scoring.answers import Answers
from evaluation.scoring.truth import Truth

MAX_DOTS = 2000
MAX_LINE_POINTS = 400
LOG_SIZE = (NARROW, 260)
LOGGED = {
    "eval_ade": ("ADE on validation answers", "m", 2),
    "eval_speed_mae": ("Speed error on validation answers", "m/s", 2),
    "eval_strict_rate": ("Validation answers in the format", "share", 3),
}


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


def render_learning(log: list[dict[str, Any]]) -> str:
    """Loss over steps, on training and on validation data, and what was generated on the latter."""
    loss = [("loss", "training loss", "model"), ("eval_loss", "validation loss", "mean")]
    figures = [_draw_log(log, "Loss", "loss", loss, 3)]
    figures += [_draw_log(log, title, unit, [(key, title.lower(), "mean")], digits)
                for key, (title, unit, digits) in LOGGED.items()]  # fmt: skip
    drawn = "".join(figures)
    if not drawn:
        return render_section("Learning curve", "<p class='sub'>The model's folder holds no training log.</p>")
    return render_section("Learning curve", f'<div class="charts three">{drawn}</div>')


def _draw_log(
    log: list[dict[str, Any]], title: str, unit: str, lines: Sequence[tuple[str, str, str]], digits: int
) -> str:
    series = []
    for key, label, style in lines:
        points = [
            (float(entry["step"]), float(entry[key]))
            for entry in log
            if _is_number(entry.get(key)) and _is_number(entry.get("step"))
        ]
        if points:
            series.append(Series(label, _thin(np.array(points)), style))
    if not series:
        return ""
    chart = line_chart(
        series, "step", unit, f"{title} over training steps", from_zero=True, is_marked=True, size=LOG_SIZE
    )
    named = len(lines) > 1
    last = ", ".join(
        f"last {entry.label + ' ' if named else ''}{format_number(entry.points[-1, 1], digits)}" for entry in series
    )
    return render_figure(title, chart, last)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _thin(points: np.ndarray) -> np.ndarray:
    """At most MAX_LINE_POINTS, each the mean of its neighbours."""
    if len(points) <= MAX_LINE_POINTS:
        return points
    return np.array([part.mean(axis=0) for part in np.array_split(points, MAX_LINE_POINTS)])
