"""The grammar of answers: all that it lets through is a strict answer, and all that we teach is let through."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.answer_format import NOTATIONS, AnswerFormat, format_answer, parse_answer
from driving.answer_grammar import build_grammar
from driving.trajectory import Trajectory


def accepts(grammar, text):
    return grammar.walk(0, text) == grammar.final


def say_anything(grammar, dice: random.Random) -> str:
    """A random path to the end."""
    state, text = 0, ""
    while grammar.moves[state]:
        char = dice.choice(sorted(grammar.moves[state]))
        state, text = grammar.moves[state][char], text + char
    assert state == grammar.final
    return text


@pytest.mark.parametrize("name", NOTATIONS)
@given(seed=st.integers(0, 2**32), num_pairs=st.integers(1, 6))
@settings(deadline=None, max_examples=100)
def test_whatever_the_grammar_says_is_a_strict_answer_spelled_as_we_spell_it(name, seed, num_pairs):
    answer_format = AnswerFormat(name=name, num_pairs=num_pairs)
    grammar = build_grammar(answer_format)
    text = say_anything(grammar, random.Random(seed))
    answer = parse_answer(text, answer_format)
    assert answer.parsing == "strict"
    assert format_answer(answer.trajectory, answer_format) == text
    assert len(text) <= grammar.max_chars


@pytest.mark.parametrize("name", NOTATIONS)
@given(pairs=st.lists(st.tuples(st.floats(-999.4, 999.4), st.floats(-99.4, 99.4)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=200)
def test_every_answer_that_we_teach_is_let_through(name, pairs):
    answer_format = AnswerFormat(name=name, num_pairs=len(pairs))
    text = format_answer(Trajectory.from_pairs(np.array(pairs)), answer_format)
    assert accepts(build_grammar(answer_format), text)


@pytest.mark.parametrize(
    "text, why",
    [
        ("[(1.0, 0.0000)]", "one pair of two"),
        ("[(1.0, 0.0000), (1.0, 0.0000), (1.0, 0.0000)]", "three pairs of two"),
        ("[(1.0, 0.0000), (1.0, -0.0000)]", "a second spelling of zero"),
        ("[(01.0, 0.0000), (1.0, 0.0000)]", "a needless zero"),
        ("[(1.0, 0.000), (1.0, 0.0000)]", "a digit short"),
        ("[(1.0, 0.0000), (1.0, 0.00000)]", "a digit more"),
        ("[(1000.0, 0.0000), (1.0, 0.0000)]", "a speed of four digits"),
        ("[(+1.0, 0.0000), (1.0, 0.0000)]", "a plus"),
        ("[(1.0,0.0000), (1.0, 0.0000)]", "no blank"),
        ("[(1.0, 0.0000), (1.0, 0.0000)", "not closed"),
        ("[(1.0, 0.0000), (1.0, 0.0000)] ", "something behind"),
        ("I see [(1.0, 0.0000), (1.0, 0.0000)]", "prose"),
        ("", "nothing"),
    ],
)
def test_what_is_no_answer_is_stopped(text, why):
    assert not accepts(build_grammar(AnswerFormat(num_pairs=2)), text), why


def test_the_seeds_notation_pads_speeds_and_has_no_sign():
    grammar = build_grammar(AnswerFormat(name="seed", num_pairs=1))
    assert [accepts(grammar, text) for text in ("[(05.3, 0.012)]", "[(112.3, 0.012)]", "[(00.0, 0.000)]")] == [True] * 3
    assert [accepts(grammar, text) for text in ("[(5.3, 0.012)]", "[(-5.3, 0.012)]", "[(005.3, 0.012)]")] == [False] * 3


def test_no_path_is_longer_than_said_and_one_is_as_long():
    grammar = build_grammar(AnswerFormat(num_pairs=1))
    longest = max((say_anything(grammar, random.Random(seed)) for seed in range(500)), key=len)
    assert len(longest) == grammar.max_chars == len("[(-123.4, -12.3456)]")


def test_from_every_state_the_end_can_be_reached_and_no_state_comes_again():
    grammar = build_grammar(AnswerFormat(num_pairs=3))
    ends = {grammar.final}
    order: list[int] = []
    waiting = {state: set(moves.values()) for state, moves in enumerate(grammar.moves)}
    while ready := [state for state, after in waiting.items() if not after - set(order)]:
        order += ready
        ends |= {state for state in ready if set(grammar.moves[state].values()) & ends}
        waiting = {state: after for state, after in waiting.items() if state not in set(ready)}
    assert not waiting, "a loop"
    assert len(ends) == len(grammar.moves)


def test_the_alphabet_is_what_answers_are_written_with():
    assert "".join(sorted(build_grammar(AnswerFormat()).alphabet)) == " (),-.0123456789[]"
    assert re.search("-", "".join(build_grammar(AnswerFormat(name="seed")).alphabet)) is None
