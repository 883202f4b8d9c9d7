"""Rows alone (`--cut index`): a worker makes those of a whole chunk, the same as workers of single recordings do."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from killing import read_tree, run_killed_at_rename

from data_prep import segment_index, segment_jobs
from data_prep.chunk_run import ChunkWork, give_up, work_on
from data_prep.chunks import FinishJob
from data_prep.segment_options import SegmentOptions
from data_prep.segment_rows import read_part
from data_prep.segment_work import CutCounts
from data_prep.segments import run
from data_prep.synthetic import constant_motion, write_dataset
from driving.errors import LedgerError
from driving.executors import RetriedJobs, run_jobs
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


def test_recordings_that_have_a_file_already_are_not_cut_again(monkeypatch, capsys):
    cut()
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    with monkeypatch.context() as patch:
        patch.setattr(segment_jobs, "_is_one_job", lambda *_: False)
        assert run_killed_at_rename(cut, 2)  # after the plan and one part
    cut()
    assert "continuing: 1 of 5 recordings are done" in capsys.readouterr().out
    assert read_tree(Path("out")) == whole


def test_a_task_of_an_array_takes_chunks_too(monkeypatch):
    cut()
    whole = read_tree(Path("out"))
    os.rename("out", "before")
    answers = {"sbatch": "41\n", "squeue": ""}
    monkeypatch.setattr(
        "data_prep.executors.slurm.subprocess.run",
        lambda words, **_: subprocess.CompletedProcess(words, 0, stdout=answers[words[0]], stderr=""),
    )
    cut(executor="slurm", workers=0)
    monkeypatch.setattr("data_prep.segment_work.write_part", lambda *_: 1 / 0)
    for share in ("0/2", "1/2", "index"):
        cut(share=share)
    assert read_tree(Path("out")) == whole


@pytest.mark.slow
def test_ray_takes_chunks_where_it_is_told_for_how_many_workers(monkeypatch):
    pytest.importorskip("ray")
    cut()
    whole = read_tree(Path("out"))
    os.rename("out", "before")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(segment_jobs, "RECORDINGS_PER_CHUNK", 0)
    monkeypatch.setattr("data_prep.executors.ray_tasks.RetriedJobs", check_chunks)
    cut(executor="ray", workers=2)
    assert read_tree(Path("out")) == whole


def check_chunks(jobs, give_up):
    """The executor's own jobs, none of which may be a single recording."""

    def each():
        for job in jobs:
            assert isinstance(job, FinishJob) and job.cuts
            yield job

    return RetriedJobs(each(), give_up)


def test_a_part_with_a_hole_is_named():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_jobs, "_is_one_job", lambda *_: False)
        patch.setattr("data_prep.chunk_run.finish_chunk", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cut()
    path = sorted(Path("out/metadata/recordings").glob("*.arrow"))[0]
    data = bytearray(path.read_bytes())
    data[4096:-4096] = bytes(len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(LedgerError, match=r"\.arrow is damaged .* remove it, and run the same command again"):
        read_part(path)


def test_only_tracks_are_written_without_a_dictionary(monkeypatch):
    for rows_of_an_index_by_chunk in (200_000, 0):
        monkeypatch.setattr(segment_index, "MAX_FILE_ROWS", rows_of_an_index_by_chunk)
        cut(f"out_{rows_of_an_index_by_chunk}")
    for path in ("out_200000/metadata/segments.parquet", "out_0/metadata/chunks/chunk_0000.parquet"):
        group = pq.ParquetFile(path).metadata.row_group(0)
        plain = {
            column.path_in_schema.split(".")[0]
            for column in map(group.column, range(group.num_columns))
            if not column.has_dictionary_page and column.physical_type != "BOOLEAN"
        }
        assert plain == {"targets", "observed", "future_pose"}


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


def test_a_chunk_that_is_given_up_is_finished_once_its_recordings_are_cut_one_by_one():
    cuts = tuple(SimpleNamespace(ref=SimpleNamespace(recording_id=name)) for name in "ab")
    chunk = FinishJob("chunk_0000", [("a", ""), ("b", "")], Path("out"), "", "", cuts=cuts)
    work = ChunkWork([(chunk, [])], lambda _: None)
    assert next(work) is chunk
    assert work.note(give_up(chunk)) == []
    assert [next(work), next(work)] == list(cuts)
    assert next(work, None) is None  # the list of chunks has come to its end
    assert work.note([CutCounts("a", 4)]) == [CutCounts("a", 4)]
    assert next(work, None) is None
    work.note([CutCounts("b", 0)])
    assert next(work) == replace(chunk, cuts=())


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
