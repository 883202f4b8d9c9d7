"""The cards that say how it went in a few numbers, and the table of all of them. What came from outside is escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from driving.answer_format import VIDEO_ONLY
from evaluation.report.names import NAMES, Metrics
from evaluation.report.page import format_estimate, format_number, render_section, render_table
from evaluation.scoring.score import METRICS
from evaluation.scoring.tracks import SPOKEN


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
        "in brackets 95 % intervals that draw whole clips</p>" + _render_verdict(metrics) + stamps
    )


def _render_verdict(metrics: Metrics) -> str:
    """The gate and the claims in one line each, before any number."""
    gate, checks = metrics["gate"], metrics["grounding"]["checks"]
    name, skill = NAMES[gate["baseline"]], gate["skill"]
    if skill is None or skill["value"] is None:
        said = f"It cannot be compared with the {name}: there is no error of it to compare with."
    else:
        sign = 1 if skill["value"] >= 0 else -1
        interval = ""
        if skill["low"] is not None:
            low, high = sorted(100 * sign * skill[end] for end in ("low", "high"))
            interval = f" [{format_number(low, 0)}, {format_number(high, 0)}]"
        more = f"{'lower' if sign > 0 else 'higher'} by {format_number(100 * abs(skill['value']), 0)} %{interval}"
        word = "It beats" if gate["holds"] else "It is not shown to beat"
        said = f"{word} the {name}: its average displacement error is {more}."
    asked = [check for check in checks if check["holds"] is not None]
    num_held = sum(check["holds"] for check in asked)
    about = "looking at the video" if metrics["track"] == VIDEO_ONLY else "looking and listening"
    said += f" Of {len(asked)} claims about {about}, {num_held} hold{'s' if num_held == 1 else ''}."
    style = "good" if gate["holds"] else "leak"
    return f'<p class="stamp {style}">{escape(said)}</p>'


def render_tiles(metrics: Metrics) -> str:
    model, reference = metrics["model"], metrics["reference"]
    tiles = []
    for name, title, unit, digits in (
        ("velocity_mae_mps", "speed error", "m/s", 2),
        ("curvature_mae_per_m", "curvature error", "1/m", 4),
        ("ade_m", "average displacement error", "m", 2),
    ):
        cheap = metrics["baselines"][reference][name]["value"]
        notes = [_interval(model[name], digits), f"{SPOKEN[reference]}: {format_number(cheap, digits)} {unit}"]
        tiles.append(_tile(title, format_number(model[name]["value"], digits), unit, *notes))
    parsing = metrics["parsing"]
    readable = 100 * (1 - parsing["failed_rate"]["value"])
    counts, num_skipped = parsing["counts"], metrics["rows"]["num_skipped"]
    notes = [f"{counts['failed']:,} failed, {counts['cut']:,} cut", f"{num_skipped:,} rows skipped"]
    tiles.append(_tile("answers that could be read", format_number(readable, 1), "%", *notes))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(title: str, number: str, unit: str, *notes: str) -> str:
    lines = "".join(f'<span class="note">{escape(note)}</span>' for note in notes if note)
    return (
        f'<div class="tile"><span class="sub">{escape(title)}</span>'
        f'<b>{number} <span class="unit">{escape(unit)}</span></b>'
        f"{lines}</div>"
    )


def _interval(estimate: dict[str, Any], digits: int) -> str:
    if estimate["low"] is None:
        return ""
    return f"[{format_number(estimate['low'], digits)}, {format_number(estimate['high'], digits)}]"


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
