"""One look through the light columns of an index: everything that is decided about a dataset is decided from this.

SegmentTable ──scan_index──▶ IndexScan: numbers and codes in arrays, names only where they repeat
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_prep.segment_table import SegmentTable
from data_prep.split_rows import Labeller, Labels, SplitRows
from driving.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

VIDEO_COLUMNS = ("video_path", "member", "video_start")
KIND_COLUMNS = ("height", "width", "source", "platform")
SHAPE_COLUMNS = ("fps", "num_frames")
NAME_COLUMNS = ("clip_uuid", "group", "split")
NEVER_NULL = ("segment_uuid", "clip_uuid", "group", "video_path", "start_second")
LIGHT_COLUMNS = (
    "segment_uuid", "start_second", "has_labels", *NAME_COLUMNS, *VIDEO_COLUMNS, *KIND_COLUMNS, *SHAPE_COLUMNS,
)  # fmt: skip


class Kind(NamedTuple):
    """What is counted of rows; None where the index does not say."""

    height: int | None
    width: int | None
    source: str | None
    platform: str | None


@dataclass(frozen=True)
class IndexScan:
    """The light columns of an index of N rows.

    Attributes:
        rows: what splitting needs, of every row.
        is_labelled: (N,) bool, False only where the index says so.
        kind_codes: (N,) int32 places in `kinds`.
        shapes: every (frames a second, frames) there is.
    """

    rows: SplitRows
    is_labelled: np.ndarray
    kind_codes: np.ndarray
    kinds: list[Kind]
    shapes: set[tuple[float, int]]


def scan_index(segments: SegmentTable, duration_s: float) -> IndexScan:
    """Read the light columns, a few thousand rows at a time.

    Args:
        duration_s: of a segment; the answered window is as long.
    """
    num_rows = segments.num_rows
    known = [name for name in LIGHT_COLUMNS if name in segments.columns]
    labellers = {name: Labeller() for name in NAME_COLUMNS}
    codes = {name: np.empty(num_rows, np.int32) for name in (*NAME_COLUMNS, "kind")}
    start_s, is_labelled = np.empty(num_rows), np.empty(num_rows, bool)
    segment_hashes, video_hashes = np.empty(num_rows, np.int64), np.empty(num_rows, np.int64)
    kinds: dict[Kind, int] = {}
    shapes: set[tuple[float, int]] = set()
    start = 0
    for piece in segments.iter_pieces(known):
        _check_present(segments, piece, start)
        here = slice(start, start + piece.num_rows)
        start += piece.num_rows
        for name in NAME_COLUMNS:
            codes[name][here] = _number(piece[name], labellers[name])
        found = [Kind(*values) for values in _iter_values(piece, KIND_COLUMNS)]
        codes["kind"][here] = [kinds.setdefault(kind, len(kinds)) for kind in found]
        shapes |= {(float(fps), int(num)) for fps, num in set(_iter_values(piece, SHAPE_COLUMNS))}
        start_s[here] = piece["start_second"].to_numpy()
        is_labelled[here] = [told is not False for (told,) in _iter_values(piece, ("has_labels",))]
        segment_hashes[here] = [hash(name) for name in piece["segment_uuid"].to_pylist()]
        video_hashes[here] = [hash(_name_video(*values)) for values in _iter_values(piece, VIDEO_COLUMNS)]
    recording, group, official = (Labels(codes[name], list(labellers[name].places)) for name in NAME_COLUMNS)
    rows = SplitRows(
        recording, group, official, start_s, start_s + 2 * duration_s, segment_hashes, video_hashes,
        lambda places: (name for (name,) in iter_rows(segments, places, ("segment_uuid",))),
        lambda places: (_name_video(*values) for values in iter_rows(segments, places, VIDEO_COLUMNS)),
    )  # fmt: skip
    return IndexScan(rows, is_labelled, codes["kind"], list(kinds), shapes)


def _check_present(segments: SegmentTable, piece: pa.Table, start: int) -> None:
    """Raise where a row lacks what no segment is without: a name, a recording, a group, a video, a time."""
    import pyarrow.compute as pc

    for name in NEVER_NULL:
        is_missing = pc.is_null(piece[name], nan_is_null=True).to_numpy()
        if is_missing.any():
            raise SourceError(
                f"row {start + int(np.argmax(is_missing))} of {segments.path} has no {name}; make the segments again"
            )


def iter_rows(segments: SegmentTable, places: np.ndarray, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Some columns of the rows at increasing `places`, read again."""
    if not len(places):
        return
    is_wanted = np.zeros(segments.num_rows, dtype=bool)
    is_wanted[places] = True
    for table in segments.iter_tables(is_wanted, [name for name in columns if name in segments.columns]):
        yield from _iter_values(table, columns)


def _iter_values(table: pa.Table, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows of some columns; None where the table lacks one."""
    names = set(table.column_names)
    lists = [table[name].to_pylist() if name in names else [None] * table.num_rows for name in columns]
    return zip(*lists, strict=True)


def _number(column: pa.ChunkedArray, labeller: Labeller) -> np.ndarray:
    """(n,) codes of names; nothing is told apart from an empty name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = pc.fill_null(column.cast(pa.string()), "").combine_chunks().dictionary_encode()
    return np.array(labeller.number(encoded.dictionary.to_pylist()), np.int32)[encoded.indices.to_numpy()]


def _name_video(path: str, member: str | None, start_s: float | None) -> str:
    return f"{path}:{member or ''}@{start_s or 0}"
