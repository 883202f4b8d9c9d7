"""Answers: what is written, what is read back and how strictly, and what is refused."""

from __future__ import annotations

import contextlib
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.answer_format import MAX_ANSWER_CHARS, NOTATIONS, AnswerFormat, format_answer, parse_answer
from driving.errors import AnswerError, DrivingError
from driving.trajectory import Trajectory


def drive(*pairs: tuple[float, float]) -> Trajectory:
    return Trajectory.from_pairs(np.array(pairs))


def answer_of(num_pairs: int, name: str = "signed") -> AnswerFormat:
    return AnswerFormat(name, num_pairs)


# writing


def test_speed_has_one_decimal_and_curvature_four_with_its_sign():
    assert format_answer(drive((12.34, -0.00424), (0.0, 0.1)), answer_of(2)) == "[(12.3, -0.0042), (0.0, 0.1000)]"


def test_signed2_has_two_decimals_of_speed():
    assert format_answer(drive((12.344, 0.00426)), answer_of(1, "signed2")) == "[(12.34, 0.0043)]"


def test_the_seeds_notation_pads_the_speed_and_loses_every_sign():
    assert format_answer(drive((8.24, -0.0123), (-8.24, 0.0123)), answer_of(2, "seed")) == (
        "[(08.2, 0.012), (08.2, 0.012)]"
    )


def test_a_curvature_that_rounds_to_zero_carries_no_sign():
    assert format_answer(drive((1.0, -0.00004)), answer_of(1)) == "[(1.0, 0.0000)]"


def test_a_speed_that_rounds_to_zero_carries_no_sign():
    assert format_answer(drive((-0.04, 0.0)), answer_of(1)) == "[(0.0, 0.0000)]"


def test_reversing_keeps_its_sign():
    assert format_answer(drive((-1.26, 0.05)), answer_of(1)) == "[(-1.3, 0.0500)]"


def test_fewer_pairs_average_speed_and_weight_curvature_by_the_way():
    # 1 m/s at 0.1 and 3 m/s at 0.02: mean speed 2; (1 * 0.1 + 3 * 0.02) / 4 = 0.04
    assert format_answer(drive((1.0, 0.1), (3.0, 0.02)), answer_of(1)) == "[(2.0, 0.0400)]"


def test_samples_that_do_not_divide_into_the_pairs_are_refused():
    with pytest.raises(AnswerError, match="3 samples cannot be averaged into 2 .* choose an --answer-hz"):
        format_answer(drive((1, 0), (1, 0), (1, 0)), answer_of(2))


@pytest.mark.parametrize("pair", [(np.nan, 0.0), (1.0, np.inf)])
def test_a_value_that_is_not_finite_is_never_written(pair):
    with pytest.raises(AnswerError, match="not finite cannot be written"):
        format_answer(drive(pair), answer_of(1))


# reading


def test_an_exact_answer_is_strict():
    answer = parse_answer("[(12.3, -0.0042), (0.0, 0.1000)]", answer_of(2))
    assert answer.parsing == "strict"
    assert answer.trajectory.to_pairs().tolist() == [[12.3, -0.0042], [0.0, 0.1]]


@pytest.mark.parametrize(
    "text",
    [
        "[(12.3, -0.0042)]\n",
        "Sure! [(12.3, -0.0042)] is my answer.",
        "```json\n[(12.3,-0.0042)]\n```",
        "[(12.3, \u22120.0042)]",
        "( 12.3 , -0.0042 )",
        "[(12.30, -0.0042)]",
        "[(+12.3, -42e-4)]",
        "[(12.3, -0.0042),]",
        "In (1.0, 2.0) style: [(12.3, -0.0042)]",
    ],
)
def test_an_answer_with_the_right_pairs_and_something_else_is_lenient(text):
    answer = parse_answer(text, answer_of(1))
    assert answer.parsing == "lenient"
    assert answer.trajectory.to_pairs().tolist() == [[12.3, -0.0042]]


@pytest.mark.parametrize("answer, held", [("I cannot see the road.", 0), ("[(1.0, 0.0000)]", 1), ("", 0)])
def test_a_short_answer_says_how_many_pairs_it_held(answer, held):
    with pytest.raises(AnswerError, match=f"holds {held} .* asked for 30"):
        parse_answer(answer, answer_of(30))


def test_a_long_answer_is_not_cut():
    with pytest.raises(AnswerError, match="holds 3 .* asked for 2"):
        parse_answer("[(1.0, 0.0000), (1.0, 0.0000), (1.0, 0.0000)]", answer_of(2))


