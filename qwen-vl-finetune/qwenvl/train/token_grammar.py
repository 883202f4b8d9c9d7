"""An answer grammar spelled in tokens: after what has been said, which tokens may come next.

    Grammar + tokenizer ──▶ trie of the tokens made of the grammar's characters alone
    state ──allowed──▶ {token: state after it}      found by walking trie and grammar together, kept by state

A token may hold several characters, also of two pairs (`), (`). After the last character only the end of turn is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from transformers import LogitsProcessor

from driving.answer_grammar import Grammar
from driving.errors import DrivingError

_SPACE = "\u0120"  # how byte-level vocabularies write a blank


@dataclass
class _Node:
    """The tokens that begin with the characters on the way here."""

    tokens: list[int] = field(default_factory=list)
    after: dict[str, _Node] = field(default_factory=dict)


class TokenGrammar:
    """A grammar over one tokenizer's vocabulary; made once, used for any number of batches.

    Args:
        end_token: what must follow a whole answer.

    Raises:
        DrivingError: The tokenizer has no token for one of the grammar's characters.
    """

    def __init__(self, grammar: Grammar, tokenizer: Any, end_token: int) -> None:
        self.grammar = grammar
        self.end_token = end_token
        self._root = _Node()
        self._allowed: dict[int, dict[int, int]] = {}
        singles = set()
        for token, text in find_tokens(tokenizer, grammar.alphabet).items():
            node = self._root
            for char in text:
                node = node.after.setdefault(char, _Node())
            node.tokens.append(token)
            singles |= {text} if len(text) == 1 else set()
        missing = sorted(grammar.alphabet - singles)
        if missing:
            raise DrivingError(
                f"the tokenizer has no token for {missing[0]!r} alone, so answers cannot be kept to their format; "
                "run without --constrained"
            )

    @cached_property
    def max_tokens(self) -> int:
        """Tokens of the longest answer, its end among them."""
        return self.grammar.max_chars + 1

    def allowed(self, state: int) -> dict[int, int]:
        """The tokens that may follow, and the states after them."""
        if state not in self._allowed:
            self._allowed[state] = self._find_allowed(state)
        return self._allowed[state]

    def _find_allowed(self, state: int) -> dict[int, int]:
        if state == self.grammar.final:
            return {self.end_token: state}
        found = {}
        waiting = [(self._root, state)]
        for node, here in waiting:  # grows while it is walked
            found |= dict.fromkeys(node.tokens, here)
            moves = self.grammar.moves[here]
            waiting += [(after, moves[char]) for char, after in node.after.items() if char in moves]
        return found


def find_tokens(tokenizer: Any, alphabet: frozenset[str]) -> dict[int, str]:
    """Ordinary tokens that hold nothing but these (ASCII) characters, and their texts."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    written = alphabet - {" "} | {_SPACE}
    found = {
        token: text.replace(_SPACE, " ")
        for text, token in tokenizer.get_vocab().items()
        if text and written.issuperset(text) and token not in special
    }
    # What counts is what the token is read as, whatever the vocabulary calls it.
    return {token: text for token, text in sorted(found.items()) if tokenizer.decode([token]) == text}


class GrammarMask(LogitsProcessor):
    """Leaves each row only the tokens that its answer may go on with. For one call of `generate`, without beams."""

    def __init__(self, tokens: TokenGrammar) -> None:
        self._tokens = tokens
        self._states: list[int] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(B, V) scores -> the same, -inf at all other tokens; the scores that are left are finite or NaN."""
        if not self._states:
            self._states = [0] * len(scores)
        else:
            said = input_ids[:, -1].tolist()
            # A finished row is padded until the others are: it stays where it is.
            self._states = [
                self._tokens.allowed(state).get(token, state) for state, token in zip(self._states, said, strict=True)
            ]
        allowed = [list(self._tokens.allowed(state)) for state in self._states]
        places = [(row, token) for row, tokens in enumerate(allowed) for token in tokens]
        rows, columns = torch.tensor(places, device=scores.device).T
        masked = torch.full_like(scores, -torch.inf)
        masked[rows, columns] = scores[rows, columns].clamp(min=torch.finfo(scores.dtype).min)
        return masked
