"""The chunk: the recordings that are finished together, so that a run of any size keeps few files.

plan_chunks ──▶ Chunk ──its recordings are cut──▶ metadata/recordings/<id>.arrow, one each
                                                        │ finish_chunk, when all are there
metadata/chunks/<chunk>.parquet  rows of its recordings, in the chunk's order
videos/<chunk>.zip               with --cut scaled, the videos of its recordings, written first
metadata/chunks/<chunk>.json     ChunkFacts, written last: its presence says that the chunk is done
                                                        │ reopen_chunk, where some of it may not be built on
metadata/recordings/<id>.arrow ◀──────────────────────┘

Where a worker makes the rows of a whole chunk (`FinishJob.cuts`), nothing lies in between.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.chunk_videos import pack_videos, point_into_archive, remove_waiting
from data_prep.motion_table import MotionTable
from data_prep.segment_rows import Part, open_row_writer, part_path, read_part, read_part_facts, row_schema, write_part
from driving.errors import LedgerError
from driving.ledger import Skip
from driving.recording import RecordingRef
from driving.whole_files import dump_json, write_atomically, write_json

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_prep.segment_work import CutJob

CHUNK_FOLDER = Path("metadata") / "chunks"
ROWS_PER_GROUP = 2_000  # the rows of a chunk are one row group, or whole recordings of it
RECORDINGS_PER_CHUNK = 100  # as many as NVIDIA puts into an archive, for sources that come without chunks


@dataclass(frozen=True)
class Chunk:
    """Recordings that are finished together.

    Attributes:
        name: `chunk_0007` as the dataset numbers it, else `batch_00007` by the place in the listing.
        positions: of its recordings in the listing, increasing.
    """

    name: str
    positions: list[int]


@dataclass(frozen=True)
class FinishJob:
    """Everything a worker needs to make one file of a chunk's parts.

    Attributes:
        recordings: (id, fingerprint) of each, in the listing's order.
        code, config: hashes of what made it.
        has_archive: its recordings have videos to be packed, see `data_prep.chunk_videos`.
        cuts: of its recordings, those that the same job cuts, without a part file.
    """

    name: str
    recordings: list[tuple[str, str]]
    output_dir: Path
    code: str
    config: str
    has_archive: bool = False
    cuts: tuple[CutJob, ...] = ()


@dataclass(frozen=True)
class RecordingFacts:
    """What a finished chunk keeps of one recording beside its rows."""

    id: str
    fingerprint: str
    num_rows: int
    num_labelled: int
    num_told: int
    skips: list[Skip]

    @property
    def is_failed(self) -> bool:
        """The recording as a whole could not be used."""
        return Part(self.id, self.skips, self.fingerprint).is_failed


@dataclass(frozen=True)
class ChunkFacts:
    """What a finished chunk says of itself; the same bytes whoever finished it.

    Attributes:
        code, config: hashes of the code and of the options that made it.
        groups: two of its groups at most: enough to tell one from many.
        motion: counts of `MotionTable`.
    """

    chunk: str
    code: str
    config: str
    groups: list[str]
    motion: dict[str, Any]
    recordings: list[RecordingFacts]

    def list_with_rows(self) -> set[str]:
        """Ids of the recordings that gave any."""
        return {one.id for one in self.recordings if one.num_rows}


def plan_chunks(refs: Sequence[RecordingRef]) -> list[Chunk]:
    """Put every recording into its chunk, sorted by name: the dataset's own chunk, else the next 100 of the listing."""
    positions: dict[str, list[int]] = {}
    for position, ref in enumerate(refs):
        number = ref.metadata.get("chunk") if ref.source == "physical_ai" else None
        name = f"batch_{position // RECORDINGS_PER_CHUNK:05d}" if number is None else f"chunk_{number:04d}"
        positions.setdefault(name, []).append(position)
    return [Chunk(name, positions[name]) for name in sorted(positions)]


def rows_path(output_dir: Path, name: str) -> Path:
    return output_dir / CHUNK_FOLDER / f"{name}.parquet"


def facts_path(output_dir: Path, name: str) -> Path:
    return output_dir / CHUNK_FOLDER / f"{name}.json"


def finish_chunk(job: FinishJob, made: Mapping[str, tuple[Part, pa.Table]] | None = None) -> None:
    """Make one file of the parts of a chunk, and remove them.

    Killed anywhere, or done again while another worker (one whose driver was killed) does it, it comes to the same.

    Args:
        made: by id, the parts of recordings that have no file.

    Raises:
        LedgerError: The disk is full, or a part is damaged.
    """
    try:
        facts = _write_rows(job, made or {})
    except FileNotFoundError:
        if not facts_path(job.output_dir, job.name).exists():
            raise
        return  # the other one was first, and has removed the parts
    write_json(facts_path(job.output_dir, job.name), asdict(facts), indent=None)
    for recording_id, _ in job.recordings:
        part_path(job.output_dir, recording_id).unlink(missing_ok=True)
    if job.has_archive:
        remove_waiting(job.output_dir, (recording_id for recording_id, _ in job.recordings))


