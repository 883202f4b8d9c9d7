"""JSON answers: how many can be read, how many obey the schema, and how right each field is.

    text ──json_answers──▶ object ──schema──▶ valid? ──fields──▶ exact, as meant, F1, kappa, ...   B = rows

A field that an answer lacks, or an answer that cannot be read, is wrong, never left out. Repaired answers are counted,
and their fields are wrong too: what has to be repaired is not what was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from driving.errors import RecordError
from evaluation.text.json_answers import BARE, EMBEDDED, FAILED, PARSINGS, REPAIRED, ParsedJson, parse_json_answer
from evaluation.text.json_values import ABSENT, count_outside, score_field
from evaluation.text.measures import Measures, mean_of, ratio_of
from evaluation.text.normalise import Synonyms
from evaluation.text.rows import TextRow
from evaluation.text.schema import ORDERED, Field

READ = (BARE, EMBEDDED)


def read_reference_objects(rows: Sequence[TextRow]) -> list[dict[str, Any]]:
    """The true objects: "fields", or the object in "text".

    Raises:
        RecordError: A reference holds neither.
    """
    return [_read_reference(row) for row in rows]


def _read_reference(row: TextRow) -> dict[str, Any]:
    fields = row.reference.get("fields")
    if isinstance(fields, dict) and fields:
        return fields
    text = row.reference.get("text")
    parsed = parse_json_answer(text) if isinstance(text, str) else ParsedJson(FAILED, None, "there is no text")
    if parsed.parsing not in READ or not parsed.value:
        raise RecordError(
            f'the reference of id {row.id!r} has no object "fields", and no readable one in "text" ({parsed.error}); '
            "--task json compares answers with it"
        )
    return parsed.value


def score_json(
    rows: Sequence[TextRow],
    truths: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Field],
    check: Callable[[Any], str] | None,
    synonyms: Mapping[str, str] | None = None,
) -> tuple[Measures, dict[str, Any], dict[int, str]]:
    """Scores of B answers, facts about them, and what is wrong with which.

    `bare`, `readable` (bare or embedded), `readable_repaired` (with small mendings too); the same three of those that
    obey the schema where there is one; `key_coverage`, keys of the truth that the answer has; `unknown_keys`, of the
    answer's keys those that no field knows; `field/NAME/...` of each field; `fields_exact` and `fields_as_meant`, the
    plain mean over fields.
    """
    parsed = [parse_json_answer(row.text) for row in rows]
    said = [one.value if one.parsing in READ else {} for one in parsed]
    problems = [one.error if one.value is None or check is None else check(one.value) for one in parsed]
    measures: Measures = {}
    for name, levels in (("bare", (BARE,)), ("readable", READ), ("readable_repaired", (*READ, REPAIRED))):
        taken = [one.parsing in levels for one in parsed]
        measures[name] = mean_of(taken)
        if check is not None:
            measures[f"valid_{name}"] = mean_of([ok and not bad for ok, bad in zip(taken, problems)])
    measures["key_coverage"] = ratio_of(
        [len(set(one) & set(true)) for one, true in zip(said, truths)], list(map(len, truths))
    )
    unknown = [len(set(one) - set(fields)) for one in said]
    measures["unknown_keys"] = ratio_of(unknown, list(map(len, said)))
    values = {name: [true.get(name, ABSENT) for true in truths] for name in fields}
    foldings = {
        name: Synonyms(synonyms, (str(one) for one in found if one is not ABSENT)) for name, found in values.items()
    }
    by_field = {
        name: score_field([one.get(name, ABSENT) for one in said], values[name], field, foldings[name])
        for name, field in fields.items()
        if any(one is not ABSENT for one in values[name])
    }
    for rule in ("exact", "as_meant"):
        columns = [found[rule].columns[0] for found in by_field.values() if rule in found]
        if columns:
            measures[f"fields_{rule}"] = _mean_over_fields(columns)
    for name, found in by_field.items():
        measures |= {f"field/{name}/{rule}": one for rule, one in found.items()}
    counts = Counter(one.parsing for one in parsed)
    outside = {
        name: count_outside(values[name], field, foldings[name])
        for name, field in fields.items()
        if field.kind == ORDERED
    }
    facts = {
        "parsings": {name: counts[name] for name in PARSINGS},
        "fields": {name: field.kind for name, field in fields.items()},
        "references_outside_levels": {name: num for name, num in outside.items() if num},
        "commonest_problems": dict(Counter(_shorten(problem) for problem in problems if problem).most_common(5)),
        "commonest_values": {name: _find_commonest(said, truths, name) for name in fields},
    }
    return measures, facts, {index: problem for index, problem in enumerate(problems) if problem}


def _mean_over_fields(columns: Sequence[np.ndarray]) -> Any:
    table = np.array(columns)
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return mean_of(np.where(known, table, 0).sum(axis=0) / known.sum(axis=0))


def _find_commonest(said: Sequence[Mapping], truths: Sequence[Mapping], name: str) -> dict[str, Any]:
    """The value said most and the value true most, with their shares: a model that always says one shows here."""
    result = {}
    for who, objects in (("answers", said), ("references", truths)):
        values = Counter(repr(one[name])[:80] for one in objects if name in one)
        if values:
            value, num = values.most_common(1)[0]
            result[who] = {"value": value, "share": num / len(objects)}
    return result


def _shorten(problem: str) -> str:
    return problem if len(problem) <= 80 else problem[:77] + "..."


def build_constant_object(truths: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The object whose every field is the commonest one of the references."""
    keys = list(dict.fromkeys(key for true in truths for key in true))
    commonest = {}
    for key in keys:
        values = [true[key] for true in truths if key in true]
        most = Counter(map(repr, values)).most_common()
        word = min((text for text, num in most if num == most[0][1]))
        commonest[key] = next(value for value in values if repr(value) == word)
    return commonest
