"""The card that puts the model beside what costs nothing: errors, skill, wins, and what could have been told at all."""

from __future__ import annotations

from html import escape

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY
from evaluation.report.names import NAMES, SHORT, SHOWN, Metrics, bar_of
from evaluation.report.page import format_estimate, format_number, render_figure, render_section, render_table
from evaluation.report.svg import bar_chart
from evaluation.scoring.baselines import FLOORS
from evaluation.scoring.score import METRICS

SKILLS = ("velocity_mae_mps", "curvature_mae_per_m", "ade_m")
_SEEN = {
    VIDEO_ONLY: "This model saw video only; baselines that know the past second's true speed are a reference from "
    "above.",
    EGO_HISTORY: "This model was told how the car moved in the past second, as the baselines of history are: those are "
    "what it must beat.",
}


def render_baselines(metrics: Metrics) -> str:
    """Bars of every contender, and the table of skill against each."""
    contenders = {"model": metrics["model"], **metrics["baselines"]}
    styles = {"model": "model", metrics["reference"]: "mean", "label_floor": "truth"}
    figures = []
    for name, digits in SHOWN.items():
        bars = [bar_of(NAMES[who], entry[name], styles.get(who, "base")) for who, entry in contenders.items()]
        chart = bar_chart([bar for bar in bars if bar is not None], METRICS[name].unit, digits, METRICS[name].label)
        figures.append(render_figure(f"{METRICS[name].label} [{METRICS[name].unit}]", chart))
    meanings = "".join(
        f"<li><b>{escape(NAMES[who])}</b>: {escape(entry['description'])}</li>"
        for who, entry in metrics["baselines"].items()
    )
    return render_section(
        "Beside what costs nothing",
        f'<div class="charts">{"".join(figures)}</div>{_render_skill(metrics)}'
        '<p class="note">Skill is 1 \u2212 error / error of the baseline: 0 is no better, 1 perfect, paired by clip. '
        "Could show: so small a true skill in ADE these clips would have shown in four of five tries. Wins: rows "
        f"whose path is nearer than the baseline's. {_SEEN[metrics['track']]} {_name_best(metrics)}</p>"
        f'<ul class="names note">{meanings}</ul>',
    )


def _name_best(metrics: Metrics) -> str:
    """Which guess is hardest to beat: of those that know no more than the model was told, and of all."""
    best = metrics["best_baseline"]["ade_m"]
    said = [
        f"{words}: {escape(NAMES[best[key]])}"
        for key, words in (("fair", "of those that know no more than it was told"), ("any", "of all"))
        if best[key] is not None
    ]
    return f"Lowest in ADE, {'; '.join(said)}." if said else ""


def _render_skill(metrics: Metrics) -> str:
    rows = []
    for who, entry in metrics["baselines"].items():
        if who in FLOORS:
            continue
        skill, wins = metrics["skill"][who], metrics["win_rate"][who]["ade_m"]
        reach = skill["ade_m"]["min_detectable"]
        gains = [format_estimate(skill[name], 2) for name in SKILLS]
        rows.append(
            [escape(NAMES[who]), escape(entry["knows"]), *gains, format_number(reach, 2), format_estimate(wins, 0, 100)]
        )
    head = ["skill against", "it knows", *(SHORT[name] for name in SKILLS), "could show", "wins [%]"]
    return render_table(head, rows)
