"""Texts to motions: what is read, what falls back, and what the text channel says."""

from __future__ import annotations

import numpy as np
import pytest

from driving.answer_format import AnswerFormat
from evaluation.scoring.answers import channel_columns, read_answers

FORMAT = AnswerFormat(num_pairs=2, fps=4.0)
FALLBACK = (np.array([[7.0] * 4]), np.array([[0.5] * 4]))


def read(text):
    return read_answers([text], [False], [9], FORMAT, FALLBACK)


def test_fewer_pairs_than_labels_are_held_for_their_interval():
    assert read("[(1.0, 0.1000), (2.0, -0.2000)]").velocity_mps.tolist() == [[1.0, 1.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    "text",
    ["", "no", "[(1.0, 0.1)]", "[(1.0, 0.1), (1.0, 0.1), (1.0, 0.1)]", "[(nan, 0.1), (1.0, 0.1)]",
     "[(1,0, 0.1), (1.0, 0.1)]", "[(1e999, 0.1), (1.0, 0.1)]", "[(1e300, 0.1), (1.0, 0.1)]", "[(1.0, 0.1), (1.0, 0."],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_takes_the_fallback_and_says_why(text):
    answers = read(text)
    assert answers.velocity_mps.tolist() == [[7.0] * 4]
    assert answers.parsed[0].parsing == "failed"
    assert answers.parsed[0].error != ""
    assert channel_columns(answers)["failed_rate"].tolist() == [1.0]


@pytest.mark.parametrize(
    "text, kind",
    [("[(1.0, 0.1000), (2.0, 0.1000)]", "strict_rate"), ("Sure: [(1.0,0.1), (2.0, \u22120.1)]", "lenient_rate")],
)
def test_strict_and_lenient_answers_are_counted_apart(text, kind):
    rates = channel_columns(read(text))
    assert {name: rates[name][0] for name in ("strict_rate", "lenient_rate", "failed_rate") if rates[name][0]} == {
        kind: 1.0
    }


def test_a_number_that_cars_do_not_drive_is_scored_as_it_is_and_called_out_of_range():
    answers = read("[(90.0, 0.01), (2.0, 0.1)]")
    assert answers.velocity_mps[0, 0] == 90.0
    assert channel_columns(answers)["out_of_range_rate"].tolist() == [1.0]


def test_equal_pairs_are_degenerate_unless_the_car_stands():
    assert channel_columns(read("[(3.0, 0.0100), (3.0, 0.0100)]"))["degenerate_rate"].tolist() == [1.0]
    assert channel_columns(read("[(0.0, 0.0000), (0.0, 0.0000)]"))["degenerate_rate"].tolist() == [0.0]
    assert np.isnan(channel_columns(read("none"))["degenerate_rate"][0])