def test_an_answer_cut_in_the_middle_of_a_pair_fails():
    with pytest.raises(AnswerError, match="holds 1 .* asked for 2"):
        parse_answer("[(1.0, 0.0000), (1.0, 0.0", answer_of(2))


def test_a_bracket_beyond_the_pairs_that_is_no_pair_fails():
    with pytest.raises(AnswerError, match="holds 1 brackets that are no pair"):
        parse_answer("(1.0, 0.0000), (2.0, 0.00", answer_of(1))


def test_a_number_too_large_for_a_float_fails():
    with pytest.raises(AnswerError, match="value that is not finite"):
        parse_answer("[(1e999, 0.0000)]", answer_of(1))


@pytest.mark.parametrize("text", ["[(nan, 0.0)]", "[(inf, 0.0)]", "[(1.0; 0.0)]", "[[1.0, 0.0]]"])
def test_what_is_no_pair_of_numbers_is_no_pair(text):
    with pytest.raises(AnswerError, match="holds 0"):
        parse_answer(text, answer_of(1))


def test_an_endless_answer_is_refused_before_it_is_searched():
    with pytest.raises(AnswerError, match="200,000 characters long, at most 100,000"):
        parse_answer("(" * 2 * MAX_ANSWER_CHARS, answer_of(1))


@pytest.mark.parametrize(
    "text",
    [
        "(1" * 30_000,
        "[(" + "1" * 60_000,
        "[" + "(1.0, 0.0)," * 9_000,
        "e" * 90_000,
        "[" + " ".join(["(12.3, 0.0010)"] * 2_000),  # never closed, and no commas between the pairs
        "[" + "(1,1) " * 16_000,
        "[ " * 40_000,
    ],
)
def test_a_hostile_answer_fails_within_a_second(text):
    start = time.process_time()  # not of the clock: other work shares the cores
    with pytest.raises(AnswerError):
        parse_answer(text, answer_of(30))
    assert time.process_time() - start < 1


def test_a_closed_list_without_commas_between_its_pairs_is_lenient():
    answer = parse_answer("Here: [" + " ".join(["(12.3, 0.0010)"] * 2_000) + "]", answer_of(2_000))
    assert answer.parsing == "lenient"
    assert len(answer.trajectory) == 2_000


def test_digits_of_other_scripts_are_no_numbers():
    with pytest.raises(AnswerError, match="holds 0"):
        parse_answer("[(\u0663.\u0665, 0.1234)]", answer_of(1))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([*"[](),.eE+- \n", "12", "(1.0, 0.1)", "(1.0, 0.1", "[(", "\u2212", "\u00a0"])),
    st.integers(1, 400),
)
def test_no_text_of_brackets_and_digits_takes_long_or_raises_anything_else(parts, times):
    start = time.process_time()  # not of the clock: other work shares the cores
    with contextlib.suppress(AnswerError):
        parse_answer(("".join(parts) * times)[:MAX_ANSWER_CHARS], answer_of(2))
    assert time.process_time() - start < 1


def test_a_long_answer_is_quoted_only_in_part():
    with pytest.raises(AnswerError) as caught:
        parse_answer("x" * 500, answer_of(1))
    assert len(str(caught.value)) < 200


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-60, 60), st.floats(-0.5, 0.5)), min_size=1, max_size=40),
    st.sampled_from(["signed", "signed2"]),
)
def test_reading_undoes_writing_up_to_the_printed_decimals(pairs, name):
    answer_format = answer_of(len(pairs), name)
    answer = parse_answer(format_answer(drive(*pairs), answer_format), answer_format)
    notation = NOTATIONS[name]
    assert answer.parsing == "strict"
    read, written = answer.trajectory.to_pairs(), np.array(pairs)
    assert np.abs(read[:, 0] - written[:, 0]).max() <= 0.5 * 10**-notation.velocity_decimals + 1e-9
    assert np.abs(read[:, 1] - written[:, 1]).max() <= 0.5 * 10**-notation.curvature_decimals + 1e-9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-0.5, 0.5)), min_size=1, max_size=10))
