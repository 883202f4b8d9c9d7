"""The card that shows where the model is good and where not: errors by speed, by turn, and by what else is known."""

from __future__ import annotations

from html import escape
from typing import Any

from evaluation.report.names import SHORT, SHOWN, Metrics, bar_of
from evaluation.report.page import format_number, render_figure, render_section, render_table
from evaluation.report.svg import NARROW, bar_chart
from evaluation.scoring.score import METRICS
from evaluation.scoring.tracks import SPOKEN

TITLES = {
    "speed": "By speed",
    "turn": "By turn",
    "motion": "By acceleration",
    "event": "Starts and stops",
    "hour": "By hour",
    "daylight": "By daylight",
    "country": "By country",
    "platform": "By car",
    "weather": "By weather",
}
FULLY_DRAWN = ("speed", "turn")  # with a chart for each metric; of the others ADE alone
DRAWN = ("velocity_mae_mps", "curvature_mae_per_m", "ade_m")


def render_strata(metrics: Metrics) -> str:
    """Bars of the model and of the cheap guess in each bin, and all of it as tables."""
    reference = metrics["reference"]
    main, others, tables = [], [], []
    for axis, entry in metrics["strata"].items():
        title = TITLES.get(axis, f"By {axis}")
        tables.append(_render_table(title, entry, reference))
        if axis in FULLY_DRAWN:
            main += [_draw(entry, reference, metric, f"{title}: {SHORT[metric]}") for metric in DRAWN]
        elif len(entry["bins"]) > 1:
            others.append(_draw(entry, reference, "ade_m", f"{title}: ADE"))
    folded = f"<details><summary>show the tables</summary>{''.join(tables)}</details>"
    charts = "".join(f'<div class="charts three">{"".join(some)}</div>' for some in (main, others) if some)
    return render_section(
        "Where it is good and where not",
        charts + folded,
        f"Blue is this model, ochre {SPOKEN[reference]} on the same rows.",
    )


def _render_table(title: str, entry: dict[str, Any], reference: str) -> str:
    rows = []
    for name, cell in entry["bins"].items():
        numbers = [_pair(cell["model"][m]["value"], cell[reference][m]["value"], digits) for m, digits in SHOWN.items()]
        rows.append([escape(name), f"{cell['num_rows']:,}", f"{cell['num_clips']:,}", *numbers])
    macro = entry["macro"]
    means = [_pair(macro["model"][m], macro[reference][m], digits) for m, digits in SHOWN.items()]
    rows.append(["mean over bins", "", "", *means])
    head = [title, "rows", "clips", *(f"{label}: model / {SPOKEN[reference]}" for label in SHORT.values())]
    return render_table(head, rows)


def _pair(ours: float | None, theirs: float | None, digits: int) -> str:
    return f"{format_number(ours, digits)} / {format_number(theirs, digits)}"


def _draw(entry: dict[str, Any], reference: str, metric: str, title: str) -> str:
    bars = []
    for name, cell in entry["bins"].items():
        bars.append(bar_of(name, cell["model"][metric], "model"))
        bars.append(bar_of("", cell[reference][metric], "mean"))
    bars = [bar for bar in bars if bar is not None]
    unit = METRICS[metric].unit
    return render_figure(f"{title} [{unit}]", bar_chart(bars, unit, SHOWN[metric], title, NARROW)) if bars else ""
