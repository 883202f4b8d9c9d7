"""The answers that `format_answer` can write, as an automaton over characters: what may follow what has been said.

    AnswerFormat ──build_grammar──▶ Grammar ──moves[state]──▶ {"[": 1} ... {"0": 7, "1": 8, ...} ... {}

Everything comes from the format's own notation, so a grammar of another format than the parser's cannot be built.
Numbers have one spelling: no needless zero in front, no negative zero, a bounded number of digits. Every path ends: the
automaton has no loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from driving.answer_format import AnswerFormat

# Digits before the point. 999 m/s and 99 1/m are beyond what any vehicle does (driving.feasibility).
VELOCITY_DIGITS = 3
CURVATURE_DIGITS = 2
_DIGITS = "0123456789"


@dataclass(frozen=True)
class Spelling:
    """How one number is spelled.

    Attributes:
        decimals: digits after the point.
        is_signed: whether it may have a minus.
        width: characters that it is padded to with zeros in front, sign and point among them; 0 for none.
        max_digits: digits before the point, at most.
    """

    decimals: int
    is_signed: bool
    width: int
    max_digits: int


class _Number(NamedTuple):
    """How far a number has been spelled: only what decides how it may go on."""

    is_negative: bool = False
    digits: int = 0  # before the point, while that is not said
    has_leading_zero: bool = False  # while the point is not said
    may_be_negative_zero: bool = False
    decimals: int = -1  # after the point; -1 before it


@dataclass(frozen=True)
class Grammar:
    """A finite automaton without loops.

    Attributes:
        moves: for each state, the characters that may follow and the states they lead to. State 0 is the empty text.
        final: the state of a whole answer; nothing follows it.
        max_chars: length of the longest answer.
    """

    moves: tuple[dict[str, int], ...]
    final: int
    max_chars: int

    def walk(self, state: int, text: str) -> int | None:
        """The state after more text; None where the text leaves the grammar."""
        for char in text:
            following = self.moves[state].get(char)
            if following is None:
                return None
            state = following
        return state

    @cached_property
    def alphabet(self) -> frozenset[str]:
        """Every character that an answer may hold."""
        return frozenset(char for moves in self.moves for char in moves)


def build_grammar(answer_format: AnswerFormat) -> Grammar:
    """The grammar of one format's answers."""
    return _Builder(answer_format).build()


class _Builder:
    """From the empty text to all that may follow. A place is (part of the answer, how much of that part is said)."""

    def __init__(self, answer_format: AnswerFormat) -> None:
        notation = answer_format.notation
        velocity = Spelling(notation.velocity_decimals, notation.is_signed, notation.velocity_width, VELOCITY_DIGITS)
        curvature = Spelling(notation.curvature_decimals, notation.is_signed, 0, CURVATURE_DIGITS)
        pair: list[str | Spelling] = ["(", velocity, ", ", curvature, ")"]
        self.parts: list[str | Spelling] = ["[", *pair]
        for _ in range(answer_format.num_pairs - 1):
            self.parts += [", ", *pair]
        self.parts.append("]")

    def build(self) -> Grammar:
        states = {(0, self._begin(0)): 0}
        moves: list[dict[str, int]] = []
        places = list(states)
        for place in places:  # grows while it is walked
            found = self._follow(*place)
            places += [after for after in dict.fromkeys(found.values()) if after not in states]
            states |= {after: number for number, after in enumerate(places[len(states) :], len(states))}
            moves.append({char: states[after] for char, after in found.items()})
        max_chars = sum(len(part) if isinstance(part, str) else _longest(part) for part in self.parts)
        return Grammar(tuple(moves), states[len(self.parts), 0], max_chars)

    def _begin(self, part: int) -> int | _Number:
        is_number = part < len(self.parts) and isinstance(self.parts[part], Spelling)
        return _Number() if is_number else 0

    def _follow(self, part: int, said: int | _Number) -> dict[str, tuple[int, int | _Number]]:
        if part == len(self.parts):
            return {}
        spelled, after = self.parts[part], (part + 1, self._begin(part + 1))
        if isinstance(spelled, str):
            return {spelled[said]: after if said + 1 == len(spelled) else (part, said + 1)}
        numbers = _follow_number(spelled, said).items()
        return {char: after if number.decimals == spelled.decimals else (part, number) for char, number in numbers}


def _longest(spelling: Spelling) -> int:
    digits = spelling.is_signed + max(1, spelling.max_digits) + 1 + spelling.decimals
    return max(digits, spelling.width)


def _follow_number(spelling: Spelling, said: _Number) -> dict[str, _Number]:
    """The characters that may follow within a number, and what is said then."""
    if said.decimals >= 0:
        is_last = said.decimals + 1 == spelling.decimals
        return {
            digit: said._replace(
                decimals=said.decimals + 1, may_be_negative_zero=said.may_be_negative_zero and digit == "0"
            )
            for digit in _DIGITS
            if not (is_last and said.may_be_negative_zero and digit == "0")
        }
    found = {}
    least = max(1, spelling.width - said.is_negative - 1 - spelling.decimals)  # digits that the smallest number has
    if spelling.is_signed and not said.is_negative and not said.digits:
        found["-"] = _Number(is_negative=True, may_be_negative_zero=True)
    if said.digits < (least if said.has_leading_zero else max(least, spelling.max_digits)):
        for digit in _DIGITS:
            has_leading_zero = said.has_leading_zero or (digit == "0" and not said.digits)
            is_zero = said.may_be_negative_zero and digit == "0"
            found[digit] = _Number(said.is_negative, said.digits + 1, has_leading_zero, is_zero)
    if said.digits >= least:
        found["."] = _Number(may_be_negative_zero=said.may_be_negative_zero, decimals=0)
    return found
