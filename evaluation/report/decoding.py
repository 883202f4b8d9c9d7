"""The cards about other ways to decode: answers kept to the format, several drawn answers, and what an answer costs."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from evaluation.report.names import Metrics
from evaluation.report.page import format_estimate, format_number, render_figure, render_section, render_table
from evaluation.report.svg import Series, line_chart
from evaluation.scoring.score import METRICS

RATES = {
    "strict_rate": "exactly the list asked for",
    "failed_rate": "could not be read",
    "cut_rate": "stopped by the token limit",
}
DRAWN = {
    "min_ade_m": ("ADE of the best of them (an oracle picks it)", "m", 2),
    "min_fde_m": ("FDE of the best of them (an oracle picks it)", "m", 2),
    "mean_ade_m": ("ADE of one of them, on average", "m", 2),
    "mean_fde_m": ("FDE of one of them, on average", "m", 2),
    "ade_of_mean_m": ("ADE of their mean", "m", 2),
    "crps_velocity_mps": ("CRPS of the speed", "m/s", 2),
    "crps_curvature_per_m": ("CRPS of the curvature", "1/m", 4),
    "spread_velocity_mps": ("spread of the speed, standard deviation", "m/s", 2),
    "spread_curvature_per_m": ("spread of the curvature, standard deviation", "1/m", 4),
}


def render_constrained(metrics: Metrics) -> str:
    """Answers that can only be a list of the right length, beside the free ones; "" where they were not asked for."""
    found = metrics.get("constrained")
    if not found:
        return ""
    rows = []
    for name, gain in found["gain_over_free"].items():
        metric, digits = METRICS[name], 4 if "per_m" in name else 2
        cells = [format_estimate(entry[name], digits) for entry in (found["free"], found)]
        rows.append([escape(metric.label), escape(metric.unit), *cells, format_estimate(gain, 3)])
    for name, label in RATES.items():
        if name in found and name in found["free"]:
            cells = [format_estimate(entry[name], 1, 100) for entry in (found["free"], found)]
            rows.append([label, "%", *cells, ""])
    rescued = found["rescued"]
    note = (
        f"{found['num_rows']:,} rows were asked twice: freely, and with every token that breaks the format forbidden. "
        f"{format_number(_percent(found['same_text_rate']), 1)} % of the texts are the same. Forbidding them mends "
        "form, never sight."
    )
    if rescued["num_rows"]:
        ours, theirs = (rescued[who]["ade_m"]["value"] for who in ("constrained", "fallback"))
        note += (
            f" Of {rescued['num_rows']:,} answers that could not be read freely, the constrained ones have an ADE of "
            f"{format_number(ours, 2)} m, what stands in for them {format_number(theirs, 2)} m."
        )
    table = render_table(["metric", "unit", "free", "kept to the format", "gain"], rows)
    return render_section("Kept to the format", table, note)


def render_samples(metrics: Metrics) -> str:
    """Several drawn answers a row, always beside the single one; "" where none were drawn."""
    found = metrics.get("samples")
    if not found:
        return ""
    num = found["num_samples"]
    rows = [["ADE of the single answer", "m", format_estimate(found["single"]["ade_m"], 2)]]
    rows.append(["FDE of the single answer", "m", format_estimate(found["single"]["fde_m"], 2)])
    for name, (label, unit, digits) in DRAWN.items():
        if name in found:
            rows.append([escape(label), unit, format_estimate(found[name], digits)])
    if "blind" in found:
        label = f"minADE of {num} training motions drawn without looking"
        rows.append([label, "m", format_estimate(found["blind"]["min_ade_m"], 2)])
    for name, label in (("failed_rate", "of them that could not be read"), ("distinct_rate", "of them that differ")):
        if name in found:
            rows.append([label, "%", format_estimate(found[name], 1, 100)])
    settings = f"temperature {found['temperature']:g}, top-p {found['top_p']:g}"
    return render_section(
        f"{num} drawn answers",
        render_table(["of the same rows", "unit", ""], rows) + _draw_coverage(found["coverage"]),
        f"{num} answers a row at {settings}. The best of {num} is what a planner would have that knew the future: no "
        "score of the model, and lower with every further draw. CRPS compares the whole spread with what was driven.",
    )


def _draw_coverage(coverage: list[dict[str, Any]]) -> str:
    """How often the truth lies inside what the draws span: on the dashed line where the spread is honest."""
    figures = []
    for name in ("velocity", "curvature"):
        points = [(100 * e["expected"], 100 * e[name]["value"]) for e in coverage if e[name]["value"] is not None]
        if len(points) < 2:
            continue
        found = np.array(sorted(points))
        series = [
            Series("honest spread", np.array([[0.0, 0.0], [100.0, 100.0]]), "mean", is_dashed=True),
            Series("found", found, "model"),
        ]
        chart = line_chart(series, "expected [%]", "found [%]", f"share of {name} inside the draws' intervals")
        title = "Speed" if name == "velocity" else "Curvature"
        figures.append(render_figure(f"{title} inside the intervals of the draws", chart, "below the line: too sure"))
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def render_speed(metrics: Metrics) -> str:
    """Tokens a second and milliseconds an answer; "" where nobody looked at the clock."""
    found = metrics.get("speed") or {}
    kinds = {name: entry for name, entry in found.items() if isinstance(entry, dict) and "tokens_per_s" in entry}
    if not kinds:
        return ""
    rows = [
        [escape(name), f"{entry['num_answers']:,}", format_number(entry["tokens_per_s"], 1),
         format_number(entry["ms_per_answer"], 0)]
        for name, entry in kinds.items()
    ]  # fmt: skip
    workers, card = found.get("num_workers", 1), metrics["model_card"]
    note = (
        f"One worker{f' of {workers:,}' if workers > 1 else ''} on {card.get('device', 'an unknown device')}, "
        f"{found['batch_size']:,} clips at once; prompts counted, reading the clips not. Of this machine's clock, "
        "not of the model."
    )
    table = render_table(["decoding", "answers", "tokens / s", "ms / answer"], rows)
    return render_section("What an answer costs", table, note)


def _percent(estimate: dict[str, Any]) -> float | None:
    return None if estimate["value"] is None else 100 * estimate["value"]
