"""Yes-or-no questions about what is there: accuracy, F1 and whether the model says yes to everything.

Source: Li et al. 2023, Evaluating Object Hallucination in Large Vision-Language Models (POPE): accuracy, precision,
recall and F1 of "yes", and the yes-ratio; "type" of a row is random, popular or adversarial there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.errors import RecordError
from evaluation.text.measures import Measures, f1_of, mean_of, ratio_of
from evaluation.text.normalise import split_words
from evaluation.text.rows import TextRow, reference_texts

_NO = frozenset(("no", "not", "none", "never", "cannot", "nope"))


def read_yes_no(text: str) -> bool | None:
    """What an answer says; None where it says neither or both.

    The first word decides ("Yes, a bus."). Else the first sentence: a negation is no, the word yes is yes.
    """
    words = split_words(text)
    if not words:
        return None
    if words[0] in ("yes", "no"):
        return words[0] == "yes"
    sentence = split_words(text.split(".")[0])
    says_yes = "yes" in sentence
    says_no = any(word in _NO or word.endswith(("n't", "n\u2019t")) for word in sentence)
    return None if says_yes == says_no else says_yes


def score_yes_no(rows: Sequence[TextRow]) -> tuple[Measures, dict[str, Any]]:
    """Scores of B answers and facts about them.

    `accuracy` over all rows, an unreadable answer is wrong; `precision`, `recall`, `f1` of yes; `yes_ratio` beside
    `true_yes_ratio`; `unreadable`; `strict`: the answer is the one word and nothing else.

    Raises:
        RecordError: A reference is neither yes nor no.
    """
    true = np.array([_read_reference(row) for row in rows])
    said = [read_yes_no(row.text) for row in rows]
    says_yes, says_no = (np.array([one is wanted for one in said]) for wanted in (True, False))
    hits = true & says_yes
    measures = {
        "accuracy": mean_of(hits | (~true & says_no)),
        "f1": f1_of(hits, says_yes, true),
        "precision": ratio_of(hits, says_yes),
        "recall": ratio_of(hits, true),
        "yes_ratio": mean_of(says_yes),
        "true_yes_ratio": mean_of(true),
        "unreadable": mean_of(~(says_yes | says_no)),
        "strict": mean_of([split_words(row.text) in (["yes"], ["no"]) for row in rows]),
    }
    return measures, {}


def _read_reference(row: TextRow) -> bool:
    text = reference_texts(row, "yesno")[0]
    if text.strip().casefold() not in ("yes", "no"):
        raise RecordError(f"the reference of id {row.id!r} is {text[:40]!r}; --task yesno needs yes or no")
    return text.strip().casefold() == "yes"
