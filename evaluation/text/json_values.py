"""One JSON field over all rows: how often it is right, by the kind of value it holds. B = rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.text.measures import Measures, kappa_of, macro_f1_of, mean_of
from evaluation.text.normalise import Synonyms, normalise_answer, split_words
from evaluation.text.schema import BOOLEAN, NUMBER, ORDERED, SET, WORDS, Field

ABSENT = object()  # the key is not there; null is a value
_TRUE = frozenset(("true", "yes", "1", "present"))
_FALSE = frozenset(("false", "no", "none", "0", "absent", "not present"))
_NUMBER = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)\s*[^\W\d]*[\s\w/%]*$")


def score_field(said: Sequence[Any], true: Sequence[Any], field: Field, synonyms: Synonyms) -> Measures:
    """Scores of one field; rows whose truth lacks it have nothing to say.

    All kinds: `exact`, the same JSON value (2 and 2.0 are, 2 and "2" are not). Then by kind:
    category, boolean: `as_meant` (case, punctuation, synonyms forgiven), `macro_f1` over the true values.
    ordered: also `kappa` (quadratic weights), `steps_off`, `missed_highest` (of the rows that are the
        highest, those told lower); an answer that is none of the levels stands at the level farthest from the truth.
    number: `as_meant` within the tolerance, also from "2 lanes"; `mae` where a number was given.
    set: `as_meant`, all members right; `set_f1`.
    words: `as_meant`; `word_f1` of the words in common.
    """
    known = np.array([one is not ABSENT for one in true])
    measures: Measures = {"exact": _share(known, [_is_same(a, b) for a, b in zip(said, true, strict=True)])}
    if field.kind == NUMBER:
        return measures | _score_numbers(said, true, known, field.tolerance)
    if field.kind == SET:
        return measures | _score_sets(said, true, known, synonyms)
    fold = _fold_boolean if field.kind == BOOLEAN else synonyms.fold
    ours, theirs = ([_fold_value(one, fold) for one in column] for column in (said, true))
    measures["as_meant"] = _share(known, [a == b for a, b in zip(ours, theirs)])
    if field.kind == WORDS:
        measures["word_f1"] = _share(known, [_f1(split_words(a), split_words(b)) for a, b in zip(ours, theirs)])
        return measures
    classes = sorted({one for one, has in zip(theirs, known) if has})
    measures["macro_f1"] = macro_f1_of(
        np.where(known, _indices(theirs, classes), np.nan), _indices(ours, classes), len(classes)
    )
    if field.kind == ORDERED:
        levels = [synonyms.fold(level) for level in field.levels]
        measures |= _score_levels(
            _indices(ours, levels), np.where(known, _indices(theirs, levels), np.nan), len(levels)
        )
    return measures


def count_outside(true: Sequence[Any], field: Field, synonyms: Synonyms) -> int:
    """How many truths of an ordered field are none of its levels; its kappa and steps leave them out."""
    levels = {synonyms.fold(level) for level in field.levels}
    return sum(one is not ABSENT and _fold_value(one, synonyms.fold) not in levels for one in true)


def _share(known: np.ndarray, values: Sequence[float]) -> Any:
    return mean_of(np.where(known, np.asarray(values, dtype=np.float64), np.nan))


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return a is not ABSENT and b is not ABSENT and a == b


def _fold_value(value: Any, fold: Any) -> str:
    if value is ABSENT:
        return "\0absent"  # equals nothing that can be written
    return "null" if value is None else fold(str(value))


def _fold_boolean(text: str) -> str:
    plain = normalise_answer(text)
    if plain in _TRUE:
        return "true"
    return "false" if plain in _FALSE else plain


def _indices(values: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    place = {name: index for index, name in enumerate(classes)}
    return np.array([place.get(value, -1) for value in values], dtype=np.float64)


def _score_levels(said: np.ndarray, true: np.ndarray, num: int) -> Measures:
    true = np.where(true < 0, np.nan, true)  # a truth outside the levels has no place among them
    farthest = np.where(true < (num - 1) / 2, num - 1, 0)
    placed = np.where(said < 0, farthest, said)
    return {
        "kappa": kappa_of(true, placed, num),
        "steps_off": mean_of(np.abs(placed - true)),
        "missed_highest": mean_of(np.where(true == num - 1, placed < num - 1, np.nan)),
    }


def _score_numbers(said: Sequence[Any], true: Sequence[Any], known: np.ndarray, tolerance: float) -> Measures:
    ours, theirs = (np.array([_read_number(one) for one in column]) for column in (said, true))
    apart = np.abs(ours - theirs)
    return {
        "as_meant": _share(known, np.where(np.isnan(apart), False, apart <= tolerance + 1e-9)),
        "mae": mean_of(np.where(known, apart, np.nan)),
        "answered": _share(known, ~np.isnan(ours)),
    }


def _read_number(value: Any) -> float:
    """A number, or the number that a text begins with; NaN where there is none."""
    if isinstance(value, bool) or value is ABSENT:
        return np.nan
    if isinstance(value, str):
        found = _NUMBER.match(normalise_answer(value))
        value = found.group(1) if found else np.nan
    try:
        number = float(value) if isinstance(value, int | float | str) else np.nan
    except OverflowError:  # a whole number of 400 digits is JSON
        return np.nan
    return number if np.isfinite(number) else np.nan


def _score_sets(said: Sequence[Any], true: Sequence[Any], known: np.ndarray, synonyms: Synonyms) -> Measures:
    ours, theirs = ([_fold_set(one, synonyms) for one in column] for column in (said, true))
    return {
        "as_meant": _share(known, [a is not None and a == b for a, b in zip(ours, theirs)]),
        "set_f1": _share(known, [0.0 if a is None else _f1(a, b or ()) for a, b in zip(ours, theirs)]),
    }


def _fold_set(value: Any, synonyms: Synonyms) -> frozenset[str] | None:
    return frozenset(_fold_value(one, synonyms.fold) for one in value) if isinstance(value, list) else None


def _f1(said: Any, true: Any) -> float:
    """F1 of two bags; two empty ones agree."""
    said, true = list(said), list(true)
    if not said and not true:
        return 1.0
    return 2 * (Counter(said) & Counter(true)).total() / (len(said) + len(true))
