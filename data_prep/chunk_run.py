"""From the chunks that are asked for to chunks that are finished, on any executor.

drop_stale ──▶ what is there and may be built on
list of chunks ──ChunkWork──▶ a CutJob a recording, a FinishJob once all of a chunk are cut ──executor──▶ back to it
                              or a FinishJob that cuts its recordings itself, one by one after it was given up
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.chunk_videos import drop_videos, is_packed, unpack_videos, waiting_path
from data_prep.chunks import (
    CHUNK_FOLDER,
    ChunkFacts,
    FinishJob,
    RecordingFacts,
    facts_path,
    finish_chunk,
    read_chunk_facts,
    reopen_chunk,
    rows_path,
)
from data_prep.segment_options import SCALED
from data_prep.segment_places import VIDEO_FOLDER
from data_prep.segment_rows import PART_FOLDER, Part, find_part, part_path
from data_prep.segment_work import CutCounts, CutJob, cut_recording, give_up_recording, make_part
from driving.errors import DrivingError
from driving.executors import MAX_KILLS

WITH_FILES = ("resized", "copy")  # ways to cut that write a file a segment


def work_on(job: CutJob | FinishJob) -> list[CutCounts]:
    """What a worker does with either job: counts of the recordings that it has cut."""
    if isinstance(job, CutJob):
        return [cut_recording(job)]
    made = {cut.ref.recording_id: make_part(cut) for cut in job.cuts}
    finish_chunk(job, made)
    return [CutCounts(recording_id, rows.num_rows) for recording_id, (_, rows) in made.items()]


class ChunkWork:
    """The jobs of a run, one after the other: a CutJob for each recording, a FinishJob for each chunk that is all cut.

    An iterator that may have ended for now: what `note` is told may bring a further job, so it is asked again after
    each result.

    Args:
        chunks: each with the ids of its recordings that have to be cut.
        build_job: from an id; called when its turn comes, so that not all jobs exist at once.
    """

    def __init__(self, chunks: Iterable[tuple[FinishJob, Sequence[str]]], build_job: Callable[[str], CutJob]) -> None:
        self._cuts = self._plan_cuts(chunks, build_job)
        self._ready: deque[CutJob | FinishJob] = deque()
        self._chunk_of: dict[str, FinishJob] = {}
        self._num_left: Counter[str] = Counter()

    def __iter__(self) -> Iterator[CutJob | FinishJob]:
        return self

    def __next__(self) -> CutJob | FinishJob:
        return self._ready.popleft() if self._ready else next(self._cuts)

    def note(self, result: list[CutCounts] | FinishJob) -> list[CutCounts]:
        """Tell what came back: counts, which are returned, or a chunk that was given up: it is cut one by one."""
        if isinstance(result, FinishJob):
            self._await_cuts(replace(result, cuts=()), [cut.ref.recording_id for cut in result.cuts])
            self._ready += result.cuts
            return []
        for counts in result:
            if (chunk := self._chunk_of.pop(counts.recording_id, None)) is not None:
                self._num_left[chunk.name] -= 1
                if not self._num_left[chunk.name]:
                    self._ready.append(chunk)
        return result

    def _plan_cuts(
        self, chunks: Iterable[tuple[FinishJob, Sequence[str]]], build_job: Callable[[str], CutJob]
    ) -> Iterator[CutJob | FinishJob]:
        for chunk, uncut in chunks:
            if uncut:
                self._await_cuts(chunk, uncut)
                yield from map(build_job, uncut)
            else:
                yield chunk

    def _await_cuts(self, chunk: FinishJob, uncut: Sequence[str]) -> None:
        self._num_left[chunk.name] = len(uncut)
        self._chunk_of |= dict.fromkeys(uncut, chunk)


def give_up(job: CutJob | FinishJob) -> list[CutCounts] | FinishJob:
    """What becomes of a job over which worker after worker was killed; a chunk of several recordings comes back.

    Raises:
        DrivingError: It was a chunk that could not be finished.
    """
    if isinstance(job, CutJob):
        return [give_up_recording(job)]
    if job.cuts:
        return job
    raise DrivingError(
        f"workers were killed {MAX_KILLS} times while they put chunk {job.name} together (out of memory?); run the "
        "same command again to continue"
    )


def is_finished(output_dir: Path, name: str) -> bool:
    """Whether a chunk has been finished; whether it may be built on is `drop_stale`'s affair."""
    return facts_path(output_dir, name).exists() and rows_path(output_dir, name).exists()


