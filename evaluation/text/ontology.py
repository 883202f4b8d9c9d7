"""Which words name which object: BDD100K's and nuScenes' classes, or a file of your own.

An ontology file is JSON: "classes" {name: {"labels": [dataset's own names], "words": [...]}}; "generic" {name:
{"members": [classes], "words": [...]}} for words such as "vehicle" that are true where any member is there;
"not_objects" [phrases] in which such a word names no object: "bus stop", "ego vehicle".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from driving.errors import RecordError

BUILT_IN = ("bdd100k", "nuscenes")
_FOLDER = Path(__file__).parent / "ontologies"


@dataclass(frozen=True)
class Ontology:
    """Names of objects.

    Attributes:
        members: name of a class or generic word -> the classes that make it true (itself, for a class).
        meaning: word or phrase -> name in `members`; "" for phrases that name no object.
        labels: a dataset's name of an object -> class.
    """

    members: dict[str, frozenset[str]]
    meaning: dict[str, str]
    labels: dict[str, str]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds the longest phrase at each place, singular or plural, with a space or a dash between its words."""
        phrases = sorted(self.meaning, key=len, reverse=True)
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(_phrase_pattern, phrases))})(?!\w)", re.IGNORECASE)

    def name_of(self, phrase: str) -> str:
        """The name behind a phrase that `pattern` found; "" where it names no object."""
        plain = re.sub(r"[\s-]+", " ", phrase.lower())
        singulars = [plain, plain.removesuffix("s"), plain.removesuffix("es"), re.sub(r"ies$", "y", plain)]
        return next(self._plain_meaning[one] for one in singulars if one in self._plain_meaning)

    @cached_property
    def _plain_meaning(self) -> dict[str, str]:
        return {phrase.lower().replace("-", " "): name for phrase, name in self.meaning.items()}


def _phrase_pattern(phrase: str) -> str:
    words = [re.escape(word) for word in re.split(r"[\s-]+", phrase)]
    if phrase.endswith("y"):
        return r"[\s-]+".join(words)[:-1] + "(?:y|ies)"
    return r"[\s-]+".join(words) + "(?:es|s)?"


def load_ontology(name: str) -> Ontology:
    """A built-in ontology by name, or one from a JSON file.

    Raises:
        RecordError: It is neither, or the file is not of the shape above.
    """
    path = _FOLDER / f"{name}.json" if name in BUILT_IN else Path(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{name!r} is no ontology ({error}); name one of {', '.join(BUILT_IN)} or a JSON file made like "
            f"{_FOLDER / 'bdd100k.json'}"
        ) from None
    try:
        return _build(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} is not made like {_FOLDER / 'bdd100k.json'}: {error!r}; mend it") from None


def _build(content: dict[str, Any]) -> Ontology:
    classes, generic = content["classes"], content.get("generic", {})
    members = {name: frozenset((name,)) for name in classes}
    members |= {name: frozenset(entry["members"]) for name, entry in generic.items()}
    unknown = sorted(set().union(*members.values()) - set(classes))
    if unknown:
        raise KeyError(f"{unknown[0]} is a member of a generic word and no class")
    meaning = {word: name for name, entry in {**generic, **classes}.items() for word in entry["words"]}
    meaning |= dict.fromkeys(content.get("not_objects", ()), "")
    labels = {label: name for name, entry in classes.items() for label in (name, *entry["labels"])}
    return Ontology(members, meaning, labels)
