"""The four tasks: how each scores its rows, what it reads of a reference, and the answers that cannot know the clip.

build_task(name, rows, ...) -> Task; task.score(rows) -> Scored; task.constants(rows) -> rows with another answer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.text.controls import answer_all, choose_constants
from evaluation.text.measures import Measures
from evaluation.text.rows import TextRow, reference_texts

TASKS = ("json", "qa", "caption", "yesno")
Rows = Sequence[TextRow]
# Scores that are better when they are lower, and those that are neither good nor bad in themselves.
LOWER_IS_BETTER = {
    "count_mae", "unreadable", "repetition", "chair_i", "chair_s", "chair_sentence", "silent", "false_denials",
    "motion_false_denials", "motion_wrong_side", "unknown_keys", "mae", "steps_off", "missed_highest",
}  # fmt: skip
NEITHER = {"yes_ratio", "true_yes_ratio", "length_ratio", "objects_per_answer", "motion_claims_per_answer"}


@dataclass(frozen=True)
class Scored:
    """What a task says of rows.

    Attributes:
        measures: name -> score before its interval.
        facts: JSON values beside the scores.
        problems: row -> what is wrong with its answer, for the examples.
    """

    measures: Measures
    facts: dict[str, Any] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One kind of answer.

    Attributes:
        score: rows, always the same ones in the same order, with any answers -> Scored.
        constants: name of a control -> its rows.
        kind_of: the type of a row.
    """

    score: Callable[[Rows], Scored]
    constants: Callable[[Rows], dict[str, list[TextRow]]]
    kind_of: Callable[[TextRow], str] = lambda row: row.kind


def build_task(
    name: str,
    rows: Rows,
    *,
    schema: Path | None = None,
    ordered: Sequence[str] = (),
    ontology: str = "bdd100k",
    synonyms: Mapping[str, str] | None = None,
) -> Task:
    """The task of that name for these rows.

    Raises:
        RecordError: A reference, the schema or the ontology is not as the task needs it.
    """
    if name == "json":
        return _build_json(rows, schema, ordered, synonyms)
    if name == "caption":
        return _build_caption(ontology)
    return _build_qa(rows, synonyms) if name == "qa" else _build_yes_no()


def _build_json(
    rows: Rows, schema_path: Path | None, ordered: Sequence[str], synonyms: Mapping[str, str] | None
) -> Task:
    from evaluation.text.json_fields import build_constant_object, read_reference_objects, score_json
    from evaluation.text.schema import build_checker, guess_fields, list_fields, order_fields, read_schema

    truths = read_reference_objects(rows)
    schema = None if schema_path is None else read_schema(schema_path)
    fields = order_fields(guess_fields(truths) if schema is None else list_fields(schema), ordered)
    check = None if schema is None else build_checker(schema)
    constant = json.dumps(build_constant_object(truths), ensure_ascii=False)
    return Task(
        score=lambda given: Scored(*score_json(given, truths, fields, check, synonyms)),
        constants=lambda given: {"best_constant": answer_all(given, lambda row: constant)},
    )


def _build_qa(rows: Rows, synonyms: Mapping[str, str] | None) -> Task:
    from evaluation.text.questions import guess_type, score_questions

    def score(given: Rows) -> Scored:
        measures, facts = score_questions(given, synonyms)
        is_wrong = measures["with_synonyms"].columns[0] == 0
        return Scored(measures, facts, dict.fromkeys(is_wrong.nonzero()[0].tolist(), "no reference says so"))

    def constants(given: Rows) -> dict[str, list[TextRow]]:
        chosen = choose_constants(given, [reference_texts(row, "qa")[0].strip() for row in given])
        return {"best_constant": answer_all(given, lambda row: chosen[row.kind])}

    has_types = any(row.kind for row in rows)
    return Task(score, constants, (lambda row: row.kind) if has_types else guess_type)


def _build_yes_no() -> Task:
    from evaluation.text.yes_no import read_yes_no, score_yes_no

    def score(given: Rows) -> Scored:
        unreadable = [index for index, row in enumerate(given) if read_yes_no(row.text) is None]
        return Scored(*score_yes_no(given), dict.fromkeys(unreadable, "neither yes nor no"))

    return Task(
        score,
        lambda given: {f"always_{word}": answer_all(given, lambda row, word=word: word) for word in ("yes", "no")},
    )


def _build_caption(ontology_name: str) -> Task:
    from evaluation.text.captions import score_captions
    from evaluation.text.motion_claims import score_motion
    from evaluation.text.objects import score_objects
    from evaluation.text.ontology import load_ontology

    ontology = load_ontology(ontology_name)

    def score(given: Rows) -> Scored:
        measures: Measures = {}
        facts: dict[str, Any] = {}
        for part in (score_captions(given), score_objects(given, ontology), score_motion(given)):
            measures |= part[0]
            facts |= part[1]
        return Scored(measures, facts)

    return Task(score, lambda given: {})
