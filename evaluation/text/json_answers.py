"""A JSON object out of a model's answer, and how much it took to get it.

    bare      the answer is the object and nothing else
    embedded  exactly one object stands in prose or in a code fence
    repaired  the same after mending commas before a bracket, quotes, and Python's True, False, None
    failed    none, two, cut off, or broken in another way

Never closed where it is cut, never guessed: JSON with a key twice, NaN or a number beyond every float is broken.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

BARE, EMBEDDED, REPAIRED, FAILED = "bare", "embedded", "repaired", "failed"
PARSINGS = (BARE, EMBEDDED, REPAIRED, FAILED)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True)
class ParsedJson:
    """An answer as it was read.

    Attributes:
        parsing: one of PARSINGS.
        value: the object, None when failed.
        error: why it failed, or why it had to be repaired.
    """

    parsing: str
    value: dict[str, Any] | None
    error: str = ""


def parse_json_answer(text: str) -> ParsedJson:
    """Read the one object that an answer holds."""
    if not text.strip():
        return ParsedJson(FAILED, None, "the answer is empty")
    spans = _find_objects(text)
    if len(spans) != 1:
        return ParsedJson(FAILED, None, _explain_spans(text, len(spans)))
    span = spans[0]
    try:
        return ParsedJson(BARE if span == text.strip() else EMBEDDED, _load(span))
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    mended = _repair(span)
    return ParsedJson(FAILED, None, reason) if mended is None else ParsedJson(REPAIRED, mended, reason)


def _find_objects(text: str) -> list[str]:
    """Pieces of a text from an opening brace to the one that closes it, outermost only."""
    found, depth, start, is_in_string, skip = [], 0, 0, False, False
    for place, char in enumerate(text):
        if skip:
            skip = False
        elif is_in_string:
            skip = char == "\\"
            is_in_string = char != '"'
        elif char == '"' and depth:
            is_in_string = True
        elif char == "{":
            start = start if depth else place
            depth += 1
        elif char == "}" and depth:
            depth -= 1
            if not depth:
                found.append(text[start : place + 1])
    return found


def _explain_spans(text: str, num: int) -> str:
    if num:
        return f"the answer holds {num} objects, asked was one"
    return "the object is not closed" if "{" in text else "the answer holds no object"


def _load(text: str) -> dict[str, Any]:
    return json.loads(text, object_pairs_hook=_check_pairs, parse_constant=_refuse_constant, parse_float=_check_float)


def _check_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
    if twice is not None:
        raise ValueError(f"key {twice!r} comes twice")
    return dict(pairs)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _check_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond every float")
    return value


def _repair(text: str) -> dict[str, Any] | None:
    """The object after small mendings that change no value; None where they do not help."""
    straight = text.translate(_QUOTES)
    try:
        return _load(_mend_outside_strings(straight))
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(straight.strip(), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                _check_pairs([(ast.literal_eval(key), None) for key in node.keys if key is not None])
        # A dictionary as Python prints it; json's text of it is read again, so that its rules hold here too.
        return _load(json.dumps(ast.literal_eval(tree), allow_nan=False))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _mend_outside_strings(text: str) -> str:
    parts, last = [], 0
    for match in _STRING.finditer(text):
        parts += [_mend(text[last : match.start()]), match.group()]
        last = match.end()
    return "".join([*parts, _mend(text[last:])])


def _mend(text: str) -> str:
    plain = re.sub(r",(\s*[}\]])", r"\1", text)
    return re.sub(r"\b(True|False|None)\b", lambda match: _PYTHON_WORDS[match.group()], plain)
