"""CIDEr-D: agreement of a caption with its references, where what every clip's references say counts for nothing.

Written here because no kept package offers it alone: pycocoevalcap was last released in 2020 and brings 104 MB of Java
archives with it. The tests compare with that package's numbers.

Source: Vedantam, Zitnick, Parikh 2015, CIDEr: Consensus-based Image Description Evaluation, equations 1 to 5 with the
length penalty and clipping of CIDEr-D; sigma 6 and the factor 10 as published, bigrams as lengths as in the
published code. The Gaussian penalty is meant for single sentences: a caption 20 words longer than its reference keeps
0.4 % of its score, so for long descriptions CIDEr-D says little beside ROUGE.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

MAX_ORDER = 4
SIGMA = 6.0
Words = Sequence[str]


def score_cider_d(answers: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """(B,) scores from 0 to 10, weights of n-grams from all rows' references.

    Args:
        answers: B lists of words.
        references: B lists of one or more lists of words.
    """
    counted = [[_count_pieces(words) for words in choices] for choices in references]
    seen_in = Counter(piece for choices in counted for piece in set().union(*choices))
    log_rows = math.log(len(references))
    weights = {piece: log_rows - math.log(num) for piece, num in seen_in.items()}
    return np.array(
        [
            _score_row(
                _weigh(_count_pieces(words), weights, log_rows), [_weigh(one, weights, log_rows) for one in choices]
            )
            for words, choices in zip(answers, counted, strict=True)
        ]
    )


Pieces = Counter[tuple[str, ...]]
Vector = list[dict[tuple[str, ...], float]]


def _count_pieces(words: Words) -> Pieces:
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(words) - order + 1)
    )


def _weigh(counts: Pieces, weights: dict[tuple[str, ...], float], unseen: float) -> tuple[Vector, list[float], int]:
    """Weighted counts by order, their norms, and the length in bigrams."""
    vector: Vector = [{} for _ in range(MAX_ORDER)]
    for piece, num in counts.items():
        vector[len(piece) - 1][piece] = num * weights.get(piece, unseen)
    norms = [math.sqrt(sum(value**2 for value in part.values())) for part in vector]
    return vector, norms, sum(num for piece, num in counts.items() if len(piece) == 2)


def _score_row(answer: tuple, references: list[tuple]) -> float:
    vector, norms, length = answer
    total = 0.0
    for other, other_norms, other_length in references:
        penalty = math.exp(-((length - other_length) ** 2) / (2 * SIGMA**2))
        for part, norm, other_part, other_norm in zip(vector, norms, other, other_norms, strict=True):
            if norm and other_norm:
                shared = sum(
                    min(value, other_part[piece]) * other_part[piece]
                    for piece, value in part.items()
                    if piece in other_part
                )
                total += penalty * shared / (norm * other_norm)
    return 10 * total / (MAX_ORDER * len(references))
