"""The index of segments, read back in pieces: one parquet, its JSON twin, or the parquets of all chunks.

open_segments(path) ──▶ SegmentTable ──iter_pieces(columns)──▶ Arrow tables of 2,000 rows, whatever the files are
                                     ──iter_tables(is_wanted)──▶ of them the wanted rows
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.chunks import CHUNK_FOLDER
from data_prep.pieces import cut_pieces
from driving.errors import SourceError
from driving.ledger import MANIFEST_NAME, PLAN_NAME, read_manifest
from driving.whole_files import read_json

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_NAME = "segments.parquet"
REQUIRED = (
    "segment_uuid", "clip_uuid", "start_second", "video_path", "fps", "num_frames", "group", "split",
    "targets", "observed", "future_pose",
)  # fmt: skip
BATCH_ROWS = 2_000
READ_BYTES = 2**16  # at a time, of each column


@dataclass(frozen=True)
class SegmentTable:
    """One index of segments.

    Attributes:
        path: the file that was found, or the folder of chunks.
        columns: names of its columns.
        num_rows: rows in it.
        table: the rows themselves where they came as JSON; None for parquet, which is read in pieces.
    """

    path: Path
    columns: tuple[str, ...]
    num_rows: int
    table: pa.Table | None = None

    def read_rows(self, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns as lists; one that the index lacks is a list of None. Not for millions of rows."""
        known = [name for name in columns if name in self.columns]
        read: dict[str, list[Any]] = {name: [] if name in known else [None] * self.num_rows for name in columns}
        for piece in self.iter_pieces(known):
            for name in known:
                read[name] += piece[name].to_pylist()
        return read

    def count_labels(self) -> np.ndarray:
        """(num_rows,) int64 target samples of each row, 0 where it has no labels."""
        import pyarrow.compute as pc

        counts = [
            pc.fill_null(pc.list_value_length(piece["targets"]), 0).to_numpy()
            for piece in self.iter_pieces(["targets"])
        ]
        return np.concatenate(counts).astype(np.int64)

    def iter_tables(
        self, is_wanted: Sequence[bool] | np.ndarray, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """Tables of the wanted rows, in the index's order, a few thousand rows at a time."""
        import pyarrow as pa

        wanted, start = np.asarray(is_wanted, dtype=bool), 0
        for piece in self.iter_pieces(columns):
            mask = wanted[start : start + piece.num_rows]
            start += piece.num_rows
            if mask.any():
                yield piece.filter(pa.array(mask))

    def iter_pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, BATCH_ROWS at a time (fewer at the end): the pieces do not depend on how the files cut them."""
        if self.table is not None:
            tables = iter([self.table if columns is None else self.table.select(columns)])
        else:
            tables = self._iter_files(self.columns if columns is None else columns)
        return cut_pieces(tables, BATCH_ROWS)

    def _iter_files(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for file in list_files(self.path):
            # With pre_buffer all that was read of the file stays in memory until it is closed; threads gain nothing.
            with pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES) as parquet:
                for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=list(columns), use_threads=False):
                    # In one order in every file.
                    yield pa.Table.from_batches([batch]).select(list(columns))

    def sha256(self) -> str:
        """The index file's hash, or that of its files' hashes: what a dataset made from it is bound to."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        hashes = []
        for file in list_files(self.path):
            with file.open("rb") as handle:
                hashes.append(hashlib.file_digest(handle, "sha256").hexdigest())
        return hashes[0] if self.path.is_file() else hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """The folder of the segments; for a bare index the file itself."""
        folders = (self.path.parent, self.path.parent.parent)
        return next((folder for folder in folders if (folder / MANIFEST_NAME).is_file()), self.path)

    def read_plan(self) -> dict[str, Any]:
        """How the segments were made, where their folder says so; {} for a bare index file."""
        return {} if self.folder == self.path else read_manifest(self.folder)["plan"]


def list_files(index: Path) -> list[Path]:
    """The files of an index, in the order of their rows."""
    return sorted(index.glob("*.parquet")) if index.is_dir() else [index]


def open_segments(path: Path) -> SegmentTable:
    """Find and check an index: a parquet or JSON file, or the folder (or its metadata/) that holds one.

    Where many rows stand in metadata/chunks/, the name of the one file that is not there finds them too.

    Raises:
        SourceError: There is none, it is not finished, not readable, empty, or made by another tool.
    """
    index = _find_index(path)
    table = _read_json_table(index) if index.suffix == ".json" else None
    columns, num_rows = (tuple(table.column_names), table.num_rows) if table is not None else _read_shape(index)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise SourceError(
            f"{index} has no column {', '.join(missing)}: it was not made by this version of "
            "prepare_video_segments.py; make the segments again"
        )
    if num_rows == 0:
        raise SourceError(f"{index} lists no segment; see skipped.jsonl beside it for the reasons")
    return SegmentTable(index, columns, num_rows, table)


def _find_index(path: Path) -> Path:
    candidates = [path] if path.suffix in (".parquet", ".json") else [path / INDEX_NAME, path / "metadata" / INDEX_NAME]
    if path.suffix not in (".parquet", ".json"):
        candidates += [folder / "segments.json" for folder in (path, path / "metadata")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    folders = (path, *path.parents[:2])
    for folder in folders:
        chunks = folder / CHUNK_FOLDER
        if (folder / MANIFEST_NAME).is_file() and any(chunks.glob("*.parquet")):
            return chunks
    for folder in folders:
        if (folder / PLAN_NAME).is_file() and not (folder / MANIFEST_NAME).is_file():
            raise SourceError(f"the segments in {folder} are not finished; run prepare_video_segments.py again")
    raise SourceError(
        f"there is no index of segments at {path}; run prepare_video_segments.py, or pass --segments-path"
    )


def _read_shape(index: Path) -> tuple[tuple[str, ...], int]:
    """(names of the columns, rows) of a parquet file, or of all files of a folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_rows = 0
    for file in list_files(index):
        try:
            with pq.ParquetFile(file) as parquet:
                names = tuple(parquet.schema_arrow.names)
                num_rows += parquet.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{file} cannot be read as parquet ({error}); make the segments again") from error
    return names, num_rows


def _read_json_table(index: Path) -> pa.Table:
    import pyarrow as pa

    rows = read_json(index, "make the segments again", SourceError)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{index} is not a list of segments; pass the segments.json of prepare_video_segments.py")
    try:
        return pa.Table.from_pylist(rows, schema=None) if rows else pa.table({name: [] for name in REQUIRED})
    except pa.ArrowInvalid as error:
        raise SourceError(f"{index} mixes types in a column ({error}); make the segments again") from error