def _write_rows(job: FinishJob, made: Mapping[str, tuple[Part, pa.Table]]) -> ChunkFacts:
    motion, groups = MotionTable(), []
    recordings: list[RecordingFacts] = []
    if job.has_archive:
        with_rows = [one for one, _ in job.recordings if read_part_facts(part_path(job.output_dir, one)).num_rows]
        pack_videos(job.output_dir, job.name, with_rows)
    with write_atomically(rows_path(job.output_dir, job.name)) as file, open_row_writer(file) as writer:
        waiting: list[pa.Table] = []
        for recording_id, fingerprint in job.recordings:
            part, table = made.get(recording_id) or read_part(part_path(job.output_dir, recording_id))
            if table.num_rows:
                waiting.append(point_into_archive(table, job.output_dir, job.name) if job.has_archive else table)
                group = table["group"][0].as_py()
                groups += [group] if len(groups) < 2 and group not in groups else []
            counts = (table.num_rows, part.num_labelled, part.num_told)
            recordings.append(RecordingFacts(recording_id, fingerprint, *counts, part.skips))
            if sum(one.num_rows for one in waiting) >= ROWS_PER_GROUP:
                _write_group(writer, motion, waiting)
        if waiting:
            _write_group(writer, motion, waiting)
    return ChunkFacts(job.name, job.code, job.config, groups, motion.to_json(), recordings)


def _write_group(writer: pq.ParquetWriter, motion: MotionTable, waiting: list[pa.Table]) -> None:
    """Write what waits as one row group: one a recording would be a fifth larger, and take twice as long to read."""
    import pyarrow as pa

    table = pa.concat_tables(waiting).combine_chunks()
    writer.write_table(table)
    motion.add(table)
    waiting.clear()


def read_chunk_facts(path: Path) -> ChunkFacts:
    """Read what a finished chunk says of itself.

    Raises:
        LedgerError: The file is damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        recordings = [{**facts, "skips": [Skip(**skip) for skip in facts["skips"]]} for facts in kept["recordings"]]
        return ChunkFacts(**{**kept, "recordings": [RecordingFacts(**facts) for facts in recordings]})
    except (ValueError, TypeError, KeyError) as error:
        raise LedgerError(f"{path} is damaged ({error}); remove it, and run the same command again") from error


def reopen_chunk(output_dir: Path, facts: ChunkFacts, kept: Collection[str]) -> None:
    """Undo `finish_chunk`: each kept recording has its own part again, the others have to be cut."""
    reader = ChunkReader(output_dir, facts)
    for recording in facts.recordings:
        if recording.id in kept:
            counts = (recording.num_labelled, recording.num_told)
            part = Part(recording.id, recording.skips, recording.fingerprint, *counts)
            write_part(output_dir, part, reader.read(recording.id))
    facts_path(output_dir, facts.chunk).unlink()
    rows_path(output_dir, facts.chunk).unlink()


class ChunkReader:
    """Rows of single recordings out of a finished chunk.

    Args:
        unpacked: where its rows may be laid open on disk, so that many chunks can be read from at a time; they are held
            in memory where there is no such place.
    """

    def __init__(self, output_dir: Path, facts: ChunkFacts, unpacked: Path | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        stops = np.cumsum([recording.num_rows for recording in facts.recordings]).tolist()
        self.rows = {one.id: (stop - one.num_rows, stop) for one, stop in zip(facts.recordings, stops, strict=True)}
        with pq.ParquetFile(rows_path(output_dir, facts.chunk)) as file:
            self.table = file.read(use_threads=False).cast(row_schema())
        if unpacked is not None:
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            with pa.ipc.new_file(str(unpacked), self.table.schema) as writer:
                writer.write_table(self.table)
            self.table = pa.ipc.open_file(pa.memory_map(str(unpacked))).read_all()

    def read(self, recording_id: str) -> pa.Table:
        """The rows of one recording; none where it gave none."""
        start, stop = self.rows.get(recording_id, (0, 0))
        return self.table.slice(start, stop - start)


def describe_chunk(facts: ChunkFacts, unopened: Sequence[Skip]) -> dict[str, Any]:
    """A chunk's line in the completion manifest: its inputs, what made it, what came out, what was dropped and why.

    Args:
        unopened: ledger lines of recordings that the listing alone rules out.
    """
    inputs = "\n".join(recording.fingerprint for recording in facts.recordings)
    skips = [skip for recording in facts.recordings for skip in recording.skips]
    return {
        "chunk": facts.chunk,
        "inputs": hashlib.sha256(inputs.encode()).hexdigest(),
        "code": facts.code,
        "config": facts.config,
        "num_recordings": len(facts.recordings) + len(unopened),
        "num_segments": sum(recording.num_rows for recording in facts.recordings),
        "num_labelled": sum(recording.num_labelled for recording in facts.recordings),
        "dropped": dict(sorted(Counter(skip.stage for skip in [*skips, *unopened]).items())),
    }


def hash_config(plan: dict[str, Any]) -> str:
    """One hash of the options that decide an output's bytes, wherever it lies."""
    decided = {name: value for name, value in plan.items() if name not in ("input_dir", "output_dir")}
    return hashlib.sha256(dump_json(decided).encode()).hexdigest()
