"""Yes or no, read from what models really write."""

from __future__ import annotations

import pytest

from driving.errors import RecordError
from evaluation.text.yes_no import read_yes_no, score_yes_no


@pytest.mark.parametrize(
    "text, said",
    [
        ("yes", True),
        ("Yes, there is a bus.", True),
        ("NO.", False),
        ("No, but yes later", False),
        ("The answer is yes.", True),
        ("There is not a bus.", False),
        ("There isn't any. Yes!", False),
        ("I cannot see one.", False),
        ("Yesterday", None),
        ("maybe", None),
        ("It could be yes or no.", None),
        ("<script>alert(1)</script>", None),
        ("", None),
    ],
)
def test_what_an_answer_says(text, said):
    assert read_yes_no(text) is said


def test_scores_by_hand_with_an_unreadable_answer_counted_wrong(make_row, value_of):
    # truth y y y n n; said y n ? y n
    pairs = [("yes", "yes"), ("no", "yes"), ("hm", "yes"), ("Yes.", "no"), ("no", "no")]
    measures, _ = score_yes_no([make_row(f"{i}", said, text=true) for i, (said, true) in enumerate(pairs)])
    values = {name: value_of(one) for name, one in measures.items()}
    assert values["accuracy"] == pytest.approx(2 / 5)
    assert values["precision"] == pytest.approx(1 / 2)
    assert values["recall"] == pytest.approx(1 / 3)
    assert values["f1"] == pytest.approx(2 / 5)
    assert values["yes_ratio"] == pytest.approx(2 / 5)
    assert values["true_yes_ratio"] == pytest.approx(3 / 5)
    assert values["unreadable"] == pytest.approx(1 / 5)
    assert values["strict"] == pytest.approx(4 / 5)


def test_a_reference_that_is_neither_is_refused(make_row):
    with pytest.raises(RecordError, match="the reference of id 'a' is 'maybe'; --task yesno needs yes or no"):
        score_yes_no([make_row("a", "yes", text="maybe")])
