"""Tables that arrive in pieces of any size -> the same rows in pieces of one size: what is written does not depend on
how the input was cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def cut_pieces(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `num_rows` each, the last one smaller; nothing is copied."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    missing = num_rows
    for table in tables:
        start = 0
        while table.num_rows - start >= missing:
            yield pa.concat_tables([*waiting, table.slice(start, missing)])
            waiting, start, missing = [], start + missing, num_rows
        if table.num_rows > start:
            waiting.append(table.slice(start))
            missing -= waiting[-1].num_rows
    if waiting:
        yield pa.concat_tables(waiting)