def drop_stale(output_dir: Path, jobs: Sequence[FinishJob], cut: str, *, retry_failed: bool = True) -> set[str]:
    """Remove what this run may not build on: of other input, failed, or without its segment files.

    A failed recording is tried again, since its file may have been mended without changing its size. A chunk of which
    some is stale is taken apart, so that the rest of it is not cut again.

    Args:
        retry_failed: False: a failed recording is as good as any, since it has just been tried.

    Returns:
        The names of the chunks that are finished.
    """
    asked = {job.name: job for job in jobs}
    wanted = dict(recording for job in jobs for recording in job.recordings)
    usable = _Usable(output_dir, cut, _count_files(output_dir) if cut in WITH_FILES else None, retry_failed)
    finished: set[str] = set()
    whole: set[str] = set()
    for facts in _read_chunks(output_dir):
        kept = [
            one.id for one in facts.recordings
            if wanted.get(one.id) == one.fingerprint and usable.has_files(one.id, one)
        ]  # fmt: skip
        holds = [one.id for one in facts.recordings]
        is_as_asked = facts.chunk in asked and kept == holds == [one for one, _ in asked[facts.chunk].recordings]
        if is_as_asked and usable.has_archive(facts):
            finished.add(facts.chunk)
            whole |= set(kept)
        else:
            _take_apart(output_dir, facts, set(kept), cut)
    unfinished = dict(recording for job in jobs if job.name not in finished for recording in job.recordings)
    in_work = _drop_parts(output_dir, unfinished, usable)
    drop_videos(output_dir, asked.keys(), in_work)
    whole |= in_work
    for path in (output_dir / VIDEO_FOLDER).glob("*_seg_*.mp4"):
        if _recording_of(path) not in whole:
            path.unlink()
    return finished


@dataclass(frozen=True)
class _Usable:
    """Whether what was made of a recording or chunk is there with all its files.

    Attributes:
        num_files: of each recording; None where the cut writes no file a segment.
    """

    output_dir: Path
    cut: str
    num_files: Counter[str] | None
    retry_failed: bool

    def has_files(self, recording_id: str, one: RecordingFacts | Part) -> bool:
        """Of a recording, where each segment has its own."""
        if self.retry_failed and one.is_failed:
            return False
        return self.num_files is None or self.num_files[recording_id] == one.num_rows

    def has_video(self, part: Part) -> bool:
        """Of a recording whose chunk is not finished."""
        return self.cut != SCALED or not part.num_rows or waiting_path(self.output_dir, part.recording_id).exists()

    def has_archive(self, facts: ChunkFacts) -> bool:
        return self.cut != SCALED or is_packed(self.output_dir, facts.chunk, facts.list_with_rows())


def _read_chunks(output_dir: Path) -> Iterator[ChunkFacts]:
    """What finished chunks say of themselves, by name; one that is damaged, or was never finished, is removed."""
    for path in (output_dir / CHUNK_FOLDER).glob("*.parquet"):
        if not path.with_suffix(".json").exists():
            path.unlink()  # its parts are still there
    for path in sorted((output_dir / CHUNK_FOLDER).glob("*.json")):
        rows = rows_path(output_dir, path.stem)
        facts = read_chunk_facts(path) if rows.exists() else None
        if facts is not None and _count_rows(rows) == sum(one.num_rows for one in facts.recordings):
            yield facts
        else:
            path.unlink()
            rows.unlink(missing_ok=True)


def _take_apart(output_dir: Path, facts: ChunkFacts, kept: set[str], cut: str) -> None:
    """Back to the parts of the recordings that are kept, as far as their pictures are whole."""
    if cut == SCALED:
        with_rows = facts.list_with_rows()
        kept -= with_rows - unpack_videos(output_dir, facts.chunk, with_rows & kept)
    reopen_chunk(output_dir, facts, kept)


def _drop_parts(output_dir: Path, wanted: Mapping[str, str], usable: _Usable) -> set[str]:
    """Remove parts that are stale, or whose chunk is finished; returns the recordings of the others."""
    whole: set[str] = set()
    for path in sorted((output_dir / PART_FOLDER).glob("*.arrow")):
        part = find_part(path)
        is_wanted = part is not None and wanted.get(part.recording_id) == part.fingerprint
        if is_wanted and usable.has_files(part.recording_id, part) and usable.has_video(part):
            whole.add(part.recording_id)
        else:
            path.unlink()
    return whole


def _count_rows(path: Path) -> int | None:
    """Rows of a parquet file; None where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowInvalid, OSError):
        return None


def _count_files(output_dir: Path) -> Counter[str]:
    """Segment files of each recording."""
    return Counter(_recording_of(path) for path in (output_dir / VIDEO_FOLDER).glob("*_seg_*.mp4"))


def _recording_of(segment_file: Path) -> str:
    return segment_file.name.rpartition("_seg_")[0]


def list_uncut(output_dir: Path, jobs: Iterable[FinishJob]) -> dict[str, list[str]]:
    """Chunk -> ids of its recordings that have no part yet; of unfinished chunks."""
    return {job.name: [one for one, _ in job.recordings if not part_path(output_dir, one).exists()] for job in jobs}
