"""The cards that say what was asked of whom, on which data, and by which commands."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from evaluation.report.names import Metrics
from evaluation.report.page import format_number, render_facts, render_figure, render_section, render_table
from evaluation.report.strata import TITLES
from evaluation.report.svg import NARROW, Bar, bar_chart

_FALLBACKS = {"train_mean": "the training mean", "ctrv": "CTRV over the ego history as it was told"}
_COUNTED = ("left", "right", "straight", "standing", "reversing")
_STEPS = {
    "data": ("The data", "the folder of the test data does not say: it is older than the notes, or was made elsewhere"),
    "model": ("The model", "its folder does not say: it is older than the notes, or was downloaded"),
    "evaluation": ("This evaluation", ""),
}


def render_data(metrics: Metrics) -> str:
    """The data card: where rows come from, how they are split, what the cars did in them; then the model's own card."""
    facts = render_facts(_describe_data(metrics)) + _render_splits(metrics["data"])
    charts = f'<div class="charts three">{_draw_rows(metrics)}</div>'
    dataset = escape(json.dumps(metrics["data"]["dataset"], ensure_ascii=False, indent=1, sort_keys=True))
    folded = f"<details><summary>dataset.json</summary><pre>{dataset}</pre></details>"
    model = f"<h3>The model</h3>{render_facts(_describe_model(metrics))}"
    return render_section("Data and model", facts + charts + folded + model)


def _describe_data(metrics: Metrics) -> dict[str, object]:
    data = metrics["data"]
    dataset = data["dataset"]
    clips = ", ".join(f"{c[0]} frames of {c[1]} x {c[2]} px" for c in data["clips_frames_height_width"] if len(c) == 3)
    facts = {
        "kind": "synthetic, drawn by a program"
        if data["is_synthetic"]
        else "recorded (nothing says that it was drawn)",
        "sources": _count(dataset.get("sources")),
        "recordings": f"{dataset['num_recordings']:,}" if isinstance(dataset.get("num_recordings"), int) else "",
        "recorded motion": _describe_truth(data["scored_with"]),
        "split by": _describe_rule(dataset.get("split_rule")),
        "recorded clip": _describe_clip(dataset),
        "clip as the model saw it": clips or "unknown",
        "segments": _describe_segments(dataset.get("provenance")),
        "warnings": "; ".join(map(str, dataset.get("warnings") or ())),
    }
    return {name: value for name, value in facts.items() if value}


def _count(sources: Any) -> str:
    if isinstance(sources, dict):
        return ", ".join(f"{name} ({count:,} rows)" for name, count in sources.items())
    return ""


def _describe_truth(scored_with: dict[str, str]) -> str:
    said = f"{scored_with['truth']} ({scored_with['truth_hash']})"
    if scored_with["train_truth_hash"] == scored_with["truth_hash"]:
        return said
    return f"{said}; training mean of {scored_with['train_truth']} ({scored_with['train_truth_hash']})"


def _describe_rule(rule: Any) -> str:
    if not isinstance(rule, dict):
        return ""
    named = {"official": "the dataset's official split", "hash": "a hash of the recording"}
    said = named.get(rule.get("rule"), str(rule.get("rule")))
    return (
        f"{said}, {rule.get('num_moved_groups', 0):,} recordings moved, {rule.get('num_left_out', 0):,} rows left out"
    )


def _describe_clip(dataset: dict[str, Any]) -> str:
    sizes = dataset.get("frame_sizes")
    if not isinstance(sizes, dict) or not {"fps", "duration_s"} <= set(dataset):
        return ""
    return f"{dataset['duration_s']:g} s at {dataset['fps']:g} frames a second, {', '.join(sizes)} px"


def _describe_segments(provenance: Any) -> str:
    plan = provenance.get("segments_plan") if isinstance(provenance, dict) else None
    if not isinstance(plan, dict):
        return ""
    shown = {"cut": "pixels", "curvature": "curvature from the", "max_gap_s": "longest gap [s]"}
    return ", ".join(f"{label} {plan[name]}" for name, label in shown.items() if plan.get(name) is not None)


