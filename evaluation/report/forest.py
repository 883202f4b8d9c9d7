"""Differences with their intervals on one axis, zero marked: what lies wholly on one side is shown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from evaluation.report.page import format_number
from evaluation.report.svg import WIDTH, Bar, draw_label, fit_labels, format_tick, tick_values, wrap_svg

ROW, VALUE_WIDTH, FOOT = 26, 96, 34


def forest_chart(bars: Sequence[Bar], unit: str, digits: int, caption: str, foot: str = "") -> str:
    """A dot and its interval a row; `foot` names the axis. Bars without an interval are dots alone."""
    ends = [0.0, *(end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    low, high = low - 0.05 * span, high + 0.05 * span
    labels, bottom = fit_labels(bars), ROW * len(bars) + 6
    plot = WIDTH - labels - VALUE_WIDTH

    def place(value: float) -> float:
        return labels + (value - low) / (high - low) * plot

    parts = []
    for tick in tick_values(low, high, 4):
        parts.append(f'<line class="grid" x1="{place(tick):.1f}" y1="2" x2="{place(tick):.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="tick middle" x="{place(tick):.1f}" y="{bottom + 14}">{format_tick(tick)}</text>')
    parts.append(f'<line class="axis" x1="{place(0):.1f}" y1="2" x2="{place(0):.1f}" y2="{bottom}"/>')
    for index, bar in enumerate(bars):
        middle = ROW * index + ROW / 2 + 2
        parts.append(draw_label(bar.label, labels, middle) + _draw_row(bar, place, middle, unit, digits))
    middle = labels + plot / 2
    parts.append(f'<text class="tick middle" x="{middle:.1f}" y="{bottom + 29}">{escape(foot)}</text>')
    return wrap_svg("".join(parts), caption, (WIDTH, bottom + FOOT))


def _draw_row(bar: Bar, place, middle: float, unit: str, digits: int) -> str:
    parts = []
    if bar.low is not None and bar.high is not None:
        parts.append(
            f'<path class="line {bar.style}" d="M{place(bar.low):.1f} {middle:.1f}H{place(bar.high):.1f}'
            f'M{place(bar.low):.1f} {middle - 4:.1f}v8M{place(bar.high):.1f} {middle - 4:.1f}v8"/>'
        )
    parts.append(f'<circle class="fill {bar.style}" cx="{place(bar.value):.1f}" cy="{middle:.1f}" r="4.5"/>')
    sign = "+" if bar.value > 0 else ""
    text = f"{sign}{format_number(bar.value, digits)}{' ' + unit if unit else ''}"
    parts.append(f'<text class="value" x="{WIDTH}" y="{middle + 4:.1f}">{escape(text)}</text>')
    return "".join(parts)
