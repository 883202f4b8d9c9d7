"""From the parts of finished recordings to the index: `segments.parquet`, and `segments.json` where it is small."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.motion_table import TABLE_NAME, MotionTable
from data_prep.segment_rows import PART_FOLDER, part_path, read_part_facts, read_part_table, row_schema, seed_keys
from driving.ledger import Skip, dump_json, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_FOLDER = "metadata"
MAX_JSON_ROWS = 200_000
ROWS_PER_GROUP = 2_000


@dataclass(frozen=True)
class PartCounts:
    """What all parts hold together.

    Attributes:
        skips: ledger lines of all recordings.
        num_rows, num_recordings: segments, and the recordings that gave at least one.
        num_labelled, num_told: segments with labels, and those with motion facts that are all known.
    """

    skips: list[Skip]
    num_rows: int
    num_recordings: int
    num_groups: int
    num_labelled: int
    num_told: int


def count_parts(output_dir: Path, recording_ids: Sequence[str]) -> PartCounts:
    """Read what the parts say beside their rows."""
    import pyarrow.parquet as pq

    skips: list[Skip] = []
    num_rows = num_recordings = num_labelled = num_told = 0
    groups: set[str] = set()
    for recording_id in recording_ids:
        path = part_path(output_dir, recording_id)
        part = read_part_facts(path)
        skips += part.skips
        num_labelled += part.num_labelled
        num_told += part.num_told
        num_here = pq.read_metadata(path).num_rows
        num_rows += num_here
        num_recordings += num_here > 0
        if num_here and len(groups) < 2:
            groups.add(pq.read_table(path, columns=["group"])["group"][0].as_py())
    return PartCounts(skips, num_rows, num_recordings, len(groups), num_labelled, num_told)


def write_index(output_dir: Path, recording_ids: Sequence[str], num_rows: int) -> None:
    """Write the index from the parts, in the order given; the parquet last, since its presence means complete.

    The table of their motion (`motion.json`) is written beside it. A `segments.json` is written below 200,000 rows;
    above it would be read by nobody and take minutes to parse.
    """
    folder = output_dir / INDEX_FOLDER
    if num_rows < MAX_JSON_ROWS:
        _write_json(folder / "segments.json", output_dir, recording_ids)
    _write_parquet(folder / "segments.parquet", output_dir, recording_ids)


def remove_parts(output_dir: Path) -> None:
    """The parts have served once the index is whole."""
    shutil.rmtree(output_dir / PART_FOLDER, ignore_errors=True)


def _iter_tables(output_dir: Path, recording_ids: Sequence[str]) -> Iterator[pa.Table]:
    for recording_id in recording_ids:
        table = read_part_table(part_path(output_dir, recording_id))
        if table.num_rows:
            yield table


def _write_json(path: Path, output_dir: Path, recording_ids: Sequence[str]) -> None:
    with write_atomically(path, "w") as file:
        separator = "[\n"
        for table in _iter_tables(output_dir, recording_ids):
            for row in table.to_pylist():
                file.write(separator + dump_json(seed_keys(row)))
                separator = ",\n"
        file.write("\n]\n")


def _write_parquet(path: Path, output_dir: Path, recording_ids: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        write_atomically(path) as file,
        pq.ParquetWriter(file, row_schema(), compression="zstd") as writer,
    ):
        motion = MotionTable()
        waiting: list[pa.Table] = []
        for table in _iter_tables(output_dir, recording_ids):
            motion.add(table)
            waiting.append(table)
            if sum(part.num_rows for part in waiting) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
        motion.write(path.with_name(TABLE_NAME))  # before the index takes its name
