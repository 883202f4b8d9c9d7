"""Answers beside what they should have said: two files of JSON lines joined by id, nothing dropped.

    predictions.jsonl {"id", "text"}            ─┐
    references.jsonl  {"id", "group", ...}      ─┴─join─▶ TextRow, one a reference, in the references' order

A reference without an answer is an answer that said nothing. An answer without a reference is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.errors import RecordError

MAX_CHARACTERS = 20_000  # the longest of 446 published dash-cam captions has 712 words, about 4,500 characters
STATES = ("answered", "empty", "missing", "oversized")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TextRow:
    """One question, what was answered, and what is true.

    Attributes:
        id: of the row.
        group: what must not be split by a resample: the clip, ride or scene.
        text: the answer; "" unless `state` is "answered".
        reference: the whole line of the references' file.
        state: "answered"; "empty": nothing but spaces; "missing": no line; "oversized": longer than any honest answer.
    """

    id: str
    group: str
    text: str
    reference: dict[str, Any]
    state: str

    @property
    def kind(self) -> str:
        """The reference's "type"; "" where it has none."""
        return self.reference.get("type") or ""


def read_rows(predictions: Path, references: Path, max_characters: int = MAX_CHARACTERS) -> list[TextRow]:
    """Join two files of JSON lines.

    Raises:
        RecordError: A line is not JSON or lacks what it must hold, an id comes twice, or an answer has no reference.
    """
    answers = dict(read_lines(predictions))
    truths = dict(read_lines(references))
    for name, entry in answers.items():
        if not isinstance(entry.get("text"), str):
            raise RecordError(f'{predictions}: the answer of id {name!r} has no "text"; every line needs id and text')
    for name, entry in truths.items():
        check_reference(name, entry, references)
    strangers = sorted(set(answers) - set(truths))
    if strangers:
        raise RecordError(
            f"{len(strangers):,} of {len(answers):,} answers in {predictions} have no reference in {references} "
            f"(the first is id {strangers[0]!r}); add their references, or take the answers out"
        )
    if not truths:
        raise RecordError(f"{references} holds no reference; there is nothing to score")
    return [join_row(name, answers.get(name), truth, predictions, max_characters) for name, truth in truths.items()]


def join_row(
    name: str, answer: dict[str, Any] | None, truth: dict[str, Any], where: Path | str, max_characters: int
) -> TextRow:
    """One row; an answer that cannot be taken is an empty one whose `state` says why."""
    group = truth["group"]
    if answer is None:
        return TextRow(name, group, "", truth, "missing")
    if answer.get("group", group) != group:
        raise RecordError(
            f"{where}: id {name!r} is of group {answer['group']!r}, its reference says {group!r}; "
            "the two files are not of the same rows"
        )
    text = answer["text"]
    if len(text) > max_characters:
        return TextRow(name, group, "", truth, "oversized")
    if not text.strip():
        return TextRow(name, group, "", truth, "empty")
    return TextRow(name, group, text, truth, "answered")


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, line) of a file of JSON lines; blank lines are passed over.

    Half a surrogate pair, which no UTF-8 file can hold, becomes U+FFFD.

    Raises:
        RecordError: The file is not there, or a line is no object with an id of its own.
    """
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    entry = _parse_line(line, f"{path}, line {number:,}")
                    if entry["id"] in seen:
                        raise RecordError(
                            f"{path}, line {number:,}: id {entry['id']!r} is already on line {seen[entry['id']]:,}; "
                            "every row needs an id of its own"
                        )
                    seen[entry["id"]] = number
                    yield entry["id"], entry
    except (FileNotFoundError, IsADirectoryError):
        raise RecordError(f"{path} is not a file; it should hold one JSON object a line") from None
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}); save it as UTF-8"
        ) from None


def _parse_line(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{where} is not JSON ({error}): {line.strip()[:60]!r}; write one JSON object a line"
        ) from None
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        raise RecordError(f'{where} is no object with an "id" in quotes: {line.strip()[:60]!r}; give every row its id')
    return _mend_surrogates(entry)


def _mend_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mend_surrogates(part) for part in value]
    if isinstance(value, dict):
        return {_mend_surrogates(key): _mend_surrogates(part) for key, part in value.items()}
    return value


def check_reference(name: str, entry: dict[str, Any], where: Path | str) -> None:
    """Raise where a reference has no group, or keys of another type than every task expects."""
    if not isinstance(entry.get("group"), str) or not entry["group"]:
        raise RecordError(
            f'{where}: id {name!r} has no "group"; name its clip, ride or scene, which the intervals are drawn over'
        )
    if not isinstance(entry.get("type") or "", str):
        raise RecordError(f'{where}: id {name!r} has a "type" that is no text: {entry["type"]!r}; write it in quotes')


def reference_texts(row: TextRow, task: str) -> list[str]:
    """The texts that the answer is compared with: "texts", or the one "text".

    Raises:
        RecordError: There is none, or one of them is empty or not text.
    """
    texts = row.reference.get("texts", [row.reference.get("text")])
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise RecordError(
            f'the reference of id {row.id!r} has no "text" (or list of "texts") that says something; '
            f"--task {task} compares answers with it"
        )
    return texts


def reference_names(row: TextRow, key: str, allowed: Sequence[str]) -> list[str] | None:
    """A list of names such as "objects" or "motion"; None where the reference does not have it.

    Raises:
        RecordError: It is no list of names, or a name is not among `allowed`.
    """
    names = row.reference.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RecordError(f'the reference of id {row.id!r} has "{key}" that is no list of names: {names!r:.80}')
    for name in names:
        if name not in allowed:
            raise RecordError(
                f'the reference of id {row.id!r} has {name!r} in "{key}"; known are {", ".join(sorted(allowed))}'
            )
    return names
