"""What kind of value each JSON field holds, and whether an answer obeys its schema.

A JSON Schema (2020-12) says it: enum = category, with "x-ordered": true its values rise; boolean; number or integer,
with "x-tolerance"; array = set; any other string = words. Without a schema the references' values say it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.errors import DrivingError, RecordError

CATEGORY, ORDERED, BOOLEAN, NUMBER, SET, WORDS = "category", "ordered", "boolean", "number", "set", "words"
_MAX_CATEGORIES = 20
_MIN_ROWS_PER_CATEGORY = 3


@dataclass(frozen=True)
class Field:
    """One key of the object.

    Attributes:
        kind: how it is scored.
        levels: the values of an ordered field, lowest first.
        tolerance: by how much a number may be off.
    """

    kind: str
    levels: tuple[str, ...] = ()
    tolerance: float = 0.0


def guess_fields(objects: Sequence[Mapping[str, Any]]) -> dict[str, Field]:
    """The fields of the references, by the values they hold: a text that seldom comes again is words."""
    keys = list(dict.fromkeys(key for one in objects for key in one))
    return {key: Field(_guess_kind([one[key] for one in objects if key in one])) for key in keys}


def _guess_kind(values: Sequence[Any]) -> str:
    if all(isinstance(value, bool) for value in values):
        return BOOLEAN
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return NUMBER
    if all(isinstance(value, list) for value in values):
        return SET
    distinct = len({str(value).casefold() for value in values})
    is_few = distinct <= _MAX_CATEGORIES and distinct * _MIN_ROWS_PER_CATEGORY <= max(len(values), 6)
    return CATEGORY if is_few else WORDS


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON Schema that is one itself.

    Raises:
        RecordError: It cannot be read, or is no schema of an object with properties.
    """
    validators = _load_jsonschema()
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        validators.Draft202012Validator.check_schema(schema)
        schema["properties"].items()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, validators.SchemaError) as error:
        reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        raise RecordError(f"{path} is no JSON Schema of an object with properties ({reason}); mend it") from None
    return schema


def list_fields(schema: Mapping[str, Any]) -> dict[str, Field]:
    """The fields that a schema names, in its order."""
    return {name: _read_property(entry) for name, entry in schema["properties"].items()}


def _read_property(entry: Any) -> Field:
    entry = entry if isinstance(entry, dict) else {}
    if "enum" in entry:
        levels = tuple(str(value) for value in entry["enum"])
        return Field(ORDERED, levels) if entry.get("x-ordered") else Field(CATEGORY)
    kinds = {"boolean": BOOLEAN, "integer": NUMBER, "number": NUMBER, "array": SET}
    return Field(kinds.get(str(entry.get("type")), WORDS), tolerance=float(entry.get("x-tolerance", 0)))


def build_checker(schema: Mapping[str, Any]) -> Callable[[Any], str]:
    """A function: object -> "" where it obeys the schema, else the first thing that is wrong."""
    validator = _load_jsonschema().Draft202012Validator(schema)

    def check(value: Any) -> str:
        error = next(validator.iter_errors(value), None)
        return "" if error is None else f"{'/'.join(map(str, error.path)) or 'object'}: {error.message}"

    return check


def _load_jsonschema() -> Any:
    try:
        import jsonschema
    except ImportError:
        raise DrivingError("--schema needs jsonschema; run uv sync --inexact --extra text") from None
    return jsonschema


def order_fields(fields: Mapping[str, Field], orders: Sequence[str]) -> dict[str, Field]:
    """Fields with those of `--ordered field=low,medium,high` made ordered.

    Raises:
        RecordError: An order is not written so, or names a field that is not there.
    """
    changed = dict(fields)
    for order in orders:
        name, _, levels = order.partition("=")
        values = tuple(level.strip() for level in levels.split(",") if level.strip())
        if name not in fields or len(values) < 2:
            raise RecordError(
                f"--ordered {order!r} names no field with its values; write risk_factor=low,medium,high with one of "
                f"{', '.join(fields)}"
            )
        changed[name] = Field(ORDERED, values)
    return changed