def test_writing_what_was_read_gives_the_same_text(pairs):
    answer_format = answer_of(len(pairs))
    text = format_answer(drive(*pairs), answer_format)
    assert format_answer(parse_answer(text, answer_format).trajectory, answer_format) == text


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-60, 60), st.floats(-0.5, 0.5)), min_size=1, max_size=12),
    st.sampled_from(["", "Sure! ", "```json\n", "The car (a van) turns: "]),
    st.sampled_from(["", "\n```", " Drive on.", "\u00a0"]),
    st.booleans(),
)
def test_prose_fences_and_a_unicode_minus_change_how_an_answer_is_read_not_what_it_says(pairs, before, after, is_dash):
    answer_format = answer_of(len(pairs))
    text = format_answer(drive(*pairs), answer_format)
    decorated = before + (text.replace("-", "\u2212") if is_dash else text) + after
    answer = parse_answer(decorated, answer_format)
    assert answer.parsing == ("strict" if decorated == text else "lenient")
    assert np.array_equal(answer.trajectory.to_pairs(), parse_answer(text, answer_format).trajectory.to_pairs())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-0.5, 0.5)), min_size=1, max_size=40), st.integers(1, 40))
def test_an_answer_of_another_number_of_pairs_is_never_padded_or_cut(pairs, wanted):
    text = format_answer(drive(*pairs), answer_of(len(pairs)))
    if len(pairs) == wanted:
        assert len(parse_answer(text, answer_of(wanted)).trajectory) == wanted
        return
    with pytest.raises(AnswerError, match=f"holds {len(pairs)} .* asked for {wanted}"):
        parse_answer(text, answer_of(wanted))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_an_answer_error(text):
    with contextlib.suppress(AnswerError):
        assert len(parse_answer(text, answer_of(2)).trajectory) == 2


# the question


def test_the_question_asks_for_what_the_answer_gives():
    assert AnswerFormat().question == (
        "Given this 1-second, 30 FPS driving clip, output exactly 30 pairs of (velocity in m/s, curvature in 1/m, "
        "positive = left) for the next second as [(xx.x, 0.xxxx), ...]. No prose, just the list."
    )


def test_the_seeds_question_is_the_seeds_word_for_word():
    assert AnswerFormat("seed").question == (
        "Given this 1-second, 30 FPS driving clip, output exactly 30 pairs of (velocity in m/s, curvature) "
        "for the next second as [(xx.x, 0.xxx), ...]. No prose, just the list."
    )


def test_a_longer_clip_is_asked_about_in_seconds():
    question = AnswerFormat("signed", 20, 10.0, 2.0).question
    assert "2-second, 10 FPS" in question and "next 2 seconds" in question


def test_a_users_own_question_is_filled_in():
    answer_format = AnswerFormat(num_pairs=5, fps=10.0, user_instruction="{num_pairs} at {fps} like {pattern} {other}")
    assert answer_format.question == "5 at 10 like [(xx.x, 0.xxxx), ...] {other}"


def test_the_pattern_shown_has_as_many_decimals_as_the_answer():
    shown = {name: re.search(r"\[\((x+)\.(x+), 0\.(x+)\)", n.pattern).groups() for name, n in NOTATIONS.items()}
    for name, (_, velocity, curvature) in shown.items():
        assert (len(velocity), len(curvature)) == (
            NOTATIONS[name].velocity_decimals,
            NOTATIONS[name].curvature_decimals,
        )


def test_a_format_survives_its_json():
    answer_format = AnswerFormat("signed2", 10, 10.0, 1.0, "system", "question {fps}")
    assert AnswerFormat.from_json(answer_format.to_json()) == answer_format


def test_a_format_of_another_version_is_one_line():
    with pytest.raises(DrivingError, match=r"the answer format \{'pairs': 2\} is not one of this version .*run "):
        AnswerFormat.from_json({"pairs": 2})


def test_a_pair_stands_for_its_share_of_the_duration():
    assert AnswerFormat(num_pairs=10, duration_s=2.0).interval_s == 0.2


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(DrivingError, match="'sined' is not one of signed, signed2, seed"):
        AnswerFormat("sined")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"num_pairs": 2.0}, "num_pairs is a whole number, not 2.0"),
        ({"num_pairs": "two"}, "num_pairs is a whole number, not 'two'"),
        ({"history_pairs": True}, "history_pairs is a whole number, not True"),
        ({"duration_s": "x"}, "duration_s is a number above 0, not 'x'"),
        ({"duration_s": 0}, "duration_s is a number above 0, not 0"),
        ({"fps": float("nan")}, "fps is a number above 0, not nan"),
    ],
)
def test_a_format_whose_numbers_are_none_is_refused(values, complaint):
    with pytest.raises(DrivingError, match=f"an answer format's {complaint}; mend it"):
        AnswerFormat(**values)


def test_an_answer_without_pairs_is_refused():
    with pytest.raises(DrivingError, match="an answer of 0 pairs holds nothing"):
        AnswerFormat(num_pairs=0)
