"""Exact match, and what normalisation and synonyms forgive, apart."""

from __future__ import annotations

import pytest

from driving.errors import RecordError
from evaluation.text.normalise import Synonyms, normalise_answer, read_synonyms, split_words
from evaluation.text.questions import guess_type, score_questions


@pytest.mark.parametrize(
    "text, plain",
    [
        (" The Bus. ", "bus"),
        ("TWO", "2"),
        ("zero", "0"),
        ("Traffic cone!", "traffic cone"),
        ("\u22123", "-3"),
        ("1,000", "1 000"),
        ("the", "the"),
        ("\uff59\uff45\uff53", "yes"),
        ("<b>yes</b>", "b yes b"),
        ("", ""),
    ],
)
def test_a_normalised_answer_has_no_case_punctuation_article_or_number_word(text, plain):
    assert normalise_answer(text) == plain


def test_words_keep_their_apostrophe_and_numbers_their_point():
    assert split_words("The SUV doesn't stop: 12.5 m!") == ["the", "suv", "doesn't", "stop", "12.5", "m"]


@pytest.mark.parametrize(
    "answer, exact, normalised, with_synonyms",
    [
        ("bicycle", 1, 1, 1),
        (" bicycle\n", 1, 1, 1),
        ("Bicycle.", 0, 1, 1),
        ("bikes", 0, 0, 1),
        ("car", 0, 0, 0),
        ("There is a bicycle", 0, 0, 0),
        ("bicycle car bus", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_each_step_forgives_more_and_none_searches_a_sentence(
    make_row, value_of, answer, exact, normalised, with_synonyms
):
    measures, _ = score_questions([make_row("a", answer, text="bicycle")], {"bikes": "bicycle"})
    found = [value_of(measures[name]) for name in ("exact", "normalised", "with_synonyms")]
    assert found == [exact, normalised, with_synonyms]


def test_a_driving_word_never_folds_an_answer_that_the_references_tell_apart(make_row, value_of):
    rows = [make_row("a", "person", text="pedestrian"), make_row("b", "person", text="person")]
    assert value_of(score_questions(rows)[0]["with_synonyms"]) == 0.5
    assert value_of(score_questions(rows[:1])[0]["with_synonyms"]) == 1


def test_a_users_own_synonyms_are_always_obeyed(make_row, value_of):
    rows = [make_row("a", "person", text="pedestrian"), make_row("b", "person", text="person")]
    assert value_of(score_questions(rows, {"person": "pedestrian"})[0]["with_synonyms"]) == 1


def test_any_of_several_references_will_do(make_row, value_of):
    measures, _ = score_questions([make_row("a", "bus", texts=["coach", "bus"])], {})
    assert value_of(measures["exact"]) == 1


def test_counts_off_by_one_and_three_have_a_mean_error_of_two(make_row, value_of):
    rows = [make_row("a", "two", text="1"), make_row("b", "5", text="2"), make_row("c", "many", text="2")]
    measures, _ = score_questions(rows, {})
    assert value_of(measures["count_mae"]) == 2
    assert value_of(measures["count_answered"]) == pytest.approx(2 / 3)


def test_an_answer_that_no_reference_gives_is_outside_the_vocabulary(make_row, value_of):
    rows = [make_row("a", "bus", text="car"), make_row("b", "spaceship", text="bus")]
    measures, facts = score_questions(rows, {})
    assert value_of(measures["in_vocabulary"]) == 0.5
    assert facts["commonest_answers"] == {"bus": 1, "spaceship": 1}


@pytest.mark.parametrize("text, kind", [("Yes", "yes or no"), ("four", "count"), ("4", "count"), ("parked", "other")])
def test_a_question_without_a_type_is_sorted_by_its_answer(make_row, text, kind):
    assert guess_type(make_row("a", "", text=text)) == kind


@pytest.mark.parametrize("reference", [{}, {"text": ""}, {"texts": []}, {"texts": ["a", ""]}, {"text": 3}])
def test_a_reference_that_says_nothing_is_refused(make_row, reference):
    with pytest.raises(RecordError, match=r"the reference of id 'a' has no \"text\" .* --task qa compares"):
        score_questions([make_row("a", "x", **reference)], {})


def test_synonyms_come_from_a_file_or_are_the_driving_words(tmp_path):
    path = tmp_path / "synonyms.json"
    path.write_text('{"Moderate": "medium"}')
    assert Synonyms(read_synonyms(path)).fold("moderate.") == "medium"
    assert Synonyms(None).fold("Bikes") == "bicycle"


def test_what_is_no_file_of_synonyms_is_refused(tmp_path):
    path = tmp_path / "synonyms.json"
    path.write_text('["moderate"]')
    with pytest.raises(RecordError, match="is no JSON object of spelling: meaning"):
        read_synonyms(path)
    with pytest.raises(RecordError, match="cannot be read as synonyms"):
        read_synonyms(tmp_path / "nothing.json")
