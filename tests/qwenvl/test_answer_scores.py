"""Generated answers as numbers, by hand arithmetic."""

from __future__ import annotations

import math

import pytest

from driving.answer_format import AnswerFormat
from qwenvl.train.answer_scores import Answered, score_answers

TWO_PAIRS = AnswerFormat(num_pairs=2, duration_s=1.0)


def motion(*texts: tuple[str, str]) -> list[Answered]:
    return [Answered(f"row{index}", true, said, TWO_PAIRS) for index, (true, said) in enumerate(texts)]


def test_a_strict_a_lenient_and_two_failed_answers_are_counted():
    true = "[(1.0, 0.0000), (1.0, 0.0000)]"
    scores = score_answers(
        motion((true, true), (true, f"Sure: {true}"), (true, "I cannot see"), (true, "[(1.0, 0.0)]"))
    )
    assert (scores.metrics["strict_rate"], scores.metrics["lenient_rate"]) == (0.25, 0.25)


def test_errors_are_means_over_the_answers_that_can_be_read():
    true = "[(10.0, 0.0000), (10.0, 0.0000)]"
    said = "[(12.0, 0.0000), (11.0, 0.0000)]"
    scores = score_answers(motion((true, said), (true, "no")))
    assert scores.metrics["speed_mae"] == pytest.approx(1.5)  # 2 and 1 m/s
    # half a second each: 1.0 m after the first interval, 1.0 + 0.5 after the second
    assert scores.metrics["ade"] == pytest.approx((1.0 + 1.5) / 2)
    assert scores.metrics["curvature_mae"] == 0.0


def test_the_path_of_a_wrong_curvature_bends_away():
    true = "[(10.0, 0.0000), (10.0, 0.0000)]"
    said = "[(10.0, 0.0100), (10.0, 0.0100)]"
    scores = score_answers(motion((true, said)))
    # a circle of 100 m radius: after 5 and 10 m of way the chord ends at (R sin a, R (1 - cos a))
    expected = [math.hypot(100 * math.sin(s / 100) - s, 100 * (1 - math.cos(s / 100))) for s in (5, 10)]
    assert scores.metrics["ade"] == pytest.approx(sum(expected) / 2)
    assert scores.metrics["curvature_mae"] == pytest.approx(0.01)


def test_a_standing_car_has_no_curvature_to_be_wrong_about():
    true = "[(0.0, 0.0000), (0.0, 0.0000)]"
    scores = score_answers(motion((true, "[(0.0, 0.0500), (0.0, 0.0500)]")))
    assert "curvature_mae" not in scores.metrics


def test_an_answer_that_no_vehicle_can_drive_is_none():
    true = "[(0.0, 0.0000), (0.0, 0.0000)]"
    scores = score_answers(motion((true, "[(999.0, 9.0000), (999.0, 9.0000)]"), (true, true)))
    assert scores.metrics["strict_rate"] == 0.5
    assert scores.metrics["speed_mae"] == 0.0


def test_a_label_is_taken_as_it_is():
    true = "[(0.2, 1.4000), (0.2, 1.4000)]"  # a sensor's noise at a crawl
    scores = score_answers(motion((true, "[(0.3, 0.0000), (0.3, 0.0000)]")))
    assert scores.metrics["speed_mae"] == pytest.approx(0.1)


LABELS = [f"[({speed}.0, 0.0000), ({speed}.0, 0.0000)]" for speed in (0, 10, 20, 30)]


def test_one_answer_for_every_clip_is_a_collapse_of_speed_and_not_of_a_curvature_that_has_one_label():
    scores = score_answers(motion(*((true, LABELS[1]) for true in LABELS)))
    assert scores.metrics["collapse"] == 1.0
    assert scores.metrics["speed_spread"] == 0.0
    assert "curvature_spread" not in scores.metrics
    (sentence,) = scores.collapses
    # the standard deviation of 0, 10, 20, 30 is the root of 125
    assert "the speed in the answers spreads over 0.00 m/s, in the labels over 11.18 m/s" in sentence


def test_answers_that_spread_a_tenth_as_far_as_the_labels_are_no_collapse():
    said = [f"[({speed}, 0.0000), ({speed}, 0.0000)]" for speed in ("14.0", "15.0", "16.0", "17.2")]
    scores = score_answers(motion(*zip(LABELS, said, strict=True)))
    assert scores.metrics["collapse"] == 0.0 and scores.collapses == []
    # squares of the distances from the means, 15.55 and 15: 5.63 and 500
    assert scores.metrics["speed_spread"] == pytest.approx(math.sqrt(5.63 / 500))


def test_three_answers_are_too_few_to_call_a_collapse():
    assert score_answers(motion(*((true, LABELS[1]) for true in LABELS[:3]))).collapses == []


def test_texts_match_where_they_are_the_same_but_for_outer_spaces():
    texts = [Answered("a", "yes", " yes\n"), Answered("b", "no", "No")]
    assert score_answers(texts).metrics == {"exact_match": 0.5, "collapse": 0.0}


def test_one_text_for_every_row_is_a_collapse_where_the_labels_differ():
    texts = [Answered(str(index), true, "yes") for index, true in enumerate(["yes", "no", "yes", "yes"])]
    scores = score_answers(texts)
    assert scores.metrics == {"exact_match": 0.75, "collapse": 1.0}
    assert "1 different text in 4 answers, 2 in the labels" in scores.collapses[0]


def test_the_same_text_for_rows_that_all_have_it_is_no_collapse():
    assert score_answers([Answered(str(index), "yes", "yes") for index in range(4)]).collapses == []


def test_a_label_that_is_not_in_the_format_is_not_compared_with():
    scores = score_answers(motion(("about 10 m/s", LABELS[0])))
    assert scores.metrics == {"strict_rate": 1.0, "lenient_rate": 0.0, "collapse": 0.0}


def test_nothing_answered_is_nothing_scored():
    assert score_answers([]).metrics == {}
