"""Charts as inline SVG: no script, no network; colours are the page's CSS variables, so light and dark both work.

Each function returns one <svg> element. Text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = SIZE = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 28, 40
NARROW = 350  # of charts that stand three in a row
LABEL_WIDTH, MAX_LABEL_WIDTH, CHARACTER_PX = 88, 190, 6.9
MAX_MARKED = 12  # a line of so few points shows each of them


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length, its interval where known, and the CSS class that colours it."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    style: str = "base"


@dataclass(frozen=True)
class Series:
    """Points (N, 2) drawn as a line or as dots, with the CSS class that colours them."""

    label: str
    points: np.ndarray
    style: str = "model"
    is_dashed: bool = False


@dataclass(frozen=True)
class Frame:
    """From data to pixels: linear on both axes, y upwards."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    size: tuple[int, int] = SIZE

    @property
    def right(self) -> int:
        """Where the plot ends."""
        return self.size[0] - RIGHT

    @property
    def bottom(self) -> int:
        """Where the plot ends."""
        return self.size[1] - BOTTOM

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.right - LEFT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - TOP)


def tick_values(low: float, high: float, num: int = 5) -> list[float]:
    """About `num` round values (1, 2 or 5 times a power of ten) inside [low, high]."""
    rough = (high - low) / max(num, 1)
    if rough <= 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def format_tick(value: float) -> str:
    """A short number: no trailing zeros, a true minus sign."""
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}".replace("-", "\u2212")


def bar_chart(bars: Sequence[Bar], unit: str, digits: int, caption: str, width: int = WIDTH) -> str:
    """Horizontal bars with whiskers for intervals; the value is written at the end of each."""
    row, label_width, value_width = 26, fit_labels(bars), 96 if unit else 48
    longest = max([0.0, *(bar.high if bar.high is not None else bar.value for bar in bars)])
    lowest = min([0.0, *(bar.low if bar.low is not None else bar.value for bar in bars)])
    span = (longest - lowest) or 1.0
    plot = width - label_width - value_width
    height = row * len(bars) + 8

    def place(value: float) -> float:
        return label_width + (value - lowest) / span * plot

    parts = [f'<line class="axis" x1="{place(0):.1f}" y1="2" x2="{place(0):.1f}" y2="{height - 4}"/>']
    for index, bar in enumerate(bars):
        middle = row * index + row / 2 + 2
        left, right = sorted((place(0), place(bar.value)))
        parts.append(draw_label(bar.label, label_width, middle))
        parts.append(
            f'<rect class="fill {bar.style}" x="{left:.1f}" y="{middle - 8:.1f}" '
            f'width="{max(right - left, 1):.1f}" height="16" rx="2"/>'
        )
        if bar.low is not None and bar.high is not None:
            parts.append(
                f'<path class="whisker" d="M{place(bar.low):.1f} {middle:.1f}H{place(bar.high):.1f}'
                f'M{place(bar.low):.1f} {middle - 4:.1f}v8M{place(bar.high):.1f} {middle - 4:.1f}v8"/>'
            )
        text = f"{bar.value:.{digits}f}".replace("-", "\u2212") + (f" {unit}" if unit else "")
        parts.append(f'<text class="value" x="{width}" y="{middle + 4:.1f}">{escape(text)}</text>')
    return wrap_svg("".join(parts), caption, (width, height))


def fit_labels(bars: Sequence[Bar]) -> float:
    """Pixels that the longest name needs, within reason."""
    longest = max((len(bar.label) for bar in bars), default=0)
    return min(max(LABEL_WIDTH, 12 + CHARACTER_PX * longest), MAX_LABEL_WIDTH)


def draw_label(label: str, width: float, middle: float) -> str:
    """A name that ends left of the plot; one that does not fit is cut."""
    most = int((MAX_LABEL_WIDTH - 12) / CHARACTER_PX)
    shown = label if len(label) <= most else label[: most - 1] + "\u2026"
    return f'<text class="label" x="{width - 8:.1f}" y="{middle + 4:.1f}">{escape(shown)}</text>'


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    caption: str,
    *,
    from_zero: bool = False,
    min_span: float = 0.0,
    size: tuple[int, int] = SIZE,
    is_marked: bool = False,
) -> str:
    """Lines over a grid, with a legend when there are several.

    Args:
        from_zero: y begins at zero, or lower where a value does.
        min_span: of y; keeps noise from filling the chart.
        is_marked: each point of a short line has a dot.
    """
    frame = _fit(series, from_zero=from_zero, min_span=min_span, size=size)
    lines = "".join(_polyline(entry, frame) + (_dots(entry, frame) if is_marked else "") for entry in series)
    return wrap_svg(_grid(frame, x_label, y_label) + lines + _legend(series), caption, size)


