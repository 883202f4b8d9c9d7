"""From finished chunks to the index: one `segments.parquet` with `segments.json` where it is small, else the chunks.

metadata/chunks/*.json ──count_chunks──▶ ChunkCounts ──write_index──▶ metadata/chunks.jsonl, the completion manifest
metadata/chunks/*.parquet ─────────────────────────────────────────▶ metadata/segments.parquet, in the listing's order
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.chunk_videos import WAITING_FOLDER
from data_prep.chunks import CHUNK_FOLDER, ROWS_PER_GROUP, ChunkReader, describe_chunk, facts_path, read_chunk_facts
from data_prep.motion_table import TABLE_NAME, MotionTable
from data_prep.segment_rows import PART_FOLDER, open_row_writer, seed_keys
from driving.ledger import Skip
from driving.whole_files import dump_json, write_atomically, write_text

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_FOLDER = "metadata"
INDEX_NAME = "segments.parquet"
COMPLETION_NAME = "chunks.jsonl"
MAX_FILE_ROWS = 200_000  # above it nobody reads the JSON, and one file more would hold what the chunks hold already
OPEN_CHUNKS = 128


@dataclass(frozen=True)
class ChunkCounts:
    """What all chunks hold together.

    Attributes:
        skips: ledger lines of all recordings that were opened.
        num_rows, num_recordings: segments, and the recordings that gave at least one.
        num_labelled, num_told: segments with labels, and those with motion facts that are all known.
        lines: of the completion manifest, one a chunk.
    """

    skips: list[Skip]
    num_rows: int
    num_recordings: int
    num_groups: int
    num_labelled: int
    num_told: int
    motion: MotionTable
    lines: list[dict[str, Any]]


def count_chunks(output_dir: Path, names: Sequence[str], unopened: Mapping[str, Sequence[Skip]]) -> ChunkCounts:
    """Add up what finished chunks say of themselves; their rows are not read.

    Args:
        unopened: ledger lines, by chunk, of what the listing alone rules out.
    """
    skips: list[Skip] = []
    lines: list[dict[str, Any]] = []
    num_rows = num_recordings = num_labelled = num_told = 0
    groups: set[str] = set()
    motion = MotionTable()
    for name in names:
        facts = read_chunk_facts(facts_path(output_dir, name))
        groups |= set(facts.groups) if len(groups) < 2 else set()
        motion.add_counts(facts.motion)
        lines.append(describe_chunk(facts, unopened.get(name, ())))
        for recording in facts.recordings:
            skips += recording.skips
            num_rows += recording.num_rows
            num_recordings += recording.num_rows > 0
            num_labelled += recording.num_labelled
            num_told += recording.num_told
    return ChunkCounts(skips, num_rows, num_recordings, len(groups), num_labelled, num_told, motion, lines)


def write_index(output_dir: Path, names: Sequence[str], recording_ids: Sequence[str], counts: ChunkCounts) -> list[str]:
    """Write the index and what stands beside it; the rows last, since their presence means complete.

    Args:
        recording_ids: the order of the rows of a small index; those of a large one stay with their chunks.

    Returns:
        The files and folders it consists of, relative to the output folder.
    """
    folder = output_dir / INDEX_FOLDER
    write_text(folder / COMPLETION_NAME, "".join(dump_json(line) + "\n" for line in counts.lines))
    if is_large(counts.num_rows):
        counts.motion.write(folder / TABLE_NAME)
        return [f"{INDEX_FOLDER}/{COMPLETION_NAME}", f"{INDEX_FOLDER}/{TABLE_NAME}", CHUNK_FOLDER.as_posix()]
    places = {}
    for name in names:
        facts = read_chunk_facts(facts_path(output_dir, name))
        places |= {recording.id: name for recording in facts.recordings if recording.num_rows}
    order = [(places[recording_id], recording_id) for recording_id in recording_ids if recording_id in places]
    _write_json(folder / "segments.json", output_dir, order)
    counts.motion.write(folder / TABLE_NAME)
    _write_parquet(folder / INDEX_NAME, output_dir, order)
    return [f"{INDEX_FOLDER}/{name}" for name in (COMPLETION_NAME, INDEX_NAME, "segments.json", TABLE_NAME)]


def is_large(num_rows: int) -> bool:
    """Whether the index is the folder of chunks, not one file."""
    return num_rows >= MAX_FILE_ROWS


def remove_parts(output_dir: Path) -> None:
    """The parts have served once the index is whole, and so have the chunks where their rows are in one file."""
    shutil.rmtree(output_dir / PART_FOLDER, ignore_errors=True)
    shutil.rmtree(output_dir / WAITING_FOLDER, ignore_errors=True)
    if (output_dir / INDEX_FOLDER / INDEX_NAME).exists():
        shutil.rmtree(output_dir / CHUNK_FOLDER, ignore_errors=True)


def _iter_tables(output_dir: Path, order: Sequence[tuple[str, str]]) -> Iterator[pa.Table]:
    """Rows of each (chunk, recording) in turn."""

    @lru_cache(OPEN_CHUNKS)
    def open_chunk(name: str) -> ChunkReader:
        # The listing goes by the names of recordings, so from chunk to chunk; PART_FOLDER is removed in the end.
        unpacked = output_dir / PART_FOLDER / f"{name}.rows"
        return ChunkReader(output_dir, read_chunk_facts(facts_path(output_dir, name)), unpacked)

    for name, recording_id in order:
        yield open_chunk(name).read(recording_id)


def _write_json(path: Path, output_dir: Path, order: Sequence[tuple[str, str]]) -> None:
    with write_atomically(path, "w") as file:
        separator = "[\n"
        for table in _iter_tables(output_dir, order):
            for row in table.to_pylist():
                file.write(separator + dump_json(seed_keys(row)))
                separator = ",\n"
        file.write("\n]\n")


def _write_parquet(path: Path, output_dir: Path, order: Sequence[tuple[str, str]]) -> None:
    import pyarrow as pa

    with write_atomically(path) as file, open_row_writer(file) as writer:
        waiting: list[pa.Table] = []
        for table in _iter_tables(output_dir, order):
            waiting.append(table)
            if sum(part.num_rows for part in waiting) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
