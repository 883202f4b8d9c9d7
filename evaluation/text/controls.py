"""Answers that cannot know the clip, for every score to be read against.

swapped       the model's own answers, each dealt to a clip that it was not made for
best_constant one answer for all rows of a type: the commonest reference, known only in hindsight
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from evaluation.text.rows import TextRow

DESCRIPTIONS = {
    "swapped": "the model's own answers, each given for a clip of another group: what is left is what it says anywhere",
    "best_constant": "the commonest reference of each type, for every row: chosen in hindsight",
    "always_yes": "yes to everything",
    "always_no": "no to everything",
}


def swap_answers(rows: Sequence[TextRow]) -> tuple[list[TextRow], np.ndarray]:
    """Deal each answer to a row of another group and the same type.

    Rows of a type are sorted by group and turned by the size of the largest group; where one group holds more than half
    of a type, its rows have nobody to change with.

    Returns:
        Rows in the given order, and (B,) bool: which of them have another group's answer.
    """
    dealt, is_swapped = list(rows), np.zeros(len(rows), dtype=bool)
    for kind in {row.kind for row in rows}:
        order = sorted(
            (index for index, row in enumerate(rows) if row.kind == kind), key=lambda i: (rows[i].group, rows[i].id)
        )
        step = max(Counter(rows[index].group for index in order).values())
        for place, index in enumerate(order):
            giver = rows[order[(place + step) % len(order)]]
            if giver.group != rows[index].group:
                dealt[index] = dataclasses.replace(rows[index], text=giver.text, state=giver.state)
                is_swapped[index] = True
    return dealt, is_swapped


def answer_all(rows: Sequence[TextRow], answer: Callable[[TextRow], str]) -> list[TextRow]:
    """The same rows with another answer."""
    return [dataclasses.replace(row, text=answer(row), state="answered") for row in rows]


def choose_constants(rows: Sequence[TextRow], texts: Sequence[str]) -> dict[str, str]:
    """The commonest of (B,) reference texts for each type; the first in the alphabet where several are."""
    counts: dict[str, Counter[str]] = {}
    for row, text in zip(rows, texts, strict=True):
        counts.setdefault(row.kind, Counter())[text] += 1
    return {kind: min(found, key=lambda text: (-found[text], text)) for kind, found in counts.items()}