def scatter_chart(
    series: Series, label: str, unit: str, caption: str, sides: tuple[str, str] = ("true", "predicted")
) -> str:
    """Two values of one thing, both axes on one range, with the diagonal on which they are equal.

    Args:
        sides: what stands across and what upwards; predicted over true where nobody says otherwise.
    """
    low, high = float(series.points.min()), float(series.points.max())
    margin = 0.04 * ((high - low) or 1.0)
    frame = Frame((low - margin, high + margin), (low - margin, high + margin))
    dots = "".join(f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.4"/>' for x, y in series.points.tolist())
    ends = frame.x_range
    diagonal = (
        f'<line class="diagonal" x1="{frame.x(ends[0]):.1f}" y1="{frame.y(ends[0]):.1f}" '
        f'x2="{frame.x(ends[1]):.1f}" y2="{frame.y(ends[1]):.1f}"/>'
    )
    grid = _grid(frame, *(f"{side} {label} [{unit}]" for side in sides))
    return wrap_svg(f'{grid}{diagonal}<g class="dots {series.style}">{dots}</g>', caption)


def path_chart(series: Sequence[Series], caption: str, size: tuple[int, int] = SIZE) -> str:
    """Paths seen from above, one metre as long up as across: forward is up, left is left. Points are (x, y) [m]."""
    turned = [
        Series(s.label, np.stack([-s.points[:, 1], s.points[:, 0]], axis=1), s.style, s.is_dashed) for s in series
    ]
    points = np.concatenate([entry.points for entry in turned])
    low, high = points.min(axis=0), points.max(axis=0)
    wide, tall = size[0] - LEFT - RIGHT, size[1] - TOP - BOTTOM
    metres = 1.12 * max((high[0] - low[0]) / wide, (high[1] - low[1]) / tall, 0.5 / tall)
    middle = (low + high) / 2
    frame = Frame(
        (middle[0] - metres * wide / 2, middle[0] + metres * wide / 2),
        (middle[1] - metres * tall / 2, middle[1] + metres * tall / 2),
        size,
    )
    lines = "".join(_polyline(entry, frame) + _end_dot(entry, frame) for entry in turned)
    grid = _grid(frame, "left \u2190 metres \u2192 right", "forward [m]")
    return wrap_svg(grid + lines + _legend(turned), caption, size)


def _fit(series: Sequence[Series], *, from_zero: bool, min_span: float, size: tuple[int, int]) -> Frame:
    points = np.concatenate([entry.points for entry in series])
    (x_low, y_low), (x_high, y_high) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if from_zero:
        y_low, y_high = min(y_low, 0.0), max(y_high, 0.0)
    if y_high - y_low < min_span:
        middle = (y_low + y_high) / 2
        y_low, y_high = (0.0, min_span) if from_zero and y_low >= 0 else (middle - min_span / 2, middle + min_span / 2)
    margin = 0.06 * ((y_high - y_low) or max(abs(y_high), 1e-3))
    y_low = y_low if from_zero and y_low == 0 else y_low - margin
    return Frame((x_low, x_high if x_high > x_low else x_low + 1), (y_low, y_high + margin), size)


def _grid(frame: Frame, x_label: str, y_label: str) -> str:
    right, bottom = frame.right, frame.bottom
    parts = []
    for value in tick_values(*frame.x_range, max(2, round((right - LEFT) / 60))):
        x = frame.x(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="tick middle" x="{x:.1f}" y="{bottom + 15}">{format_tick(value)}</text>')
    for value in tick_values(*frame.y_range, max(3, round((bottom - TOP) / 45))):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{format_tick(value)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text class="tick middle" x="{(LEFT + right) / 2}" y="{bottom + 34}">{escape(x_label)}</text>')
    parts.append(
        f'<text class="tick middle" transform="translate(11 {middle}) rotate(-90)" x="0" y="0">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _polyline(series: Series, frame: Frame) -> str:
    places = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in series.points.tolist())
    dashed = ' stroke-dasharray="5 4"' if series.is_dashed else ""
    return f'<polyline class="line {series.style}"{dashed} points="{places}"/>'


def _dots(series: Series, frame: Frame) -> str:
    """Each point of a short line; a line of one point cannot be seen without."""
    if len(series.points) > MAX_MARKED:
        return ""
    places = ((frame.x(x), frame.y(y)) for x, y in series.points.tolist())
    return "".join(f'<circle class="fill {series.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)


def _end_dot(series: Series, frame: Frame) -> str:
    x, y = series.points[-1].tolist()
    return f'<circle class="fill {series.style}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3.5"/>'


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    parts, x = [], LEFT
    for entry in series:
        dashed = ' stroke-dasharray="5 4"' if entry.is_dashed else ""
        parts.append(f'<line class="line {entry.style}"{dashed} x1="{x}" y1="12" x2="{x + 18}" y2="12"/>')
        parts.append(f'<text class="legend" x="{x + 23}" y="16">{escape(entry.label)}</text>')
        x += 36 + 7 * len(entry.label)
    return "".join(parts)


def wrap_svg(body: str, caption: str, size: tuple[float, float] = SIZE) -> str:
    """One <svg> element around ready markup; `caption` is plain text, for those who cannot see it."""
    return f'<svg viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" aria-label="{escape(caption)}">{body}</svg>'
