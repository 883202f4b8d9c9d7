"""A training row as it would read had the road been built the other way round: left is right, and right is left.

    record ──mirror_record──▶ record whose answer, ego history and words are of the mirrored frames, or None

None where no such text is known: what is written on a sign, a place in the picture, a compass. Who asks for a mirror
then shows the row as it is. Frames are mirrored by `mirror_frames`. Mirroring twice gives the row back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.answer_format import AnswerFormat, count_pairs, format_answer, parse_answer
from driving.ego_history import find_prompt, mirror_history, read_history
from driving.errors import AnswerError
from driving.prompts import HISTORY_START
from driving.records import MEDIA, Record, media_paths
from driving.trajectory import Trajectory

_SIDE = re.compile(r"(?<![a-z])(left|right)(?=(?:most|wards?|hand)?(?![a-z]))", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}
_HARMLESS = re.compile(r"bright\w*|upright|copyright|outright|leftover\w*|rightly|cleft", re.IGNORECASE)
_ANY_SIDE = re.compile(r"left|right", re.IGNORECASE)
# "positive = left": what the sign of a number means. The numbers are negated, so the words stay.
_MEANING = r"\b(?:positive|negative)\b[^.;\n()\[\]]{0,24}?\b(?:left|right)\b"
# Left and right that are no sides. "turn right before the bridge" is one.
_NO_SIDE = re.compile(
    r"\bright[- ]of[- ]way\b|(?<!turn )(?<!turns )(?<!turning )\bright (?:now|away|before|after|behind|there|here|at|"
    r"ahead|angles?)\b|\ball right\b|\balright\b|\brights\b|\bright\s*[?!]|"
    r"\b(?:left|right)[- ]hand[- ](?:traffic|drive)\b|"
    r"\b(?:has|have|had|is|are|was|were|time|seconds?|metres?|meters?|nothing|room|space|distance) left\b(?! of\b)"
    r"|\bleft (?:over|behind|the|a|an|its|his|her|their)\b",
    re.IGNORECASE,
)
# What a mirror changes and no swap of words mends: writing, places in the picture, the compass, senses of rotation.
_UNMIRRORED = re.compile(
    r"\b(?:signs?|signage|signposts?|text|letters?|written|writing|reads?|reading|says?|plates?|logos?|words?|captions?|"
    r"speed limits?|(?:anti-?|counter-?)?clockwise|o'clock|north\w*|south\w*|east\w*|west\w*|bbox\w*|box|boxes|pixels?|"
    r"coordinates?|steering angle|yaw|lateral|heading|country|nearside|offside|passenger|driver'?s side|"
    r"lane \d|(?:first|second|third) lane)\b|<\|?(?:box|ref|point)|"
    r"[\[({]\s*-?\d+(?:\.\d+)?\s*,|[\"\u201c\u201d\u00ab\u00bb]",
    re.IGNORECASE,
)


def mirror_frames(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) -> the same with its columns in the other order; a view."""
    return frames[:, :, ::-1]


def mirror_record(record: Record, answer_format: AnswerFormat | None) -> Record | None:
    """The row that belongs to the mirrored frames; None where there is no such text.

    In a row that answers in pairs, every curvature of answer and ego history is negated; the words of the dataset's own
    question and system turn define those numbers, so they stay. In all other text left and right change places.

    Args:
        answer_format: how the row's pairs are written; None where its dataset has no format.
    """
    if sum(len(media_paths(record, kind)) for kind in MEDIA) != 1:
        return None  # of several cameras or moments: which would have to change places too?
    try:
        if answer_format is not None:
            told = read_history(find_prompt(record), answer_format)
            if told is not None:
                record = mirror_history(record, answer_format)
        turns = [_mirror_turn(turn, answer_format) for turn in record["conversations"]]
    except AnswerError:
        return None
    if any(turn is None for turn in turns):
        return None
    return {**record, "conversations": turns}


def _mirror_turn(turn: dict[str, Any], answer_format: AnswerFormat | None) -> dict[str, Any] | None:
    text = str(turn["value"])
    if turn["from"] == "system":  # the same for all rows; one that takes a side of its own has no mirror image
        is_own = answer_format is not None and text == answer_format.system_prompt
        return turn if is_own or not _ANY_SIDE.search(_HARMLESS.sub("", text)) else None
    if answer_format is not None and turn["from"] == "gpt" and count_pairs(text):
        answer = parse_answer(text, answer_format)
        if answer.parsing != "strict" or format_answer(answer.trajectory, answer_format) != text:
            return None
        mirrored = Trajectory(answer.trajectory.velocity_mps, -answer.trajectory.curvature_per_m)
        return {**turn, "value": format_answer(mirrored, answer_format)}
    kept = _own_texts(answer_format) if turn["from"] == "human" else []
    mirrored_text = mirror_text(text, kept)
    return None if mirrored_text is None else {**turn, "value": mirrored_text}


def _own_texts(answer_format: AnswerFormat | None) -> list[str]:
    """Patterns of what a dataset says in every prompt, and of the ego motion, which is mirrored as numbers."""
    if answer_format is None:
        return []
    own = [re.escape(text) for text in (answer_format.system_prompt, answer_format.instruction) if text]
    return [*own, rf"^{re.escape(HISTORY_START)}[^\n]*$"]


def mirror_text(text: str, kept: Sequence[str] = ()) -> str | None:
    """Left and right change places, in English; None where that would not make it true of the mirrored frames.

    Args:
        kept: patterns of the parts that stay as they are.
    """
    parts = re.split(f"({'|'.join([_MEANING, *kept])})", text, flags=re.MULTILINE | re.IGNORECASE)
    for place in range(0, len(parts), 2):  # the others are what stays
        part = parts[place]
        swapped = _SIDE.sub(lambda match: _match_case(_OTHER[match.group().lower()], match.group()), part)
        # The swapped text too: what cannot be mirrored back was no mirror image.
        if any(pattern.search(each) for pattern in (_NO_SIDE, _UNMIRRORED) for each in (part, swapped)):
            return None
        is_english = not any(letter.isalpha() and not letter.isascii() for letter in part)
        if not is_english or len(_ANY_SIDE.findall(_HARMLESS.sub("", part))) != len(_SIDE.findall(part)):
            return None
        parts[place] = swapped
    return "".join(parts)


def _match_case(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word
