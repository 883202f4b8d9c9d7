"""The cards that say what was asked of whom, on which data, and by which command."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from evaluation.report.page import format_number, render_facts, render_section

_FALLBACKS = {"train_mean": "the training mean", "ctrv": "CTRV over the ego history as it was told"}
Metrics = dict[str, Any]


def render_data(metrics: Metrics) -> str:
    data, card = metrics["data"], metrics["model_card"]
    splits = "; ".join(f"{name} {n['rows']:,} rows of {n['groups']:,} recordings" for name, n in data["splits"].items())
    clips = ", ".join(f"{c[0]} frames of {c[1]} x {c[2]}" for c in data["clips_frames_height_width"] if len(c) == 3)
    parameters = card.get("num_parameters")
    facts = {
        "kind": "synthetic, drawn by a program"
        if data["is_synthetic"]
        else "recorded (nothing says that it was drawn)",
        "splits": splits,
        "clip as the model saw it": clips or "unknown",
        "prompt": "unknown" if data["prompt_tokens"] is None else f"{data['prompt_tokens']:,.0f} tokens (median)",
        "answer": f"{data['answer_format']['num_pairs']} pairs, format {data['answer_format']['name']}, "
        f"{format_number(metrics['parsing']['mean_tokens']['value'], 0)} tokens on average, "
        f"at most {card['max_new_tokens']}",
        "model": f"{card['name']} ({card.get('model_type', 'unknown kind')}, "
        f"{'unknown size' if parameters is None else format(parameters / 1e6, ',.1f') + ' M parameters'}, "
        f"{card.get('precision', 'unknown precision')} on {card.get('device', 'unknown device')}, "
        f"{card['fingerprint']})",
    }
    dataset = escape(json.dumps(data["dataset"], ensure_ascii=False, indent=1, sort_keys=True))
    return render_section(
        "Data and model", f"{render_facts(facts)}<details><summary>dataset.json</summary><pre>{dataset}</pre></details>"
    )


def render_method(metrics: Metrics) -> str:
    options = metrics["options"]
    command = " ".join(
        ["uv run python scripts/evaluate.py"]
        + [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value not in (None, False, "")]
    )
    versions = ", ".join(f"{name} {value}" for name, value in metrics["versions"].items())
    text = (
        "Predicted speed and curvature are driven as exact circular arcs and compared with the recorded pose; speed "
        "and curvature are compared with the labels; a standing car's curvature is not judged. An answer that cannot "
        f"be read is scored as {_FALLBACKS[metrics['fallback_of_failed_answers']]} and counted. Intervals are "
        "percentile bootstrap over clips, "
        f"{options['bootstrap']:,} resamples. Decoding is greedy."
    )
    return render_section(
        "How this was made", f"<p>{escape(text)}</p><pre>{escape(command)}</pre><p class='note'>{escape(versions)}</p>"
    )
