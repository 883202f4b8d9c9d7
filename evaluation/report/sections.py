"""The cards of the report, from metrics.json's content alone. Everything that came from outside is escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY
from evaluation.report.page import (
    format_estimate,
    format_number,
    render_figure,
    render_section,
    render_table,
)
from evaluation.report.svg import Bar, bar_chart
from evaluation.score import METRICS
from evaluation.tracks import SPOKEN

Metrics = dict[str, Any]
NAMES = {
    "model": "this model",
    "train_mean": "training mean",
    "train_median": "training median",
    "last_value": "last value",
    "constant_velocity": "constant velocity",
    "ctrv": "CTRV",
    "ca_cc": "CA + CC",
    "ctra": "CTRA",
    "speed_bin_mean": "mean of its speed bin",
    "ridge": "ridge on the past second",
    "ego_mlp": "ego network",
    "representation_floor": "representation floor",
    "label_floor": "label floor",
}
_SEEN = {
    VIDEO_ONLY: "This model saw video only; baselines that know the past second's true speed are a reference from "
    "above.",
    EGO_HISTORY: "This model was told how the car moved in the past second, as the baselines of history are: those are "
    "what it must beat.",
}
SHORT = {"velocity_mae_mps": "speed error", "curvature_mae_per_m": "curvature error", "ade_m": "ADE", "fde_m": "FDE"}
SHOWN = {"velocity_mae_mps": 2, "curvature_mae_per_m": 4, "ade_m": 2, "fde_m": 2}


def bar_of(label: str, estimate: dict[str, Any], style: str) -> Bar | None:
    if estimate["value"] is None:
        return None
    return Bar(label, estimate["value"], estimate["low"], estimate["high"], style)


def render_header(metrics: Metrics) -> str:
    card, rows = metrics["model_card"], metrics["rows"]
    stamps = "".join(
        f'<p class="stamp{" leak" if stamp.startswith("LEAKAGE") else ""}">{escape(stamp)}</p>'
        for stamp in metrics["stamps"]
    )
    return (
        f"<h1>How well does it see the road? <code>{escape(card['name'])}</code></h1>"
        f'<p class="sub">{rows["num_scored"]:,} answers about {rows["num_clips"]:,} held-out clips of '
        f"{escape(metrics['data']['test_data'])}, {metrics['horizon_s']:g} s ahead, {escape(metrics['track'])}; "
        "in brackets 95 % intervals that draw whole clips</p>" + stamps
    )


def render_tiles(metrics: Metrics) -> str:
    model, reference = metrics["model"], metrics["reference"]
    tiles = []
    for name, title, unit, digits in (
        ("velocity_mae_mps", "speed error", "m/s", 2),
        ("curvature_mae_per_m", "curvature error", "1/m", 4),
        ("ade_m", "average displacement error", "m", 2),
    ):
        cheap = metrics["baselines"][reference][name]["value"]
        against = f"{SPOKEN[reference]} {format_number(cheap, digits)} {unit}"
        tiles.append(
            _tile(
                title, format_number(model[name]["value"], digits), unit, f"{_interval(model[name], digits)}{against}"
            )
        )
    parsing = metrics["parsing"]
    readable = 100 * (1 - parsing["failed_rate"]["value"])
    counts, num_skipped = parsing["counts"], metrics["rows"]["num_skipped"]
    note = f"{counts['failed']:,} failed, {counts['cut']:,} cut, {num_skipped:,} skipped"
    tiles.append(_tile("answers that could be read", format_number(readable, 1), "%", note))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(title: str, number: str, unit: str, note: str) -> str:
    return (
        f'<div class="tile"><span class="sub">{escape(title)}</span>'
        f'<b>{number} <span class="unit">{escape(unit)}</span></b>'
        f'<span class="note">{escape(note)}</span></div>'
    )


def _interval(estimate: dict[str, Any], digits: int) -> str:
    if estimate["low"] is None:
        return ""
    return f"[{format_number(estimate['low'], digits)}, {format_number(estimate['high'], digits)}]; "


def render_baselines(metrics: Metrics) -> str:
    contenders = {"model": metrics["model"], **metrics["baselines"]}
    styles = {"model": "model", metrics["reference"]: "mean", "label_floor": "truth"}
    figures = []
    for name, digits in SHOWN.items():
        bars = [bar_of(NAMES[who], entry[name], styles.get(who, "base")) for who, entry in contenders.items()]
        chart = bar_chart([bar for bar in bars if bar is not None], METRICS[name].unit, digits, METRICS[name].label)
        figures.append(render_figure(f"{METRICS[name].label} [{METRICS[name].unit}]", chart))
    rows = []
    for who, entry in metrics["baselines"].items():
        skill = metrics["skill"].get(who, {})
        gains = [format_estimate(skill[name], 2) if skill else "\u2013" for name in SHOWN]
        knows = "history" if entry["needs_history"] else "truth" if who == "label_floor" else "training labels"
        rows.append([escape(NAMES[who]), knows, *gains])
    head = ["skill against", "it knows", *SHORT.values()]
    meanings = "".join(
        f"<li><b>{escape(NAMES[who])}</b>: {escape(entry['description'])}</li>"
        for who, entry in metrics["baselines"].items()
    )
    return render_section(
        "Beside what costs nothing",
        f'<div class="charts">{"".join(figures)}</div>{render_table(head, rows)}'
        '<p class="note">Skill is 1 \u2212 error / error of the baseline: 0 is no better, 1 perfect, paired by clip. '
        f"{_SEEN[metrics['track']]}</p>"
        f'<ul class="names note">{meanings}</ul>',
    )


def render_metrics(metrics: Metrics) -> str:
    rows, reference = [], metrics["reference"]
    for name, metric in METRICS.items():
        cells = [
            format_estimate(entry[name], 1 if metric.is_share else 4, 100 if metric.is_share else 1)
            for entry in (metrics["model"], metrics["baselines"][reference], metrics["baselines"]["label_floor"])
        ]
        tails = metrics["model"][name]
        small = " / ".join(format_number(tails[key], 2) for key in ("p50", "p95", "p99")) if metric.has_tails else ""
        rows.append([escape(metric.label), "%" if metric.is_share else metric.unit, *cells, small])
    worst = metrics["model"]["ade_failures_at_p95_m"]
    rows.append(["ADE with failures at the p95 of parsed errors", "m", format_estimate(worst, 4), "", "", ""])
    protocols = metrics["l2_protocols_m"]
    horizons = list(next(iter(protocols.values()), {}))
    l2 = render_table(
        ["L2 [m], protocol", *horizons],
        [
            [escape(name), *(format_number(values[horizon], 3) for horizon in horizons)]
            for name, values in protocols.items()
        ],
    )
    table = render_table(["metric", "unit", "this model", SPOKEN[reference], "label floor", "p50 / p95 / p99"], rows)
    return render_section("All numbers", f"<details><summary>show the table</summary>{table}{l2}</details>")


def render_strata(metrics: Metrics) -> str:
    figures, tables, reference = [], [], metrics["reference"]
    for axis, title in (("speed", "By speed"), ("turn", "By turn"), ("motion", "By acceleration")):
        entry = metrics["strata"][axis]
        rows = []
        for name, cell in entry["bins"].items():
            rows.append(
                [escape(name), f"{cell['num_rows']:,}", f"{cell['num_clips']:,}", *_stratum_cells(cell, reference)]
            )
        macro = entry["macro"]
        rows.append(
            ["mean over bins", "", "", *(_pair(macro["model"][m], macro[reference][m], d) for m, d in SHOWN.items())]
        )
        head = [title.lower(), "rows", "clips", *(f"{label}: model / {SPOKEN[reference]}" for label in SHORT.values())]
        tables.append(render_table(head, rows))
        if axis != "motion":
            figures += [_draw_stratum(entry, reference, metric, f"{title}: {label}") for metric, label in
                        (("velocity_mae_mps", "speed error"), ("curvature_mae_per_m", "curvature error"))]  # fmt: skip
    shown = f"<details><summary>show the tables</summary>{''.join(tables)}</details>"
    body = f'<div class="charts">{"".join(figures)}</div>{shown}'
    return render_section(
        "Where it is good and where not", body, f"Blue is this model, ochre {SPOKEN[reference]} on the same rows."
    )


def _stratum_cells(cell: dict[str, Any], reference: str) -> list[str]:
    return [_pair(cell["model"][m]["value"], cell[reference][m]["value"], digits) for m, digits in SHOWN.items()]


def _pair(ours: float | None, theirs: float | None, digits: int) -> str:
    return f"{format_number(ours, digits)} / {format_number(theirs, digits)}"


def _draw_stratum(entry: dict[str, Any], reference: str, metric: str, title: str) -> str:
    bars = []
    for name, cell in entry["bins"].items():
        bars.append(bar_of(name, cell["model"][metric], "model"))
        bars.append(bar_of("", cell[reference][metric], "mean"))
    bars = [bar for bar in bars if bar is not None]
    unit = METRICS[metric].unit
    return render_figure(f"{title} [{unit}]", bar_chart(bars, unit, SHOWN[metric], title)) if bars else ""
