"""How long an answer may become, where no true answers are at hand to tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from driving.answer_format import AnswerFormat, format_answer
from driving.trajectory import Trajectory

WIDEST_PAIR = (-99.99, -0.1999)  # no car drives a longer one
LIMIT_OF_WORDS_TOKENS = 512


def choose_answer_limit(answer_format: AnswerFormat | None, tokenizer: Any) -> int:
    """Tokens of the longest answer that a car can drive, and a margin; 512 for an answer in words."""
    from qwenvl.train.generation import choose_max_new_tokens

    if answer_format is None:
        return LIMIT_OF_WORDS_TOKENS
    longest = Trajectory.from_pairs(np.tile(WIDEST_PAIR, (answer_format.num_pairs, 1)))
    return choose_max_new_tokens([format_answer(longest, answer_format)], tokenizer)
