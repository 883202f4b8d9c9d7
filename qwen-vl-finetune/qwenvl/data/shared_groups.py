"""Recordings that are learned from and held out at once: what a score on them says is worth nothing.

rows of all datasets + the val and test JSON beside them ──groups by dataset──▶ pairs that share recordings
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from driving.records import record_group
from qwenvl.data import DatasetUse
from qwenvl.data.dataset import read_records
from qwenvl.data.rows import Rows

HELD_OUT = ("val", "valid", "validation", "eval", "test")  # file and dataset names end so
# Which evaluation takes from the folder of a training JSON; .index where rows point into recordings.
FILES_BESIDE = ("val.json", "val.index.json", "test.json", "test.index.json")


def list_unique(rows: Rows) -> Iterator[tuple[dict[str, Any], str]]:
    """(record, its dataset's name), each once however large its share is."""
    seen = set()
    for record, name in zip(rows.records, rows.names, strict=True):
        if id(record) not in seen:
            seen.add(id(record))
            yield record, name


def find_shared_groups(rows: Rows, uses: Sequence[DatasetUse]) -> dict[str, list[str]]:
    """{"train and val": recordings in both}, for pairs of which one is held out; beside the datasets named, also
    those that evaluation would take from their folders.
    """
    groups: dict[str, set[str]] = {}
    for record, name in list_unique(rows):
        groups.setdefault(name, set()).add(record_group(record))
    named = {use.annotation_path.resolve() for use in uses}
    for use in uses:
        for path in (use.annotation_path.parent / name for name in FILES_BESIDE):
            if path.exists() and path.resolve() not in named and not is_held_out(use.annotation_path.name):
                groups[str(path)] = {record_group(record) for record in read_records(path)}
    shared = {}
    for one, other in combinations(groups, 2):
        common = groups[one] & groups[other]
        if common and (is_held_out(one) or is_held_out(other)):
            shared[f"{one} and {other}"] = sorted(common)
    return shared


def is_held_out(name: str) -> bool:
    """Whether a dataset's name or file says that nothing may be learned from it."""
    stem = name.rsplit("/", 1)[-1].removesuffix(".jsonl").removesuffix(".json").removesuffix(".index").lower()
    return stem.replace("-", "_").rsplit("_", 1)[-1] in HELD_OUT
