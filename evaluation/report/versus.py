"""comparison.html: two runs on the same rows, the differences first, then what else differs between them."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from evaluation.comparing.comparison import COMPARED, HEADLINES, NUM_CHANGED
from evaluation.report.forest import forest_chart
from evaluation.report.names import SHORT
from evaluation.report.page import (
    format_estimate,
    format_number,
    render_figure,
    render_page,
    render_section,
    render_table,
)
from evaluation.report.strata import TITLES
from evaluation.report.svg import Bar, Series, bar_chart, scatter_chart

VERDICTS = {
    "a": '<span class="fails">A is better</span>',
    "b": '<span class="holds">B is better</span>',
    None: '<span class="open">not shown</span>',
}
STYLES = {"a": "bad", "b": "truth", None: "base"}
SIDES = "\u2190 B is better \u00b7 {} \u00b7 A is better \u2192"
NO_OPTION = ("output_dir", "device", "batch_size")


def render_comparison(result: dict[str, Any], metrics_a: dict[str, Any], metrics_b: dict[str, Any]) -> str:
    """The whole page. Everything that came from outside is escaped."""
    parts = [
        _render_header(result),
        _render_headlines(result),
        _render_strata(result),
        _render_clips(result),
        _render_claims(metrics_a, metrics_b),
        _render_metrics(result),
        _render_settings(metrics_a, metrics_b),
    ]
    return render_page(f"{result['a']['model']} beside {result['b']['model']}", "\n".join(parts))


def _render_header(result: dict[str, Any]) -> str:
    rows = result["rows"]
    runs = "".join(
        f"<p><b>{which.upper()}</b> <code>{escape(result[which]['model'])}</code> "
        f'<span class="sub">in {escape(result[which]["folder"])}</span></p>'
        for which in ("a", "b")
    )
    runs += "".join(
        f'<p class="stamp{" leak" if stamp.startswith("LEAKAGE") else ""}">{whose}: {escape(stamp)}</p>'
        for stamp, whose in _gather_stamps(result).items()
    )
    left_out = rows["num_only_a"] + rows["num_only_b"]
    note = f"; {left_out:,} rows that only one of them answered are left out" if left_out else ""
    return (
        f"<h1>B beside A, on the same rows</h1>{runs}"
        f'<p class="sub">{rows["num_shared"]:,} rows of {rows["num_clips"]:,} clips that both answered, '
        f"{result['horizon_s']:g} s ahead, {escape(result['track'])}{note}; in brackets 95 % intervals that draw whole "
        "clips, the same ones for both</p>"
    )


def _gather_stamps(result: dict[str, Any]) -> dict[str, str]:
    """Each stamp once, with whose it is."""
    whose: dict[str, str] = {}
    for which in ("a", "b"):
        for stamp in result[which]["stamps"]:
            whose[stamp] = "A and B" if stamp in whose else which.upper()
    return whose


def _render_headlines(result: dict[str, Any]) -> str:
    bars = []
    for name in HEADLINES:
        entry = result["metrics"][name]
        change = entry["change_percent"]
        if change["value"] is not None:
            bars.append(Bar(SHORT[name], change["value"], change["low"], change["high"], STYLES[entry["better"]]))
    chart = forest_chart(bars, "%", 1, "errors of B over those of A", SIDES.format("%"))
    nearer = result["nearer"]
    bars = [
        Bar(label, 100 * nearer[key]["value"], _times(nearer[key]["low"]), _times(nearer[key]["high"]), style)
        for key, label, style in (("b", "B", "truth"), ("a", "A", "bad"), ("level", "level", "base"))
    ]
    wins = bar_chart(bars, "%", 1, "who is nearer to the recorded path")
    figures = render_figure("Error of B over error of A, less one", chart)
    figures += render_figure("Whose path is nearer to the recorded one", wins, "share of the rows")
    sentences = "".join(f"<p>{_explain(name, result['metrics'][name])}</p>" for name in HEADLINES)
    return render_section(
        "What is shown",
        f'<div class="charts">{figures}</div>{sentences}',
        "An interval that holds zero shows nothing: neither that one is better nor that they are equal.",
    )


def _times(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _explain(name: str, entry: dict[str, Any]) -> str:
    """One plain sentence (markup) about one metric."""
    metric, difference, digits = COMPARED[name], entry["difference"], _digits(name)
    label = escape(metric.label)
    if difference["value"] is None:
        return f"<b>{label}</b>: no row to judge."
    a, b = (format_number(entry[key]["value"], digits) for key in ("a", "b"))
    values = f"A {a}, B {b} {metric.unit}"
    if difference["low"] is None:
        return f"<b>{label}</b>: {values}. One clip gives no interval, so nothing is shown."
    verdict = VERDICTS[entry["better"]] if entry["better"] else '<span class="open">no difference is shown</span>'
    reach = ""
    if entry["better"] is None and entry["min_detectable"] is not None:
        reach = (
            f" With {difference['num_clips']:,} clips a true difference of "
            f"{format_number(entry['min_detectable'], digits)} {metric.unit} would be found four times in five; a "
            "smaller one may well be missed."
        )
    return f"<b>{label}</b>: {values}; B \u2212 A is {format_estimate(difference, digits)}: {verdict}.{reach}"


def _digits(name: str) -> int:
    return 4 if "per_m" in name or "rad" in name else 3


def _render_metrics(result: dict[str, Any]) -> str:
    rows = []
    for name, entry in result["metrics"].items():
        metric = COMPARED[name]
        scale, digits = (100, 1) if metric.is_share else (1, _digits(name))
        cells = [format_estimate(entry[key], digits, scale) for key in ("a", "b", "difference")]
        reach = entry["min_detectable"]
        cells.append(format_number(None if reach is None else scale * reach, digits))
        rows.append([escape(metric.label), "%" if metric.is_share else metric.unit, *cells, VERDICTS[entry["better"]]])
    table = render_table(["metric", "unit", "A", "B", "B \u2212 A", "could show", "verdict"], rows)
    note = (
        "Could show: the true difference that such data would show four times in five. One metric in twenty is off "
        "zero by chance where nothing differs: a lone verdict far down this table is no finding."
    )
    return render_section("All numbers", table, note)


def _render_strata(result: dict[str, Any]) -> str:
    figures, tables = [], []
    for axis, bins in result["strata"].items():
        bars, rows = [], []
        for name, cell in bins.items():
            entry = cell["ade_m"]
            difference = entry["difference"]
            if difference["value"] is not None:
                style = STYLES[entry["better"]]
                bars.append(Bar(name, difference["value"], difference["low"], difference["high"], style))
            counts = [f"{cell['num_rows']:,}", f"{cell['num_clips']:,}"]
            numbers = [_in_bin(metric, cell[metric]) for metric in HEADLINES]
            rows.append([escape(name), *counts, *numbers])
        tables.append(
            render_table([TITLES.get(axis, axis), "rows", "clips", *(f"{SHORT[m]}: A, B" for m in HEADLINES)], rows)
        )
        if len(bars) < 2:
            continue
        chart = forest_chart(bars, "m", 2, f"ADE by {axis}", SIDES.format("ADE [m]"))
        figures.append(render_figure(TITLES.get(axis, f"By {axis}"), chart))
    shown = f"<details><summary>show the tables</summary>{''.join(tables)}</details>"
    body = f'<div class="charts">{"".join(figures)}</div>{shown}'
    return render_section("Where they differ", body, "B \u2212 A, each bin by itself.")


def _in_bin(name: str, entry: dict[str, Any]) -> str:
    digits = _digits(name)
    pair = f"{format_number(entry['a']['value'], digits)}, {format_number(entry['b']['value'], digits)}"
    return pair if entry["better"] is None else f"{pair} {entry['better'].upper()}"


def _render_clips(result: dict[str, Any]) -> str:
    clips = result["clips"]
    points = np.array([[clip["a"], clip["b"]] for clip in clips])
    chart = scatter_chart(Series("clips", points), "ADE", "m", "mean ADE of each clip in both runs", ("A", "B"))
    tables = []
    gained = [clip for clip in clips if clip["b"] < clip["a"]][:NUM_CHANGED]
    lost = [clip for clip in reversed(clips) if clip["b"] > clip["a"]][:NUM_CHANGED]
    for title, some in (("most improved in B", gained), ("most worsened in B", lost)):
        rows = [
            [f"<code>{escape(clip['group'])}</code>", f"{clip['num_rows']:,}", format_number(clip["a"], 2),
             format_number(clip["b"], 2), format_number(clip["b"] - clip["a"], 2)]
            for clip in some
        ]  # fmt: skip
        if rows:
            tables.append(render_table([title, "rows", "A", "B", "B \u2212 A"], rows))
    figures = render_figure("Mean ADE of each clip [m]", chart, "below the dashed line B is better")
    return render_section("Clip by clip", f'<div class="charts">{figures}<div>{"".join(tables)}</div></div>')


def _render_claims(metrics_a: dict[str, Any], metrics_b: dict[str, Any]) -> str:
    checks = [{check["name"]: check for check in run["grounding"]["checks"]} for run in (metrics_a, metrics_b)]
    rows = []
    for name in dict.fromkeys([*checks[0], *checks[1]]):
        found = [run.get(name) for run in checks]
        label = next(check["label"] for check in found if check is not None)
        rows.append([escape(label), *(_format_check(check) for check in found)])
    return render_section(
        "Do they look at the video?",
        render_table(["claim", "A", "B"], rows, is_text=True),
        "Each run's own claims, on all of its rows; see its report.",
    )


def _format_check(check: dict[str, Any] | None) -> str:
    if check is None or check["holds"] is None:
        return '<span class="open">not run</span>'
    word = '<span class="holds">holds</span>' if check["holds"] else '<span class="fails">does not hold</span>'
    digits = 0 if check["name"] == "enough_clips" else 2
    return f"{word} {format_number(check['value'], digits)}"


def _render_settings(metrics_a: dict[str, Any], metrics_b: dict[str, Any]) -> str:
    rows = [
        [f"<code>{escape(name)}</code>", *(f"<code>{escape(str(value))}</code>" for value in values)]
        for name, values in list_differences(_flatten(metrics_a), _flatten(metrics_b))
    ]
    body = render_table(["", "A", "B"], rows, is_text=True) if rows else "<p>Nothing but the folders.</p>"
    return render_section("What else differs between them", body, "Options, model and data, as each run says.")


def list_differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, tuple[Any, Any]]]:
    """(name, (A's, B's value)) where they differ; a dash where one has none."""
    names = dict.fromkeys([*a, *b])
    pairs = [(name, (a.get(name, "\u2013"), b.get(name, "\u2013"))) for name in names]
    return [(name, values) for name, values in pairs if values[0] != values[1]]


def _flatten(metrics: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                walk(part, f"{path}.{key}" if path else str(key))
        else:
            flat[path] = value

    walk({name: value for name, value in metrics["options"].items() if name not in NO_OPTION}, "options")
    walk(metrics["model_card"], "model")
    walk(metrics["data"]["dataset"], "dataset")
    walk(metrics["versions"], "versions")
    return flat
