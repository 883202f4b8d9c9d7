"""The unit of work: one recording, from its address to its segment files and its part.

    read ──▶ check the archive's sum ──▶ probe ──▶ plan ──▶ cut ──▶ part: rows and skips, in a file of its own, last
                                                                    or, of rows alone, at once in its chunk's

A recording that cannot be used leaves a part with one ledger line and no video.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.segment_facts import is_told
from data_prep.segment_places import cut_readable, find_frame_times, remove_videos
from data_prep.segment_plan import Segment, SegmentRules, plan_recording
from data_prep.segment_rows import Part, build_rows, row_schema, write_part
from data_prep.sources import SOURCES
from driving.errors import DrivingError, LedgerError
from driving.executors import MAX_KILLS
from driving.ledger import Skip
from driving.recording import Recording, RecordingRef
from video_io import VideoInfo, check_crc, probe_video
from video_io.decoders import PYAV
from video_io.mp4_index import peek_video

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class CutJob:
    """Everything a worker needs to cut one recording.

    Attributes:
        fingerprint: of the recording's input files.
        cut: "resized", "scaled", "copy" or "index".
        frame_pixels: area of a frame for "resized" and "scaled".
        decoder: the library that decodes, see `video_io.decoders`.
    """

    ref: RecordingRef
    fingerprint: str
    rules: SegmentRules
    cut: str
    frame_pixels: int
    output_dir: Path
    num_threads: int = 1
    decoder: str = PYAV


@dataclass(frozen=True)
class CutCounts:
    """What came of a job: for the progress line."""

    recording_id: str
    num_segments: int


class _Stage:
    """Which step of the work an error belongs to."""

    name = "read"


def cut_recording(job: CutJob) -> CutCounts:
    """Cut one recording and write its part file.

    Raises:
        LedgerError: The disk is full. What is wrong with the recording itself goes to its part file.
    """
    part, rows = make_part(job)
    write_part(job.output_dir, part, rows)
    return CutCounts(part.recording_id, rows.num_rows)


def make_part(job: CutJob) -> tuple[Part, pa.Table]:
    """Cut one recording: what its part file holds, and its rows.

    Raises:
        LedgerError: The disk is full.
    """
    stage = _Stage()
    segments: list[Segment] = []
    try:
        recording, info = _open_recording(job, stage)
        segments, skips = plan_recording(recording, find_frame_times(recording, info), job.rules)
        stage.name = "cut"
        segments, places, unread = cut_readable(job, recording, info, segments)
        skips += unread
        rows = build_rows(recording, segments, places, job.rules)
    except LedgerError:
        raise
    except DrivingError as error:
        remove_videos(job, segments)
        segments, rows = [], row_schema().empty_table()
        skips = [Skip(job.ref.recording_id, stage.name, str(error))]
    num_labelled = sum(segment.labels is not None for segment in segments)
    num_told = sum(segment.facts is not None and is_told(segment.facts.observed) for segment in segments)
    return Part(job.ref.recording_id, skips, job.fingerprint, num_labelled, num_told), rows


def give_up_recording(job: CutJob) -> CutCounts:
    """What is left of a recording over which worker after worker was killed: one ledger line, no video."""
    remove_videos(job, None)
    skip = Skip(job.ref.recording_id, "cut", f"it killed its worker {MAX_KILLS} times (out of memory?)")
    write_part(job.output_dir, Part(job.ref.recording_id, [skip], job.fingerprint), row_schema().empty_table())
    return CutCounts(job.ref.recording_id, 0)


def _open_recording(job: CutJob, stage: _Stage) -> tuple[Recording, VideoInfo]:
    recording = SOURCES[job.ref.source]().read(job.ref)
    stage.name = "probe"
    check_crc(recording.video)
    # Rows that only point into the file need no packet of it; all others are seen when they are decoded or copied.
    info = peek_video(recording.video) if job.cut == "index" else probe_video(recording.video)
    stage.name = "frames"
    return recording, info
