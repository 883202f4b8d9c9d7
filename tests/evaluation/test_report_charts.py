"""Charts as markup: where things are drawn, and that nothing breaks on the edges."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from evaluation.report.examples import choose_examples
from evaluation.report.figures import render_learning
from evaluation.report.page import format_estimate, format_number, render_facts
from evaluation.report.svg import Bar, Series, bar_chart, line_chart, path_chart, scatter_chart, tick_values


@pytest.mark.parametrize(
    "low, high, ticks",
    [(0, 10, [0, 2, 4, 6, 8, 10]), (-0.012, 0.011, [-0.01, -0.005, 0, 0.005, 0.01]), (3, 3, [3])],
)
def test_ticks_are_round_numbers_inside_the_range(low, high, ticks):
    assert tick_values(low, high) == pytest.approx(ticks)


def ends_of_line(svg: str, style: str) -> list[tuple[float, float]]:
    points = re.search(rf'class="line {style}"[^>]* points="([^"]*)"', svg).group(1).split()
    return [tuple(map(float, point.split(","))) for point in (points[0], points[-1])]


def test_a_left_turn_is_drawn_to_the_left_and_forward_is_up():
    left = Series("left", np.array([[0.0, 0.0], [10.0, 5.0]]), "model")
    right = Series("right", np.array([[0.0, 0.0], [10.0, -5.0]]), "truth")
    svg = path_chart([left, right], "paths")
    (x0, y0), (x1, y1) = ends_of_line(svg, "model")
    assert x1 < x0
    assert y1 < y0  # pixels count downwards
    assert ends_of_line(svg, "truth")[1][0] > x0
    assert (x0 - x1) / (y0 - y1) == pytest.approx(0.5, abs=0.01)  # a metre is as long up as across


def test_a_longer_bar_is_a_larger_value_and_whiskers_span_the_interval():
    svg = bar_chart([Bar("a", 1.0), Bar("b", 2.0, 1.5, 2.5)], "m", 1, "bars")
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert svg.count('class="whisker"') == 1


@pytest.mark.parametrize(
    "svg",
    [
        bar_chart([], "m", 1, "no bars"),
        bar_chart([Bar("zero", 0.0, 0.0, 0.0)], "m", 1, "a zero"),
        bar_chart([Bar("below", -1.0, -2.0, 0.5)], "m", 1, "below zero"),
        line_chart([Series("one point", np.array([[1.0, 1.0]]))], "x", "y", "a point"),
        line_chart(
            [Series("flat", np.array([[0.0, 0.0], [1.0, 0.0]]))], "x", "y", "flat", from_zero=True, min_span=2.0
        ),
        scatter_chart(Series("one", np.array([[3.0, 3.0]])), "speed", "m/s", "a dot"),
        path_chart([Series("standing", np.zeros((3, 2)))], "standing still"),
        bar_chart([Bar("<b>&", 1.0)], "m", 1, '"quoted" <caption>'),
    ],
)
def test_every_chart_is_well_formed_and_finite(svg):
    ElementTree.fromstring(svg)
    assert "nan" not in svg.lower()
    assert "inf" not in svg.lower()


def test_numbers_are_short_and_missing_ones_a_dash():
    assert format_number(-1234.567, 1) == "\u22121,234.6"
    assert format_number(-0.001, 2) == "0.00"
    assert format_number(None, 2) == "\u2013"
    assert format_estimate({"value": 0.5, "low": None, "high": None}, 2) == "0.50"
    assert "[25.0, 75.0]" in format_estimate({"value": 0.5, "low": 0.25, "high": 0.75}, 1, 100)


def test_facts_are_escaped():
    assert "<td>&lt;script&gt;</td>" in render_facts({"name": "<script>"})


def test_the_best_middle_and_worst_clips_are_chosen_by_their_mean():
    ade = np.array([1.0, 3.0, 0.1, 9.0, 8.0, 7.0])
    groups = np.array(["a", "a", "b", "c", "c", "c"], dtype=object)
    assert choose_examples(ade, groups) == [("Best clip", 2), ("Middle clip", 0), ("Worst clip", 4)]


def test_one_clip_is_shown_once():
    assert choose_examples(np.array([1.0]), np.array(["a"], dtype=object)) == [("Best clip", 0)]


def test_the_learning_curve_leaves_out_what_is_no_number():
    log = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 1.0}, {"train_runtime": 5}]
    page = render_learning(log)
    assert "last training loss 1.000" in page
    assert "nan" not in page.lower()
    assert "holds no training log" in render_learning([])
