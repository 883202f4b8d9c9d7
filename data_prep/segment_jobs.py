"""From options and a listing to what is done: the plan of the output, and the jobs of its chunks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from data_prep.chunk_run import ChunkWork, give_up, work_on
from data_prep.chunks import RECORDINGS_PER_CHUNK, Chunk, FinishJob, hash_config
from data_prep.executors import run_on
from data_prep.provenance import hash_code
from data_prep.scaled_video import describe_encoding
from data_prep.segment_options import DECODERS, SCALED, SegmentOptions
from data_prep.segment_pixels import COPY, RESIZED
from data_prep.segment_plan import SegmentRules
from data_prep.segment_work import CutJob
from driving.executors import count_cores
from driving.recording import RecordingRef
from video_io import SCALER

CHUNKS_PER_WORKER = 4  # so that no worker waits long for the last one
FORMAT_VERSION = 5  # part of the plan: raise it when the same input gives other rows or pixels


def plan_output(options: SegmentOptions, source: str, fps: float) -> dict[str, Any]:
    """What decides the bytes of the output, as the manifest holds it.

    Args:
        source, fps: what "auto" came to.
    """
    return {
        "stage": "segments",
        "format": FORMAT_VERSION,
        "input_dir": options.input_dir.as_posix(),
        "output_dir": options.output_dir.as_posix(),
        "source": source,
        "camera": options.camera,
        "split_name": options.split_name,
        "max_clips": options.max_clips,
        "fps": fps,
        "duration": options.duration,
        "cut": options.cut,
        "video_frame_pixels": options.video_frame_pixels if options.cut in ("resized", SCALED) else None,
        "frame_tolerance": options.frame_tolerance,
        "max_gap_s": options.max_gap_s,
        "curvature": options.curvature,
        "scaler": SCALER,
        "encoder": _describe_encoder(options.cut),
        # Named only where it is another than the first one, which folders made before there was a choice have not.
        **({} if options.decoder == DECODERS[0] or options.cut == "index" else {"decoder": options.decoder}),
    }


def _describe_encoder(cut: str) -> str | None:
    return {"resized": str(RESIZED), SCALED: describe_encoding(), "copy": str(COPY)}.get(cut)


def plan_jobs(
    options: SegmentOptions,
    plan: dict[str, Any],
    chunks: Sequence[Chunk],
    refs: Sequence[RecordingRef],
    fingerprints: Sequence[str],
) -> list[FinishJob]:
    """What finishes each chunk, also one of which nothing can be opened: its file says that it was looked at."""
    code, config = hash_code(), hash_config(plan)
    return [
        FinishJob(
            chunk.name,
            [(refs[place].recording_id, fingerprints[place]) for place in chunk.positions if not refs[place].obstacle],
            options.output_dir,
            code,
            config,
            has_archive=plan["cut"] == SCALED,
        )
        for chunk in chunks
    ]


def cut_chunks(
    options: SegmentOptions,
    fps: float,
    chunks: Iterable[tuple[FinishJob, Sequence[str]]],
    refs: Mapping[str, RecordingRef],
    num_waiting: int,
    num_all: int,
) -> None:
    """Cut what is not cut yet, and finish the chunks.

    Args:
        chunks: each with the ids of its recordings that have to be cut.
        refs: by id; filled when the chunk's turn comes, at the latest.
        num_waiting, num_all: recordings, for the bar: those to be cut, and those of the whole run.
    """
    from tqdm import tqdm

    fingerprints: dict[str, str] = {}
    num_threads = max(1, count_cores() // max(1, num_all))  # a worker is one thread where there are enough recordings

    def announce() -> Iterable[tuple[FinishJob, Sequence[str]]]:
        for chunk, uncut in chunks:
            fingerprints.update(chunk.recordings)
            if uncut and _is_one_job(options, refs[uncut[0]], num_waiting):
                yield replace(chunk, cuts=tuple(map(build_job, uncut))), []
            else:
                yield chunk, uncut

    def build_job(recording_id: str) -> CutJob:
        return _build_job(options, fps, refs[recording_id], fingerprints.pop(recording_id), num_threads)

    work = ChunkWork(announce(), build_job)
    executor = options.executor if options.executor == "ray" else "local"
    results = run_on(executor, work_on, work, workers=options.workers, num_jobs=num_waiting, give_up=give_up)
    num_segments = 0
    with tqdm(total=num_all, initial=num_all - num_waiting, unit="recording", desc="segments") as bar:
        for result in results:
            for counts in work.note(result):
                num_segments += counts.num_segments
                bar.set_postfix_str(f"{num_segments:,} segments", refresh=False)
                bar.update()


def _is_one_job(options: SegmentOptions, ref: RecordingRef, num_waiting: int) -> bool:
    """Whether one worker makes all rows of a chunk: a file for each recording would be a quarter of the work.

    Where there are too few chunks for all workers, or it is Ray's affair how many there are, it goes by recordings.
    """
    workers = options.workers or (count_cores() if options.executor == "local" else sys.maxsize)
    is_quick = options.cut == "index" and ref.source == "physical_ai"
    return is_quick and (workers == 1 or num_waiting >= CHUNKS_PER_WORKER * RECORDINGS_PER_CHUNK * workers)


def _build_job(options: SegmentOptions, fps: float, ref: RecordingRef, fingerprint: str, num_threads: int) -> CutJob:
    rules = SegmentRules(fps, options.duration, options.frame_tolerance, options.max_gap_s, options.curvature)
    return CutJob(
        ref=ref,
        fingerprint=fingerprint,
        rules=rules,
        cut=options.cut,
        frame_pixels=options.video_frame_pixels,
        output_dir=options.output_dir,
        num_threads=num_threads,
        decoder=options.decoder,
    )
