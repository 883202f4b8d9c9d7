"""The cards about the motion itself: how errors grow with time, and whether a car could drive the answers."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from evaluation.report.names import NAMES, Metrics
from evaluation.report.page import format_estimate, format_number, render_figure, render_section, render_table
from evaluation.report.svg import Series, line_chart

SHOWN = {
    "ade_m": "average until then [m]",
    "fde_m": "at that time [m]",
    "corner_m": "corners [m]",
    "heading_error_rad": "heading [rad]",
}
LIMIT_NAMES = {
    "longitudinal_acceleration": "braking and accelerating",
    "lateral_acceleration": "push to the side",
    "jerk": "jerk",
    "longitudinal_jerk": "jerk along the road",
    "yaw_rate": "turning",
    "yaw_acceleration": "change of turning",
    "any": "any of them",
}


def render_horizons(metrics: Metrics) -> str:
    """Errors at each published time that the answers reach, of the model and the cheap guess; "" where not measured."""
    horizons = metrics.get("horizons")
    if not horizons:
        return ""
    reference = metrics["reference"]
    head = ["ahead", *SHOWN.values()]
    rows = [
        [escape(horizon), *(_cell(whos["model"][name], whos[reference][name], name) for name in SHOWN)]
        for horizon, whos in horizons.items()
    ]
    body = render_table(head, rows)
    if len(horizons) > 1:
        body = f'<div class="charts">{_draw_growth(horizons, reference)}</div>{body}'
    note = (
        f"This model / {NAMES[reference]}. Displacement error up to and at each time, and of the car's corners; times "
        "between two samples are left out."
    )
    return render_section("How errors grow", body, note)


def _cell(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> str:
    digits = 3
    return f"{format_estimate(ours, digits)} / {format_number(theirs['value'], digits)}"


def _draw_growth(horizons: dict[str, Any], reference: str) -> str:
    figures = []
    for name, title in (("fde_m", "Displacement error at that time"), ("heading_error_rad", "Heading error")):
        series = []
        for who, label, style in (("model", "this model", "model"), (reference, NAMES[reference], "mean")):
            points = [(0.0, 0.0)]
            points += [(float(h.split()[0]), whos[who][name]["value"]) for h, whos in horizons.items()]
            series.append(Series(label, np.array(points), style, is_dashed=who != "model"))
        unit = "m" if name.endswith("_m") else "rad"
        figures.append(render_figure(title, line_chart(series, "seconds ahead", unit, title.lower(), from_zero=True)))
    return "".join(figures)


def render_feasibility(metrics: Metrics) -> str:
    """How often answers cross the limits of comfort, beside how often the drivers did; "" where not measured."""
    found = metrics.get("feasibility")
    if not found:
        return ""
    rows = []
    for name, limit in found["limits"].items():
        label = LIMIT_NAMES.get(name, name.replace("_", " "))
        cells = [format_estimate(limit[key], 1, 100) for key in ("model", "truth", "excess")]
        reach = limit["excess"].get("min_detectable")
        cells.append(format_number(None if reach is None else 100 * reach, 1))
        rows.append([escape(label), _format_limit(limit), *cells])
    head = ["over the limit [%]", "limit", "answers", "what was driven", "answers \u2212 driven", "could show"]
    note = (
        "A limit that the drivers themselves cross says little by being crossed: the difference does. Answers that "
        f"could be read, smoothed over {found['smoothed_over_s']:g} s; limits of nuPlan's comfort metric."
    )
    return render_section("Could a car drive it?", render_table(head, rows), note)


def _format_limit(limit: dict[str, Any]) -> str:
    low, high, unit = limit["low"], limit["high"], escape(limit["unit"])
    if low is None or high is None:
        return ""
    if low == -high:
        return f"\u00b1{high:g} {unit}"
    return f"{format_number(low, 2)} to {format_number(high, 2)} {unit}"
