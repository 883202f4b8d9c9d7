"""Recordings -> segments: one-second clips, each with the motion of the second after it.

source.plan ──▶ refs ──claim the folder──▶ a job each ──cut_recording (workers)──▶ metadata/recordings/<id>.parquet
                                                                                         │ all of a chunk there
metadata/chunks/<chunk>.parquet, <chunk>.json ◀──────────finish_chunk (workers)──────────┘
                │ all there                               (--cut scaled: and videos/<chunk>.zip)
segments.parquet + segments.json + chunks.jsonl + skipped.jsonl     write_index; the manifest last
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.chunk_run import ChunkWork, drop_stale, give_up, list_uncut, work_on
from data_prep.chunk_videos import VIDEOS_FOLDER
from data_prep.chunks import Chunk, FinishJob, hash_config, plan_chunks
from data_prep.executors import run_on
from data_prep.motion_table import TABLE_NAME, format_motion
from data_prep.provenance import hash_code, read_origin
from data_prep.scaled_video import describe_encoding
from data_prep.segment_facts import FACTS
from data_prep.segment_index import INDEX_FOLDER, ChunkCounts, count_chunks, remove_parts, write_index
from data_prep.segment_inputs import fingerprint_inputs, hash_inputs, resolve_fps
from data_prep.segment_options import DECODERS, DEFAULT_SPLIT, SCALED, SegmentOptions
from data_prep.segment_pixels import COPY, RESIZED
from data_prep.segment_places import VIDEO_FOLDER
from data_prep.segment_plan import EDGE, EXCLUDED, SegmentRules, is_of_segment
from data_prep.segment_work import CutCounts, CutJob
from data_prep.sources import find_source
from data_prep.sources.physical_ai import PhysicalAI, describe_coverage
from driving.clock import count_samples
from driving.errors import DrivingError, LedgerError, SourceError
from driving.executors import count_cores
from driving.ledger import (
    LEDGER_NAME,
    PLAN_NAME,
    Output,
    Skip,
    check_apart,
    check_bad_fraction,
    claim_output,
    write_ledger,
)
from driving.lineage import write_commands
from driving.options import format_command
from driving.recording import RecordingRef
from video_io import SCALER, check_decoder

FORMAT_VERSION = 5  # part of the plan: raise it when the same input gives other bytes


@dataclass(frozen=True)
class SegmentSummary:
    """What a run ends with; `message` is its last line."""

    num_segments: int
    num_recordings: int
    num_skipped: int
    num_groups: int
    num_labelled: int
    num_told: int

    @property
    def message(self) -> str:
        message = (
            f"{self.num_segments:,} segments from {self.num_recordings:,} recordings, "
            f"{self.num_skipped:,} skipped (see {LEDGER_NAME})"
        )
        if self.num_labelled == self.num_segments:
            return message
        labelled = f"{self.num_labelled:,}" if self.num_labelled else "none"
        told = f", {self.num_told:,} with motion facts" if self.num_told else ""
        return f"{message}; {labelled} with (velocity, curvature) labels{told}"


def run(options: SegmentOptions) -> SegmentSummary:
    """Cut all recordings of a folder.

    Raises:
        SourceError: The input folder is not what it should be.
        DrivingError: The rate and the duration do not make a whole number of frames.
        VideoError: The decoder asked for cannot be used here.
        LedgerError: The output folder is foreign, locked or from another plan; too much was bad; the disk is full.
    """
    check_apart(options.output_dir, [options.input_dir])
    check_decoder(options.decoder)
    refs = _plan_recordings(options)
    refs = refs[: options.max_clips] if options.max_clips > 0 else refs
    fingerprints = fingerprint_inputs(refs)
    fps = resolve_fps(options.fps, refs)
    count_samples(options.duration, fps)
    plan = plan_output(options, refs, fps)
    with claim_output(options.output_dir, plan, overwrite=options.overwrite_output) as output:
        if output.is_complete:
            _check_inputs(output, hash_inputs(fingerprints))
            remove_parts(options.output_dir)  # a run killed between the manifest and the end leaves them
            summary = SegmentSummary(**output.manifest["summary"]["counts"])
            print(f"{options.output_dir} is already complete")
        else:
            summary = _write_output(options, output, refs, fingerprints)
    if table := format_motion(options.output_dir / INDEX_FOLDER / TABLE_NAME):
        print(table)
    if summary.num_groups == 1 and not options.allow_one_recording:
        print(
            "warning: all segments are of one recording; prepare_huggingface_dataset.py can split them in time only, "
            "with --allow-one-recording"
        )
    return summary


def _plan_recordings(options: SegmentOptions) -> list[RecordingRef]:
    """What the source lists; for a dataset that comes in pieces, how much of it is here is said once."""
    source = find_source(options.source, options.input_dir)
    if isinstance(source, PhysicalAI):
        source.split_name = options.split_name
    elif options.split_name != DEFAULT_SPLIT:
        raise SourceError(
            f"--split-name {options.split_name}: {options.input_dir} is of the format {source.name}, and only "
            "physical_ai has named splits; leave the flag out"
        )
    refs = source.plan(options.input_dir, options.camera)
    coverage = describe_coverage(options.input_dir, options.camera) if isinstance(source, PhysicalAI) else ""
    if coverage:
        print(coverage, flush=True)
    return refs


def plan_output(options: SegmentOptions, refs: Sequence[RecordingRef], fps: float) -> dict[str, Any]:
    """What decides the bytes of the output, as the manifest holds it."""
    return {
        "stage": "segments",
        "format": FORMAT_VERSION,
        "input_dir": options.input_dir.as_posix(),
        "output_dir": options.output_dir.as_posix(),
        "source": refs[0].source if refs else options.source,
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


def _check_inputs(output: Output, inputs: str) -> None:
    if output.manifest["summary"]["inputs"] != inputs:
        raise LedgerError(
            f"{output.folder} was made from other recordings than those that are in "
            f"{output.plan['input_dir']} now; pass --overwrite-output to replace it"
        )


def _write_output(
    options: SegmentOptions, output: Output, refs: Sequence[RecordingRef], fingerprints: Sequence[str]
) -> SegmentSummary:
    chunks = plan_chunks(refs)
    jobs = _build_finish_jobs(options.output_dir, output.plan, chunks, refs, fingerprints)
    finished = drop_stale(options.output_dir, jobs, options.cut)
    _cut_all(options, output.plan["fps"], refs, fingerprints, [job for job in jobs if job.name not in finished])
    names = [job.name for job in jobs]
    unopened = {chunk.name: _list_unopened([refs[position] for position in chunk.positions]) for chunk in chunks}
    counted = count_chunks(options.output_dir, names, unopened)
    skips = _list_unopened(refs) + counted.skips
    ledger_path = options.output_dir / LEDGER_NAME
    write_ledger(ledger_path, skips)
    _check_enough(options, counted, skips, len({ref.recording_id for ref in refs}), ledger_path)
    index = write_index(options.output_dir, names, [ref.recording_id for ref in refs if not ref.obstacle], counted)
    counts = {
        "num_segments": counted.num_rows,
        "num_recordings": counted.num_recordings,
        "num_skipped": sum(skip.stage != FACTS for skip in skips),
        "num_groups": counted.num_groups,
        "num_labelled": counted.num_labelled,
        "num_told": counted.num_told,
    }
    command = format_command("prepare_video_segments.py", options, ("executor", "workers", "overwrite_output"))
    write_commands(options.output_dir, options.input_dir, command)
    summary = {"counts": counts, "inputs": hash_inputs(fingerprints), "origin": read_origin(options.input_dir)}
    output.finish(summary, [VIDEO_FOLDER, VIDEOS_FOLDER, *index, LEDGER_NAME])
    remove_parts(options.output_dir)
    return SegmentSummary(**counts)


def _build_finish_jobs(
    output_dir: Path,
    plan: dict[str, Any],
    chunks: Sequence[Chunk],
    refs: Sequence[RecordingRef],
    fingerprints: Sequence[str],
) -> list[FinishJob]:
    """One for each chunk that has a recording to open, or none to name: a chunk's file says that it was looked at."""
    code, config = hash_code(), hash_config(plan)
    return [
        FinishJob(
            chunk.name,
            [(refs[place].recording_id, fingerprints[place]) for place in chunk.positions if not refs[place].obstacle],
            output_dir,
            code,
            config,
            has_archive=plan["cut"] == SCALED,
        )
        for chunk in chunks
    ]


