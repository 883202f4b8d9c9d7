"""Short answers to questions: exact match by type, with what normalisation and synonyms forgive reported apart.

Source: research/field.md 2.6; NuScenes-QA scores the exact class, and 39 of 90 errors of a zero-shot 2B model were
synonyms outside its vocabulary (research/seeds-and-formats.md 1.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.text.measures import Measure, Measures, mean_of
from evaluation.text.normalise import Synonyms, normalise_answer
from evaluation.text.rows import TextRow, reference_texts

SCORES = ("exact", "normalised", "with_synonyms")


def score_questions(
    rows: Sequence[TextRow], synonyms: Mapping[str, str] | None = None
) -> tuple[Measures, dict[str, Any]]:
    """Scores of B answers and facts about them.

    Scores (shares of all rows, higher is better unless said): `exact` the same text but for outer spaces;
    `normalised` and `with_synonyms` as in normalise.py; `in_vocabulary` answers that some reference gives;
    `count_mae` of rows whose reference is a number and whose answer is one, in counts, lower is better, beside
    `count_answered`, the share of those rows whose answer is a number.
    """
    references = [reference_texts(row, "qa") for row in rows]
    vocabulary = {text for texts in references for text in texts}
    folding = Synonyms(synonyms, vocabulary)
    folds: tuple[Callable[[str], str], ...] = (str.strip, normalise_answer, folding.fold)
    measures = {
        name: mean_of([fold(row.text) in map(fold, texts) for row, texts in zip(rows, references)])
        for name, fold in zip(SCORES, folds, strict=True)
    }
    known = {folding.fold(text) for text in vocabulary}
    said = [folding.fold(row.text) for row in rows]
    measures["in_vocabulary"] = mean_of([text in known for text in said])
    measures |= _score_counts(said, [folding.fold(texts[0]) for texts in references])
    facts = {
        "num_distinct_references": len(known),
        "num_distinct_answers": len(set(said)),
        "commonest_answers": dict(Counter(said).most_common(5)),
        "synonyms_used": dict(
            Counter(normalise_answer(row.text) for row in rows if _is_folded(row.text, folding)).most_common(20)
        ),
    }
    return measures, facts


def _is_folded(text: str, folding: Synonyms) -> bool:
    return folding.fold(text) != normalise_answer(text)


def _score_counts(said: Sequence[str], true: Sequence[str]) -> dict[str, Measure]:
    is_count = np.array([text.isdecimal() for text in true])
    if not is_count.any():
        return {}
    has_both = is_count & np.array([text.isdecimal() for text in said])
    apart = [abs(float(s) - float(t)) if both else np.nan for s, t, both in zip(said, true, has_both)]
    return {
        "count_mae": mean_of(apart),
        "count_answered": mean_of(np.where(is_count, has_both, np.nan)),
    }


def guess_type(row: TextRow) -> str:
    """The type of a question whose reference names none, from its true answer."""
    answer = normalise_answer(reference_texts(row, "qa")[0])
    if answer in ("yes", "no"):
        return "yes or no"
    return "count" if answer.isdecimal() else "other"
