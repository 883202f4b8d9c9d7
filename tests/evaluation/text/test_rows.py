"""Answers and references are joined, and what is wrong with a file is one line."""

from __future__ import annotations

import pytest

from driving.errors import RecordError
from evaluation.text.rows import read_rows

TRUTH = {"id": "a", "group": "clip-1", "text": "yes"}


@pytest.fixture()
def join(write_lines):
    def join(answers, references, **options):
        return read_rows(write_lines("p.jsonl", *answers), write_lines("r.jsonl", *references), **options)

    return join


def test_a_reference_without_an_answer_is_an_empty_answer_and_counted(join):
    rows = join([{"id": "a", "text": "yes"}], [TRUTH, {**TRUTH, "id": "b"}])
    assert [(row.id, row.text, row.state) for row in rows] == [("a", "yes", "answered"), ("b", "", "missing")]


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_answer_of_nothing_but_space_is_empty(join, text):
    assert join([{"id": "a", "text": text}], [TRUTH])[0].state == "empty"


def test_an_answer_that_ran_away_is_not_cut_but_counted_as_empty(join):
    row = join([{"id": "a", "text": "yes " * 1_000_000}], [TRUTH])[0]
    assert (row.text, row.state) == ("", "oversized")


def test_blank_lines_windows_line_ends_and_a_byte_order_mark_are_taken(join):
    rows = join(['\ufeff{"id": "a", "text": "yes"}\r', ""], [TRUTH])
    assert rows[0].text == "yes"


def test_a_line_separator_inside_an_answer_ends_no_line(join):
    assert join(['{"id": "a", "text": "yes\u2028no"}'], [TRUTH])[0].text == "yes\u2028no"


def test_half_a_surrogate_pair_becomes_the_replacement_character(join):
    assert join(['{"id": "a", "text": "yes\\ud800"}'], [TRUTH])[0].text == "yes\ufffd"


def test_predictions_of_the_evaluation_are_read_as_they_are(join):
    line = {"id": "a", "group": "clip-1", "control": "plain", "text": "yes", "num_tokens": 1, "pairs": None}
    assert join([line], [TRUTH])[0].text == "yes"


@pytest.mark.parametrize(
    "answers, references, complaint",
    [
        (["{oops"], [TRUTH], r"p.jsonl, line 1 is not JSON .*write one JSON object a line"),
        (["[" * 100_000], [TRUTH], r"p.jsonl, line 1 is not JSON"),
        (['["a"]'], [TRUTH], r'line 1 is no object with an "id" in quotes: .*give every row its id'),
        ([{"id": 7, "text": "x"}], [TRUTH], r'line 1 is no object with an "id" in quotes'),
        ([{"id": "a", "text": "x"}] * 2, [TRUTH], r"line 2: id 'a' is already on line 1; every row needs an id"),
        ([{"id": "a"}], [TRUTH], r"the answer of id 'a' has no \"text\"; every line needs id and text"),
        ([{"id": "a", "text": None}], [TRUTH], r"the answer of id 'a' has no \"text\""),
        ([{"id": "z", "text": "x"}], [TRUTH], r"1 of 1 answers in .* have no reference .*the first is id 'z'"),
        ([{"id": "a", "group": "b", "text": "x"}], [TRUTH], r"id 'a' is of group 'b', its reference says 'clip-1'"),
        ([], [{"id": "a", "text": "yes"}], r"id 'a' has no \"group\"; name its clip, ride or scene"),
        ([], [{**TRUTH, "type": 3}], r"id 'a' has a \"type\" that is no text: 3; write it in quotes"),
        ([], [], r"r.jsonl holds no reference; there is nothing to score"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(join, answers, references, complaint):
    with pytest.raises(RecordError, match=complaint):
        join(answers, references)


def test_a_missing_file_is_named(write_lines, tmp_path):
    with pytest.raises(RecordError, match=r"nothing.jsonl is not a file; it should hold one JSON object a line"):
        read_rows(tmp_path / "nothing.jsonl", write_lines("r.jsonl", TRUTH))


def test_a_file_that_is_not_utf_8_is_named_with_the_byte(write_lines, tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b'{"id": "a", "text": "\xff"}\n')
    with pytest.raises(RecordError, match=r"p.jsonl is not UTF-8 text .*at byte 21; save it as UTF-8|byte 21\); save"):
        read_rows(tmp_path / "p.jsonl", write_lines("r.jsonl", TRUTH))
