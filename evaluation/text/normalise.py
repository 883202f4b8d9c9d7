"""Two spellings of one answer: what counts as the same, in three steps that are reported apart.

    text ──trim──▶ exact ──normalise_answer──▶ case, punctuation, articles, number words ──Synonyms──▶ bike = bicycle

Each step can only forgive more than the one before; none looks inside a sentence for the answer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from driving.errors import RecordError

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_NUMBERS.split())}
ARTICLES = frozenset(("a", "an", "the"))
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_WORD = re.compile(r"-?\d+(?:\.\d+)?|[^\W_]+(?:['\u2019][^\W_]+)*")
# Source: the words that a zero-shot Qwen3-VL gave on NuScenes-QA for answers of the vocabulary, and their like.
DRIVING_SYNONYMS = {
    "bike": "bicycle", "bikes": "bicycle", "bicycles": "bicycle", "cyclist": "bicycle", "cycle": "bicycle",
    "motorbike": "motorcycle", "motorbikes": "motorcycle", "motorcycles": "motorcycle", "scooter": "motorcycle",
    "automobile": "car", "sedan": "car", "suv": "car", "cars": "car", "taxi": "car",
    "lorry": "truck", "trucks": "truck", "pickup": "truck", "pickup truck": "truck", "buses": "bus", "coach": "bus",
    "person": "pedestrian", "people": "pedestrian", "pedestrians": "pedestrian", "human": "pedestrian",
    "cone": "traffic cone", "cones": "traffic cone", "traffic cones": "traffic cone", "barriers": "barrier",
    "trailers": "trailer", "excavator": "construction vehicle", "construction vehicles": "construction vehicle",
    "halted": "stopped", "stationary": "stopped", "not moving": "stopped", "in motion": "moving", "driving": "moving",
    "yeah": "yes", "yep": "yes", "true": "yes", "correct": "yes", "nope": "no", "false": "no", "incorrect": "no",
    "none": "0", "no cars": "0",
}  # fmt: skip


def split_words(text: str) -> list[str]:
    """Lower-case words and numbers of a text; punctuation falls away, a minus stays with its number.

    >>> split_words("The SUV doesn't stop: 12.5 m!")
    ['the', 'suv', "doesn't", 'stop', '12.5', 'm']
    """
    plain = unicodedata.normalize("NFKC", text).translate(_DASHES).casefold()
    return _WORD.findall(plain)


def normalise_answer(text: str) -> str:
    """A short answer without case, punctuation, articles and number words.

    >>> normalise_answer(" The Bus. "), normalise_answer("Two"), normalise_answer("−3")
    ('bus', '2', '-3')
    """
    words = [NUMBER_WORDS.get(word, word) for word in split_words(text)]
    return " ".join([word for word in words if word not in ARTICLES] or words)


class Synonyms:
    """Which normalised answers mean another one.

    Args:
        pairs: spelling -> what it means, always obeyed; None = the driving words, of which none is used that the
            references themselves give as an answer: "person" and "pedestrian" stay two answers where they tell them
            apart.
        vocabulary: answers of the references.
    """

    def __init__(self, pairs: Mapping[str, str] | None, vocabulary: Iterable[str] = ()) -> None:
        kept = {normalise_answer(word) for word in vocabulary} if pairs is None else set()
        self._meaning = {
            normalise_answer(word): normalise_answer(meaning)
            for word, meaning in (DRIVING_SYNONYMS if pairs is None else pairs).items()
            if normalise_answer(word) not in kept
        }

    def fold(self, text: str) -> str:
        """The normalised answer, or what it is a synonym of."""
        plain = normalise_answer(text)
        return self._meaning.get(plain, plain)


def read_synonyms(path: Path) -> dict[str, str]:
    """Spelling -> meaning from a JSON object.

    Raises:
        RecordError: The file is not there or is no object of texts.
    """
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path} cannot be read as synonyms ({error}); write a JSON object of spelling: meaning"
        ) from None
    if not isinstance(pairs, dict) or not all(isinstance(meaning, str) for meaning in pairs.values()):
        raise RecordError(f'{path} is no JSON object of spelling: meaning, such as {{"moderate": "medium"}}')
    return pairs
