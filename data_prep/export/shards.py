"""Rows in shards of equal number, so that what lies where is known before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def count_shards(num_rows: int, shard_rows: int) -> int:
    """How many shards so many rows make; the last may be smaller."""
    return -(-num_rows // shard_rows)


def iter_shards(rows: Iterable[T], shard_rows: int) -> Iterator[tuple[int, list[T]]]:
    """(number, rows) of one shard after the other, one in memory at a time."""
    waiting, number = iter(rows), 0
    while shard := list(islice(waiting, shard_rows)):
        yield number, shard
        number += 1
