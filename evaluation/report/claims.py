"""The card that asks whether the model sees: claims with their bars, controls, and what they mean in plain words."""

from __future__ import annotations

from html import escape
from typing import Any

from driving.answer_format import VIDEO_ONLY
from evaluation.report.names import SHORT, SHOWN, Metrics, bar_of
from evaluation.report.page import format_estimate, format_number, render_figure, render_section, render_table
from evaluation.report.svg import bar_chart
from evaluation.scoring.score import METRICS
from evaluation.scoring.tracks import SPOKEN

CONTROL_NAMES = {
    "frozen": "first frame frozen",
    "wrong_clip": "another clip's video",
    "mirror": "mirrored",
    "blank": "plain grey",
    "shuffled": "frames shuffled",
    "no_history": "without ego history",
    "wrong_history": "another clip's history",
}
_OVER = {"train_mean": "the training mean", "ctrv": "CTRV"}


def render_grounding(metrics: Metrics) -> str:
    ground = metrics["grounding"]
    rows = []
    for check in ground["checks"]:
        word, style = {True: ("holds", "holds"), False: ("does not hold", "fails"), None: ("not run", "open")}[
            check["holds"]
        ]
        bar = "over 0" if check["bar"] == 0 else f"at least {check['bar']:g}"
        estimate = format_estimate(_estimate_of(check, ground), 0 if check["name"] == "enough_clips" else 2)
        rows.append([escape(check["label"]), f'<span class="{style}">{word}</span>', estimate, bar])
    table = render_table(["claim", "verdict", "measured", "bar"], rows)
    sentences = "".join(f"<p>{escape(line)}</p>" for line in explain_controls(metrics))
    return render_section(
        "Does it look at the video?" if metrics["track"] == VIDEO_ONLY else "Does it look, or only listen?",
        f'{table}<div class="charts">{_draw_controls(metrics)}</div>{sentences}{_render_costs(metrics)}',
        "A model can guess well without looking. Each control takes one piece of evidence away and asks again.",
    )


def _estimate_of(check: dict[str, Any], ground: Metrics) -> dict[str, Any]:
    places = {
        "velocity_gain": ground["velocity_gain_percent"],
        "curvature_gain": ground["curvature_gain_percent"],
        "mirror": ground.get("mirror", {}).get("share_flipped"),
    }
    found = places.get(check["name"]) or ground.get(check["name"], {}).get("share_removed")
    return found or {"value": check["value"], "low": None}


def explain_controls(metrics: Metrics) -> list[str]:
    """One plain sentence a control: what was done, what happened, what it means."""
    ground, lines = metrics["grounding"], []
    meanings = {
        "frozen": (
            "With the first frame repeated",
            "it reads motion",
            "its speed does not come from motion in the video",
        ),
        "wrong_clip": (
            "With another clip's video",
            "it answers what it is shown",
            "it answers much the same whatever it is shown",
        ),
        "blank": ("With plain grey", "it needs the picture", "it hardly needs the picture"),
        "shuffled": ("With the frames in another order", "it uses their order", "it hardly uses their order"),
        "no_history": ("Without the ego history", "it answers what it was told", "it hardly uses what it was told"),
        "wrong_history": (
            "With another clip's ego history",
            "it answers what it was told",
            "it hardly uses what it was told",
        ),
    }
    for name, (done, seen, blind) in meanings.items():
        share = ground.get(name, {}).get("share_removed")
        if share is None:
            continue
        over = _OVER[ground[name].get("over", "train_mean")]
        if share["value"] is None:
            lines.append(f"{done}: there is no gain over {over} to take away.")
            continue
        meaning = seen if share["value"] >= 0.6 else blind if share["value"] < 0.3 else "it uses it in part"
        lines.append(
            f"{done}, {format_number(100 * share['value'], 0)} % of the speed gain over {over} is gone: {meaning}."
        )
    flipped = ground.get("mirror", {}).get("share_flipped")
    mirrored = "Mirrored" if metrics["track"] == VIDEO_ONLY else "Video and ego history mirrored"
    if flipped is not None and flipped["value"] is not None:
        lines.append(
            f"{mirrored}, {100 * flipped['value']:.0f} % of the {flipped['num_rows']:,} rows in a curve (over 0.005 "
            "1/m) change the side of the predicted curve."
        )
    elif flipped is not None:
        lines.append(f"{mirrored}: no row drives through a curve of more than 0.005 1/m, so nothing can be said.")
    return lines


def _render_costs(metrics: Metrics) -> str:
    """What each control costs on the same rows, with the smallest cost that so many clips could have shown; folded."""
    rows = []
    for control, entry in metrics["controls"].items():
        for name, digits in SHOWN.items():
            cost = entry["worse_by"][name]
            reach = format_number(cost["min_detectable"], digits)
            rows.append(
                [escape(CONTROL_NAMES[control]), SHORT[name], METRICS[name].unit, format_estimate(entry[name], digits)]
                + [format_estimate(cost, digits), reach, format_estimate(entry["failed_rate"], 1, 100)]
            )
    if not rows:
        return ""
    head = ["under the control", "", "", "error", "worse by", "could show", "not readable [%]"]
    return f"<details><summary>show what each control costs</summary>{render_table(head, rows)}</details>"


def _draw_controls(metrics: Metrics) -> str:
    figures, note = [], _count_rows(metrics)
    for name, title, unit, digits in (
        ("velocity_mae_mps", "Speed error", "m/s", 2),
        ("curvature_mae_per_m", "Curvature error", "1/m", 4),
    ):
        bars = [bar_of("video as it is", metrics["model"][name], "model")]
        bars += [bar_of(CONTROL_NAMES[key], entry[name], "base") for key, entry in metrics["controls"].items()]
        bars.append(bar_of(SPOKEN[metrics["reference"]], metrics["baselines"][metrics["reference"]][name], "mean"))
        bars = [bar for bar in bars if bar is not None]
        if len(bars) > 1:
            chart = bar_chart(bars, unit, digits, f"{title} under each control")
            figures.append(render_figure(f"{title} [{unit}]", chart, note))
    return "".join(figures)


def _count_rows(metrics: Metrics) -> str:
    """What to say where the controls were shown for some of the rows only: bars of other rows stand beside theirs."""
    fewest = min((entry["num_rows"] for entry in metrics["controls"].values()), default=metrics["rows"]["num_scored"])
    if fewest == metrics["rows"]["num_scored"]:
        return ""
    return f"controls: {fewest:,} of {metrics['rows']['num_scored']:,} rows; the others: all of them"
