"""Recordings -> segments: one-second clips, each with the motion of the second after it.

source.plan ──▶ refs ──claim the folder──▶ a job each ──cut_recording (workers)──▶ metadata/recordings/<id>.arrow
                                               │ (rows alone: a chunk each)              │ all of a chunk there
metadata/chunks/<chunk>.parquet, <chunk>.json ◀┴─────────finish_chunk (workers)──────────┘
                │ all there                               (--cut scaled: and videos/<chunk>.zip)
segments.parquet + segments.json + chunks.jsonl + skipped.jsonl     write_index; the manifest last
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.chunk_run import drop_stale, is_finished, list_uncut
from data_prep.chunk_videos import VIDEOS_FOLDER
from data_prep.chunks import Chunk, FinishJob, plan_chunks
from data_prep.executors.slurm import WORK_FOLDER, check_idle, format_scripts, submit, write_tasks
from data_prep.executors.slurm_share import run_share
from data_prep.motion_table import TABLE_NAME, format_motion
from data_prep.provenance import read_origin
from data_prep.segment_facts import FACTS
from data_prep.segment_index import INDEX_FOLDER, ChunkCounts, count_chunks, remove_parts, write_index
from data_prep.segment_inputs import fingerprint_inputs, hash_inputs, resolve_fps
from data_prep.segment_jobs import cut_chunks, plan_jobs, plan_output
from data_prep.segment_options import DEFAULT_SPLIT, INDEX_SHARE, NOT_OF_THE_OUTPUT, SLURM, SegmentOptions
from data_prep.segment_places import VIDEO_FOLDER
from data_prep.segment_plan import EDGE, EXCLUDED, is_of_segment
from data_prep.sources import find_source
from data_prep.sources.physical_ai import PhysicalAI, describe_coverage
from driving.clock import count_samples
from driving.errors import DrivingError, LedgerError, SourceError
from driving.ledger import (
    LEDGER_NAME,
    MANIFEST_NAME,
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
from video_io import check_decoder


@dataclass(frozen=True)
class Note:
    """What a run ends with that did not make the output complete; `message` is its last line."""

    message: str


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


def run(options: SegmentOptions) -> SegmentSummary | Note:
    """Cut all recordings of a folder; or submit them, or do one share of them: then a Note says what was done.

    Raises:
        SourceError: The input folder is not what it should be.
        DrivingError: The rate and the duration do not make a whole number of frames.
        VideoError: The decoder asked for cannot be used here.
        LedgerError: The output folder is foreign, locked or from another plan; too much was bad; the disk is full.
    """
    check_apart(options.output_dir, [options.input_dir])
    check_decoder(options.decoder)
    if options.share not in ("", INDEX_SHARE):
        return Note(run_share(options))
    refs = _plan_recordings(options)
    refs = refs[: options.max_clips] if options.max_clips > 0 else refs
    fingerprints = fingerprint_inputs(refs)
    fps = resolve_fps(options.fps, refs)
    count_samples(options.duration, fps)
    plan = plan_output(options, refs[0].source if refs else options.source, fps)
    chunks = plan_chunks(refs)
    if options.dry_run:
        return _describe_run(options, refs, chunks)
    if options.executor == SLURM:
        check_idle(options.output_dir)
    with claim_output(options.output_dir, plan, overwrite=options.overwrite_output) as output:
        if output.is_complete:
            _check_inputs(output, hash_inputs(fingerprints))
            remove_parts(options.output_dir)  # a run killed between the manifest and the end leaves them
            summary = SegmentSummary(**output.manifest["summary"]["counts"])
            print(f"{options.output_dir} is already complete")
        else:
            jobs = plan_jobs(options, output.plan, chunks, refs, fingerprints)
            finished = drop_stale(options.output_dir, jobs, options.cut, retry_failed=options.share != INDEX_SHARE)
            unfinished = [job for job in jobs if job.name not in finished]
            by_id = {ref.recording_id: ref for ref in refs if not ref.obstacle}
            if options.executor == SLURM and unfinished:
                return _submit(options, unfinished, by_id)
            _cut_all(options, output.plan["fps"], unfinished, by_id)
            summary = _write_output(options, output, refs, chunks, hash_inputs(fingerprints))
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


def _check_inputs(output: Output, inputs: str) -> None:
    if output.manifest["summary"]["inputs"] != inputs:
        raise LedgerError(
            f"{output.folder} was made from other recordings than those that are in "
            f"{output.plan['input_dir']} now; pass --overwrite-output to replace it"
        )


def _describe_run(options: SegmentOptions, refs: Sequence[RecordingRef], chunks: Sequence[Chunk]) -> Note:
    """What a run would do; nothing is written, or looked at but the listing and the names of finished chunks."""
    is_complete = (options.output_dir / MANIFEST_NAME).exists()
    num_left = 0 if is_complete else sum(not is_finished(options.output_dir, chunk.name) for chunk in chunks)
    if options.executor == SLURM and num_left:
        print("\n".join(format_scripts(options, num_left)))
    num_usable = sum(not ref.obstacle for ref in refs)
    return Note(f"{num_usable:,} recordings in {len(chunks):,} chunks, {num_left:,} of them to do; nothing was written")


def _submit(options: SegmentOptions, unfinished: Sequence[FinishJob], refs: Mapping[str, RecordingRef]) -> Note:
    """Hand chunks to Slurm; its tasks wait until this run has let go of the folder."""
    write_tasks(options.output_dir, unfinished, refs)
    array_id, index_id = submit(options, len(unfinished))
    return Note(
        f"submitted {len(unfinished):,} chunks as array job {array_id}, and job {index_id}, which writes the index "
        f"after it; run the same command again where a task fails (logs: {options.output_dir / WORK_FOLDER})"
    )


def _cut_all(
    options: SegmentOptions, fps: float, unfinished: Sequence[FinishJob], refs: Mapping[str, RecordingRef]
) -> None:
    waiting = list_uncut(options.output_dir, unfinished)
    num_waiting = sum(len(ids) for ids in waiting.values())
    if num_waiting < len(refs):
        print(f"continuing: {len(refs) - num_waiting:,} of {len(refs):,} recordings are done", flush=True)
    chunks = ((job, waiting[job.name]) for job in unfinished)
    cut_chunks(options, fps, chunks, refs, num_waiting, len(refs))


def _write_output(
    options: SegmentOptions, output: Output, refs: Sequence[RecordingRef], chunks: Sequence[Chunk], inputs: str
) -> SegmentSummary:
    """From finished chunks to a complete folder."""
    names = [chunk.name for chunk in chunks]
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
    command = format_command("prepare_video_segments.py", options, NOT_OF_THE_OUTPUT)
    write_commands(options.output_dir, options.input_dir, command)
    summary = {"counts": counts, "inputs": inputs, "origin": read_origin(options.input_dir)}
    output.finish(summary, [VIDEO_FOLDER, VIDEOS_FOLDER, *index, LEDGER_NAME])
    remove_parts(options.output_dir)
    shutil.rmtree(options.output_dir / WORK_FOLDER, ignore_errors=True)
    return SegmentSummary(**counts)


def _list_unopened(refs: Sequence[RecordingRef]) -> list[Skip]:
    """Ledger lines of what the listing alone rules out; a recording that is listed twice has one line."""
    lines = {(ref.recording_id, ref.obstacle): EXCLUDED if ref.excluded else "plan" for ref in refs if ref.obstacle}
    return [Skip(recording_id, stage, reason) for (recording_id, reason), stage in lines.items()]


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