def _list_unopened(refs: Sequence[RecordingRef]) -> list[Skip]:
    """Ledger lines of what the listing alone rules out; a recording that is listed twice has one line."""
    lines = {(ref.recording_id, ref.obstacle): EXCLUDED if ref.excluded else "plan" for ref in refs if ref.obstacle}
    return [Skip(recording_id, stage, reason) for (recording_id, reason), stage in lines.items()]


def _build_job(options: SegmentOptions, fps: float, ref: RecordingRef, fingerprint: str) -> CutJob:
    rules = SegmentRules(fps, options.duration, options.frame_tolerance, options.max_gap_s, options.curvature)
    num_workers = options.workers or count_cores()
    return CutJob(
        ref=ref,
        fingerprint=fingerprint,
        rules=rules,
        cut=options.cut,
        frame_pixels=options.video_frame_pixels,
        output_dir=options.output_dir,
        num_threads=max(1, count_cores() // num_workers),
        decoder=options.decoder,
    )


def _cut_all(
    options: SegmentOptions,
    fps: float,
    refs: Sequence[RecordingRef],
    fingerprints: Sequence[str],
    unfinished: Sequence[FinishJob],
) -> None:
    """Cut what is not cut yet, and finish the chunks."""
    from tqdm import tqdm

    waiting = list_uncut(options.output_dir, unfinished)
    num_waiting = sum(len(ids) for ids in waiting.values())
    num_all = sum(not ref.obstacle for ref in refs)
    if num_waiting < num_all:
        print(f"continuing: {num_all - num_waiting:,} of {num_all:,} recordings are done", flush=True)
    positions = {ref.recording_id: place for place, ref in enumerate(refs) if not ref.obstacle}

    def build_job(recording_id: str) -> CutJob:
        place = positions[recording_id]
        return _build_job(options, fps, refs[place], fingerprints[place])

    work = ChunkWork([(job, waiting[job.name]) for job in unfinished], build_job)
    results = run_on(options.executor, work_on, work, workers=options.workers, num_jobs=num_waiting, give_up=give_up)
    num_segments = 0
    with tqdm(total=num_all, initial=num_all - num_waiting, unit="recording", desc="segments") as bar:
        for result in results:
            work.note(result)
            if isinstance(result, CutCounts):
                num_segments += result.num_segments
                bar.set_postfix_str(f"{num_segments:,} segments", refresh=False)
                bar.update()


def _check_enough(
    options: SegmentOptions, counted: ChunkCounts, skips: Sequence[Skip], num_recordings: int, ledger_path: Path
) -> None:
    """Raise when nothing came out, or too much of the input was bad; what was cut stays for the next run."""
    if counted.num_rows == 0:
        _leave(options.output_dir)
        first = f": {skips[0].id}: {skips[0].reason}" if skips else ""
        raise DrivingError(
            f"no segment came out of {num_recordings:,} recordings ({len(skips):,} skipped); the first reason{first}"
        )
    bad = [skip for skip in skips if skip.stage not in (EDGE, EXCLUDED, FACTS)]
    bad_recordings = {skip.id for skip in bad if not is_of_segment(skip)}
    num_bad_segments = len({skip.id for skip in bad if is_of_segment(skip)})
    num_excluded = len({skip.id for skip in skips if skip.stage == EXCLUDED} - bad_recordings)
    num_usable = num_recordings - num_excluded
    check_bad_fraction(len(bad_recordings), num_usable, options.max_bad_fraction, ledger_path)
    check_bad_fraction(num_bad_segments, counted.num_rows + num_bad_segments, options.max_bad_fraction, ledger_path)


def _leave(output_dir: Path) -> None:
    """Give up a folder in which nothing was made, so that the next run may come with other options."""
    for folder in (INDEX_FOLDER, VIDEO_FOLDER, VIDEOS_FOLDER):
        shutil.rmtree(output_dir / folder, ignore_errors=True)
    for name in (LEDGER_NAME, PLAN_NAME):
        (output_dir / name).unlink(missing_ok=True)
