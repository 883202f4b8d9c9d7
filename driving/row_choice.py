"""Which rows stand for all: a seeded choice, spread over the recordings."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from driving.records import record_group, record_name


def choose_evenly(records: Sequence[dict[str, Any]], num_wanted: int, seed: int) -> list[int]:
    """Positions of rows, one of each recording in turn, in rising order; 0 takes all.

    A row is drawn by its id, so the choice does not depend on the order of the rows.
    """
    if num_wanted <= 0 or num_wanted >= len(records):
        return list(range(len(records)))
    by_group: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, record in enumerate(records):
        name = record_name(record)
        by_group[record_group(record)].append((_draw(seed, name), place))
    turns = [
        (turn, _draw(seed, group), place)
        for group, places in by_group.items()
        for turn, (_, place) in enumerate(sorted(places))
    ]
    return sorted(place for _, _, place in sorted(turns)[:num_wanted])


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
