"""Rows alone (`--cut index`): a worker makes those of a whole chunk, the same as workers of single recordings do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from killing import read_tree, run_killed_at_rename

from data_prep import segment_jobs
from data_prep.chunk_run import work_on
from data_prep.chunks import FinishJob
from data_prep.segment_options import SegmentOptions
from data_prep.segments import run
from data_prep.synthetic import constant_motion, write_dataset
from driving.executors import run_jobs
from driving.ledger import read_ledger

NUM_SEGMENTS = 4  # of a recording of five seconds


@pytest.fixture(autouse=True)
def recordings(tmp_path, monkeypatch):
    """Five recordings of PhysicalAI-AV in the chunks 0, 1 and 2; the test runs beside them."""
    monkeypatch.chdir(tmp_path)
    motions = [constant_motion(8.0 + number, 0.01) for number in range(5)]
    write_dataset(Path("rec"), motions, seconds=5, height=32, width=64, clips_per_chunk=2)


def cut(output="out", **options):
    return run(SegmentOptions(Path("rec"), Path(output), **{"cut": "index", "fps": 10.0, "workers": 1} | options))


def test_no_recording_has_a_file_of_its_own_and_the_bytes_are_the_same(monkeypatch):
    cut("out", workers=2)  # five recordings are too few for two workers to take chunks
    one_by_one = read_tree(Path("out"))
    os.rename("out", "before")
    monkeypatch.setattr("data_prep.segment_work.write_part", lambda *_: 1 / 0)
    cut("out")
    assert read_tree(Path("out")) == one_by_one


def test_several_workers_take_chunks_where_there_are_enough(monkeypatch):
    cut("out")
    one = read_tree(Path("out"))
    os.rename("out", "before")
    monkeypatch.setattr(segment_jobs, "RECORDINGS_PER_CHUNK", 0)
    announced = []
    monkeypatch.setattr(segment_jobs, "run_on", lambda executor, function, work, **_: map(note_job(announced), work))
    cut("out", workers=2)
    assert [len(job.cuts) for job in announced] == [2, 2, 1]
    assert read_tree(Path("out")) == one


def note_job(announced):
    def call(job):
        announced.append(job)
        return work_on(job)

    return call


def test_killed_at_every_rename_it_ends_the_same():
    cut()
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    num_killed = 0
    while run_killed_at_rename(cut, num_killed):
        cut()
        assert read_tree(Path("out")) == whole
        num_killed += 1
        os.rename("out", f"killed_{num_killed}")
    # plan, rows and facts of each chunk; ledger, chunks.jsonl, json, motion, index, commands, manifest
    assert num_killed == 1 + 3 * 2 + 7


def die_over_the_third(job):
    """A worker that one recording kills, alone or among others."""
    refs = [cut.ref for cut in job.cuts] if isinstance(job, FinishJob) else [job.ref]
    if any(ref.recording_id == die_over_the_third.target for ref in refs):
        os.kill(os.getpid(), signal.SIGKILL)
    return work_on(job)


def test_of_a_chunk_that_kills_its_workers_only_the_recording_that_does_is_lost(monkeypatch):
    """A real pool of forked workers, which are killed three times over the chunk and three times over the recording."""
    cut("whole")
    ids = read_ids("whole")
    die_over_the_third.target = ids[2]
    monkeypatch.setattr(segment_jobs, "RECORDINGS_PER_CHUNK", 0)
    monkeypatch.setattr(
        segment_jobs,
        "run_on",
        lambda executor, function, work, workers, num_jobs, give_up: run_jobs(
            die_over_the_third, work, workers, forked=True, give_up=give_up
        ),
    )
    assert cut("out", workers=2).num_segments == 4 * NUM_SEGMENTS
    (skip,) = read_ledger(Path("out/skipped.jsonl"))
    assert (skip.id, skip.stage, skip.reason) == (ids[2], "cut", "it killed its worker 3 times (out of memory?)")
    assert read_ids("out") == [one for one in ids if one != ids[2]]


def read_ids(folder):
    rows = pq.read_table(Path(folder) / "metadata/segments.parquet", columns=["clip_uuid"])["clip_uuid"].to_pylist()
    return list(dict.fromkeys(rows))
