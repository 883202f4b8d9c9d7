"""From the chunks that are asked for to chunks that are finished, on any executor.

drop_stale ──▶ what is there and may be built on
list of chunks ──ChunkWork──▶ a CutJob a recording, a FinishJob once all of a chunk are cut ──executor──▶ back to it
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from data_prep.chunk_videos import drop_videos, is_packed, unpack_videos, waiting_path
from data_prep.chunks import (
    CHUNK_FOLDER,
    FinishJob,
    facts_path,
    finish_chunk,
    read_chunk_facts,
    reopen_chunk,
    rows_path,
)
from data_prep.segment_options import SCALED
from data_prep.segment_places import VIDEO_FOLDER
from data_prep.segment_rows import PART_FOLDER, find_part, part_path
from data_prep.segment_work import CutCounts, CutJob, cut_recording, give_up_recording
from driving.errors import DrivingError
from driving.executors import MAX_KILLS

WITH_FILES = ("resized", "copy")  # ways to cut that write a file a segment


def work_on(job: CutJob | FinishJob) -> CutCounts | str:
    """What a worker does with either job: (cut) its counts, (finish) the chunk's name."""
    return cut_recording(job) if isinstance(job, CutJob) else finish_chunk(job)


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
        self._ready: deque[FinishJob] = deque()
        self._chunk_of: dict[str, FinishJob] = {}
        self._num_left: Counter[str] = Counter()

    def __iter__(self) -> Iterator[CutJob | FinishJob]:
        return self

    def __next__(self) -> CutJob | FinishJob:
        return self._ready.popleft() if self._ready else next(self._cuts)

    def note(self, result: CutCounts | str) -> None:
        """Tell what came back."""
        if isinstance(result, CutCounts):
            chunk = self._chunk_of.pop(result.recording_id)
            self._num_left[chunk.name] -= 1
            if not self._num_left[chunk.name]:
                self._ready.append(chunk)

    def _plan_cuts(
        self, chunks: Iterable[tuple[FinishJob, Sequence[str]]], build_job: Callable[[str], CutJob]
    ) -> Iterator[CutJob | FinishJob]:
        for chunk, uncut in chunks:
            if not uncut:
                yield chunk
            self._num_left[chunk.name] = len(uncut)
            for recording_id in uncut:
                self._chunk_of[recording_id] = chunk
                yield build_job(recording_id)


def give_up(job: CutJob | FinishJob) -> CutCounts:
    """What becomes of a job over which worker after worker was killed.

    Raises:
        DrivingError: It was a chunk that could not be finished.
    """
    if isinstance(job, CutJob):
        return give_up_recording(job)
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
    wanted = dict(recording for job in jobs for recording in job.recordings)
    num_files = _count_files(output_dir) if cut in WITH_FILES else None

    def is_whole(recording_id: str, num_rows: int) -> bool:
        if cut == SCALED:
            return not num_rows or waiting_path(output_dir, recording_id).exists()
        return num_files is None or num_files[recording_id] == num_rows

    asked = {job.name: job for job in jobs}
    finished: set[str] = set()
    whole: set[str] = set()
    for path in (output_dir / CHUNK_FOLDER).glob("*.parquet"):
        if not path.with_suffix(".json").exists():
            path.unlink()  # its parts are still there
    for path in sorted((output_dir / CHUNK_FOLDER).glob("*.json")):
        facts = read_chunk_facts(path) if rows_path(output_dir, path.stem).exists() else None
        if facts is None or _count_rows(rows_path(output_dir, path.stem)) != sum(
            one.num_rows for one in facts.recordings
        ):
            path.unlink()
            rows_path(output_dir, path.stem).unlink(missing_ok=True)
            continue
        kept = [
            recording.id for recording in facts.recordings
            if not (retry_failed and recording.is_failed) and wanted.get(recording.id) == recording.fingerprint
            and (cut == SCALED or is_whole(recording.id, recording.num_rows))
        ]  # fmt: skip
        with_rows = {recording.id for recording in facts.recordings if recording.num_rows}
        holds = [recording.id for recording in facts.recordings]
        is_as_asked = facts.chunk in asked and kept == holds == [one for one, _ in asked[facts.chunk].recordings]
        if is_as_asked and (cut != SCALED or is_packed(output_dir, facts.chunk, with_rows)):
            finished.add(facts.chunk)
            whole |= set(kept)
            continue
        if cut == SCALED:
            unpacked = unpack_videos(output_dir, facts.chunk, with_rows & set(kept))
            kept = [one for one in kept if one in unpacked or one not in with_rows]
        reopen_chunk(output_dir, facts, set(kept))
    unfinished = dict(recording for job in jobs if job.name not in finished for recording in job.recordings)
    in_work = _drop_parts(output_dir, unfinished, is_whole, retry_failed)
    whole |= in_work
    drop_videos(output_dir, asked.keys(), in_work)
    for path in (output_dir / VIDEO_FOLDER).glob("*_seg_*.mp4"):
        if _recording_of(path) not in whole:
            path.unlink()
    return finished


def _drop_parts(
    output_dir: Path, wanted: Mapping[str, str], is_whole: Callable[[str, int], bool], retry_failed: bool
) -> set[str]:
    """Remove parts that are stale, or whose chunk is finished; returns the recordings of the others."""
    whole: set[str] = set()
    for path in sorted((output_dir / PART_FOLDER).glob("*.arrow")):
        part = find_part(path)
        fits = part is not None and not (retry_failed and part.is_failed)
        if fits and wanted.get(part.recording_id) == part.fingerprint and is_whole(part.recording_id, part.num_rows):
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