def _render_splits(data: dict[str, Any]) -> str:
    """Rows and recordings of each split, and how its cars drove."""
    labels = data["dataset"].get("labels")
    labels = labels if isinstance(labels, dict) else {}
    rows = []
    for name in sorted(data["splits"], key=lambda name: ({"train": 0, "val": 1, "test": 2}.get(name, 3), name)):
        counts, found = data["splits"][name], labels.get(name, {})
        speed = ["mean", "std", "min", "max"]
        numbers = [found.get(f"velocity_{word}_mps") for word in speed]
        said = "" if None in numbers else _format_speeds(*numbers)
        moves = found.get("num_segments", {})
        rows.append(
            [escape(name), f"{counts['rows']:,}", f"{counts['groups']:,}", said]
            + [f"{moves[kind]:,}" if kind in moves else "" for kind in _COUNTED]
        )
    return render_table(["split", "rows", "recordings", "speed [m/s]", *_COUNTED], rows)


def _format_speeds(mean: float, std: float, low: float, high: float) -> str:
    return (
        f"{format_number(mean, 1)} \u00b1 {format_number(std, 1)} ({format_number(low, 1)} to {format_number(high, 1)})"
    )


def _draw_rows(metrics: Metrics) -> str:
    """How many test rows each bin holds."""
    figures = []
    for axis, entry in metrics["strata"].items():
        if len(entry["bins"]) < 2 or axis == "daylight":
            continue
        bars = [Bar(name, cell["num_rows"]) for name, cell in entry["bins"].items()]
        title = f"Test rows: {TITLES.get(axis, axis).lower()}"
        figures.append(render_figure(title, bar_chart(bars, "", 0, title, NARROW)))
    return "".join(figures)


def _describe_model(metrics: Metrics) -> dict[str, object]:
    data, card = metrics["data"], metrics["model_card"]
    parameters = card.get("num_parameters")
    return {
        "name": card["name"],
        "kind": f"{card.get('model_type', 'unknown')}, "
        f"{'unknown size' if parameters is None else format(parameters / 1e6, ',.1f') + ' M parameters'}, "
        f"{card.get('precision', 'unknown precision')} on {card.get('device', 'an unknown device')}",
        "fingerprint": card["fingerprint"],
        "prompt": "unknown" if data["prompt_tokens"] is None else f"{data['prompt_tokens']:,.0f} tokens (median)",
        "answer": f"{data['answer_format']['num_pairs']} pairs, format {data['answer_format']['name']}, "
        f"{format_number(metrics['parsing']['mean_tokens']['value'], 0)} tokens on average, "
        f"at most {card['max_new_tokens']}",
    }


def render_method(metrics: Metrics) -> str:
    """What was computed and how, and the commands that give all of it again."""
    versions = ", ".join(f"{name} {value}" for name, value in metrics["versions"].items())
    text = (
        "Predicted speed and curvature are driven as exact circular arcs and compared with the recorded pose; speed "
        "and curvature are compared with the labels; a standing car's curvature is not judged. An answer that cannot "
        f"be read is scored as {_FALLBACKS[metrics['fallback_of_failed_answers']]} and counted. Intervals are "
        f"percentile bootstrap over clips, {metrics['options']['bootstrap']:,} resamples. Decoding is greedy."
    )
    steps = "".join(_render_step(metrics["commands"], *step) for step in _STEPS.items())
    note = f'<p class="note">{escape(versions)}; a flag that is not named is at its default</p>'
    return render_section("How this was made", f"<p>{escape(text)}</p>{steps}{note}")


def _render_step(commands: dict[str, list[str]], name: str, said: tuple[str, str]) -> str:
    title, missing = said
    found = commands.get(name, [])
    body = f"<pre>{escape(chr(10).join(found))}</pre>" if found else f'<p class="note">{escape(missing)}</p>'
    return f"<h3>{escape(title)}</h3>{body}"
