"""What the report's cards say: which clips and texts are shown, how, and what stands where something is missing."""

from __future__ import annotations

import numpy as np
import pytest

from driving.camera import build_pinhole
from evaluation.report.clips import render_clips
from evaluation.report.decoding import render_constrained, render_samples, render_speed
from evaluation.report.examples import choose_examples, draw_second_ahead, rank_clips, read_camera
from evaluation.report.failures import choose_failures, name_reason
from evaluation.report.figures import render_learning
from evaluation.report.motion import render_feasibility, render_horizons
from evaluation.report.page import render_page, show_text


@pytest.mark.parametrize(
    "text, shown",
    [
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a\u202eb\x00", "a\\u202eb\\u0000"),  # text that runs backwards, and a sign that ends strings elsewhere
        ("\U000e0041", "\\U000e0041"),
        ("a\n\t\u2212", "a\n\t\u2212"),
        ("123456", "12345 \u2026 (6 characters in all)"),
    ],
)
def test_a_text_from_outside_is_escaped_cut_and_visible(text, shown):
    assert show_text(text, 5) == shown


def test_half_a_surrogate_pair_does_not_stop_the_report():
    assert "\\ud800" in render_page("\ud800", "")


def test_clips_are_ranked_by_their_mean():
    names, means, codes = rank_clips(np.array([3.0, 1.0, 5.0, 0.0]), np.array(["x", "y", "x", "z"], dtype=object))
    assert names.tolist() == ["z", "y", "x"]
    assert means.tolist() == [0, 1, 4]
    assert codes.tolist() == [2, 1, 2, 0]


def test_three_clips_at_either_end_and_the_middle_one_are_shown():
    ade = np.arange(11.0)
    groups = np.array([f"clip{k:02d}" for k in range(11)], dtype=object)
    assert choose_examples(ade, groups) == [
        ("Best clip", 0), ("2nd best clip", 1), ("3rd best clip", 2), ("Middle clip", 5),
        ("Worst clip", 10), ("2nd worst clip", 9), ("3rd worst clip", 8),
    ]  # fmt: skip


def test_with_few_clips_each_is_shown_once():
    chosen = choose_examples(np.array([1.0, 2.0, 3.0, 4.0]), np.array(list("abcd"), dtype=object))
    assert chosen == [("Best clip", 0), ("Middle clip", 1), ("Worst clip", 3), ("2nd worst clip", 2)]


STRAIGHT = np.stack([np.linspace(0, 20, 11), np.zeros(11), np.zeros(11)], axis=1)
LOOKING_AHEAD = build_pinhole((50, 100), (50.0, 50.0), (50.0, 25.0), (0.0, 0.0, 1.5))


def test_a_path_is_drawn_on_the_road_where_the_camera_is_known():
    drawn = draw_second_ahead(np.full((50, 100, 3), 100, np.uint8), LOOKING_AHEAD, {"predicted": STRAIGHT})
    rows, columns = np.argwhere((drawn != 100).any(axis=-1)).T
    assert drawn.shape == (280, 560, 3)
    # a point 20 m ahead on the road, seen from 1.5 m above it: row 25 + 50 * 1.5 / 20 of 50, 5.6 times as large
    assert rows.min() == pytest.approx(161, abs=5)
    assert columns.mean() == pytest.approx(280, abs=3)


def test_a_path_is_drawn_from_above_where_the_camera_is_not_known():
    grey = np.full((64, 128, 3), 100, np.uint8)
    drawn = draw_second_ahead(grey, None, {"recorded": STRAIGHT})
    changed = np.argwhere((drawn != 100).any(axis=-1))
    assert len(changed)
    assert changed[:, 0].min() > drawn.shape[0] / 3  # the corner below, not the road
    assert changed[:, 1].min() > drawn.shape[1] / 2


def test_a_row_that_does_not_say_has_no_camera():
    assert read_camera(None) is None
    assert read_camera("") is None


def test_the_table_of_clips_begins_with_the_worst():
    errors = {name: np.array([1.0, 3.0, 2.0]) for name in ("ade_m", "velocity_mae_mps", "fde_m")}
    errors["curvature_mae_per_m"] = np.array([np.nan, 0.01, 0.02])
    page = render_clips(np.array(["a", "b<", "c"], dtype=object), errors, np.array([True, False, True]))
    assert page.index("b&lt;") < page.index(">c<") < page.index(">a<")
    assert "all 3 clips" in page
    assert ">\u2013</td>" in page  # a car that stood has no curvature to judge


def test_of_very_many_clips_the_worst_are_listed():
    num = 2001
    errors = dict.fromkeys(("ade_m", "velocity_mae_mps", "fde_m", "curvature_mae_per_m"), np.arange(num, dtype=float))
    page = render_clips(np.array([f"c{k:04d}" for k in range(num)], dtype=object), errors, np.ones(num, bool))
    assert "the worst 2,000 of 2,001 clips" in page
    assert "c2000" in page
    assert "c0000" not in page


def test_the_reason_of_a_failure_is_named_without_the_answer():
    error = "the answer holds 1 (velocity, curvature) pairs, the prompt asked for 2: '[(nan, 0.0), (1.0, 0.0)]'"
    assert name_reason(error) == "the answer holds 1 (velocity, curvature) pairs, the prompt asked for 2"


def test_one_failure_of_each_reason_is_shown_before_a_second_of_any():
    reasons = {3: "a", 5: "a", 7: "a", 8: "b", 9: "a", 11: "c"}
    assert choose_failures(reasons, 4) == [3, 5, 8, 11]


def test_the_learning_curve_shows_validation_and_what_was_answered():
    log = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 1.0, "eval_loss": 1.5},
        {"step": 2, "eval_ade": 0.75, "eval_strict_rate": 1.0},
    ]
    page = render_learning(log)
    assert "last training loss 1.000, last validation loss 1.500" in page
    assert "ADE on validation answers" in page
    assert ">last 0.75<" in page


@pytest.mark.parametrize(
    "render", [render_constrained, render_samples, render_speed, render_horizons, render_feasibility]
)
def test_a_card_of_what_was_not_measured_is_left_out(render):
    assert render({}) == ""
