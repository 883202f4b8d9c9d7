"""The second track: how the vehicle moved during the clip, as one line of the prompt in front of the question.

    observed (T, 2) ──format_history──▶ "Ego motion during this clip, 30 pairs of (...), oldest first: [(12.3, ...)]"
    prompt ──read_history──▶ Trajectory
    record ──remove_history, replace_history, mirror_history──▶ what a control asks

It is spelled as the answer is: same notation, same rate, so that a model reads the numbers that it writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY, AnswerFormat, format_answer, parse_answer
from driving.errors import AnswerError, RecordError
from driving.prompts import HISTORY_HEAD, HISTORY_START
from driving.records import record_name
from driving.trajectory import Trajectory

# No part can match what its neighbour does: a hostile prompt costs time in its length only.
_LINE = re.compile(rf"^{re.escape(HISTORY_START)}[^\[\n]*(?P<pairs>\[[^\[\]\n]*\])\n", re.MULTILINE)


def build_question(answer_format: AnswerFormat, observed: Trajectory | None) -> str:
    """What the user turn says about one clip.

    Args:
        observed: the clip's own motion, at the answer's rate or a finer one; not looked at for video only.

    Raises:
        DrivingError: The format wants a history and there is none.
        AnswerError: It holds a value that is not finite, or cannot be averaged to the answer's rate.
    """
    if not answer_format.history_pairs or observed is None:
        return answer_format.question
    return format_history(answer_format, observed) + answer_format.instruction


def format_history(answer_format: AnswerFormat, observed: Trajectory) -> str:
    """The line, with its line break."""
    head = HISTORY_HEAD.format(num_pairs=answer_format.history_pairs, sign_hint=answer_format.notation.sign_hint)
    return f"{head}{format_answer(observed, answer_format)}\n"


def read_history(text: str, answer_format: AnswerFormat) -> Trajectory | None:
    """The motion that a prompt tells; None where it tells none.

    Raises:
        AnswerError: It is not the pairs of this format, strictly, or is told twice.
    """
    found = _LINE.findall(text)
    if not found:
        return None
    if len(found) > 1:
        raise AnswerError(f"the prompt tells the ego motion {len(found)} times")
    answer = parse_answer(found[0], answer_format)
    if answer.parsing != "strict":
        raise AnswerError(f"the ego motion in the prompt is not written as {answer_format.notation.pattern}")
    return answer.trajectory


def read_back(answer_format: AnswerFormat, observed: Trajectory) -> Trajectory:
    """The observed motion as far as the prompt tells it: rounded and averaged."""
    return parse_answer(format_answer(observed, answer_format), answer_format).trajectory


def check_track(record: dict[str, Any], answer_format: AnswerFormat) -> None:
    """Raise unless a training record's prompt tells the ego motion exactly where its format says so.

    Raises:
        RecordError: It does not, or tells it in another spelling.
    """
    prompt = find_prompt(record)
    try:
        told = read_history(prompt, answer_format)
    except AnswerError as error:
        raise RecordError(f"{record_name(record)}: the ego motion in the prompt cannot be read: {error}") from error
    check_told(record, is_told=bool(answer_format.history_pairs), tells=told is not None)


def check_told(record: dict[str, Any], *, is_told: bool, tells: bool | None = None) -> None:
    """`check_track` by the line alone: raise unless the prompt holds it exactly where it should.

    Raises:
        RecordError: The row is of the other track.
    """
    tells = tells_history(record) if tells is None else tells
    if tells != is_told:
        said, track = ("tells", VIDEO_ONLY) if tells else ("does not tell", EGO_HISTORY)
        raise RecordError(
            f"{record_name(record)}: its prompt {said} the ego motion, the answer format beside it is of the track "
            f"{track!r}; run prepare_huggingface_dataset.py and convert_to_training_format.py again"
        )


def explain_other_track(name: str, asked: dict[str, Any], other: str, others: dict[str, Any]) -> str:
    """One sentence where two answer formats, as JSON values, are of different tracks; "" where they are not."""
    tells = bool(asked.get("history_pairs"))
    if tells == bool(others.get("history_pairs")):
        return ""
    teller, silent = (name, other) if tells else (other, name)
    return f"{teller} tells the ego motion of the clip in its prompts, {silent} does not: these are two tracks"


def tells_history(record: dict[str, Any]) -> bool:
    """Whether a training record's prompt holds the line; cheap enough for millions of rows."""
    return _LINE.search(find_prompt(record)) is not None


def find_prompt(record: dict[str, Any]) -> str:
    """The user turns of a training record, as one text."""
    return "\n".join(str(turn["value"]) for turn in record["conversations"] if turn["from"] == "human")


def remove_history(record: dict[str, Any]) -> dict[str, Any]:
    """The same record without the line: the question of the video-only track."""
    return _edit(record, lambda line: "")


def replace_history(record: dict[str, Any], donor: dict[str, Any]) -> dict[str, Any]:
    """The same record with another record's line.

    Raises:
        RecordError: The other one has none.
    """
    found = _LINE.search(find_prompt(donor))
    if found is None:
        raise RecordError(f"{record_name(donor)}: its prompt tells no ego motion that another could be given")
    return _edit(record, lambda line: found.group())


def mirror_history(record: dict[str, Any], answer_format: AnswerFormat) -> dict[str, Any]:
    """The same record with left and right swapped in the line: every curvature negated."""

    def mirror(line: str) -> str:
        told = parse_answer(_LINE.fullmatch(line).group("pairs"), answer_format).trajectory
        return format_history(answer_format, Trajectory(told.velocity_mps, -told.curvature_per_m))

    return _edit(record, mirror)


def _edit(record: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    turns = [
        {**turn, "value": _LINE.sub(lambda match: change(match.group()), str(turn["value"]))}
        if turn["from"] == "human"
        else turn
        for turn in record["conversations"]
    ]
    return {**record, "conversations": turns}
