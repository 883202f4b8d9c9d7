"""Chunks: what is finished together, what stays of it, and what a run goes on from."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cutting import cut, draw_recording, draw_recordings, read_rows
from killing import read_tree, run_killed_at_rename

from data_prep import chunks, segment_index, segment_jobs
from data_prep.chunk_run import give_up, work_on
from data_prep.chunks import plan_chunks, read_chunk_facts
from data_prep.segment_jobs import FORMAT_VERSION
from data_prep.segment_options import SegmentOptions
from data_prep.segment_table import open_segments
from data_prep.segment_work import CutJob
from driving.errors import DrivingError, LedgerError
from driving.ledger import read_ledger
from driving.recording import RecordingRef


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Five videos in rec/, two to a chunk; the test runs beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunks, "RECORDINGS_PER_CHUNK", 2)
    return draw_recordings(tmp_path, "abcde")


def read_completion(output="out"):
    return [json.loads(line) for line in Path(output, "metadata/chunks.jsonl").read_text().splitlines()]


def stop_before_the_index(**options):
    """A run in which every chunk is finished, and that does not come to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.segments.write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cut(**options)


def make_ref(name, source="physical_ai", **metadata):
    return RecordingRef(name, source, name, metadata=metadata)


def test_a_dataset_that_comes_in_chunks_keeps_them():
    refs = [make_ref("a", chunk=12), make_ref("b", chunk=3), make_ref("c", chunk=12)]
    assert [(chunk.name, chunk.positions) for chunk in plan_chunks(refs)] == [
        ("chunk_0003", [1]),
        ("chunk_0012", [0, 2]),
    ]


def test_any_other_listing_is_cut_into_hundreds():
    names = [
        (chunk.name, len(chunk.positions)) for chunk in plan_chunks([make_ref(str(n), "kitti") for n in range(250)])
    ]
    assert names == [("batch_00000", 100), ("batch_00001", 100), ("batch_00002", 50)]


def test_a_finished_chunk_has_two_files_and_no_parts(recordings):
    stop_before_the_index()
    assert sorted(os.listdir("out/metadata/chunks")) == sorted(
        f"batch_0000{number}.{kind}" for number in range(3) for kind in ("json", "parquet")
    )
    assert os.listdir("out/metadata/recordings") == []
    assert pq.ParquetFile("out/metadata/chunks/batch_00001.parquet").metadata.num_row_groups == 1


def test_the_completion_manifest_tells_inputs_code_config_counts_and_drops(recordings):
    (recordings / "d.mp4").write_bytes(b"no video")
    cut()
    lines = read_completion()
    assert [(line["chunk"], line["num_recordings"], line["num_segments"], line["dropped"]) for line in lines] == [
        ("batch_00000", 2, 6, {}), ("batch_00001", 2, 3, {"probe": 1}), ("batch_00002", 1, 3, {}),
    ]  # fmt: skip
    assert all(len(line[name]) == 64 for line in lines for name in ("inputs", "code", "config"))
    assert len({line["inputs"] for line in lines}) == 3
    assert not Path("out/metadata/chunks").exists()  # their rows are in segments.parquet


def test_other_options_are_another_config_and_another_folder_is_not(recordings):
    cut("one")
    cut("two")
    cut("three", duration=0.5)
    configs = [{line["config"] for line in read_completion(output)} for output in ("one", "two", "three")]
    assert configs[0] == configs[1] != configs[2]


def test_what_the_listing_rules_out_is_counted_in_its_chunk(recordings, monkeypatch):
    import dataclasses

    from data_prep.sources.folder import VideoFolder

    plan = VideoFolder.plan

    def plan_with_fault(self, root, camera=""):
        refs = plan(self, root, camera)
        return [dataclasses.replace(ref, fault="torn") if ref.recording_id == "e" else ref for ref in refs]

    monkeypatch.setattr(VideoFolder, "plan", plan_with_fault)
    cut()
    assert (read_completion()[2]["num_recordings"], read_completion()[2]["dropped"]) == (1, {"plan": 1})


def test_rows_are_in_the_listings_order_whatever_the_chunk(recordings, monkeypatch):
    cut("out")
    monkeypatch.setattr("data_prep.segments.plan_chunks", lambda refs: [
        chunks.Chunk("x", [4, 1]), chunks.Chunk("y", [0, 2, 3])])  # fmt: skip
    cut("mixed")
    ids = [row["segment_uuid"] for row in read_rows("mixed")]
    assert ids == sorted(ids) == [row["segment_uuid"] for row in read_rows()]


# Going on.


def test_finished_chunks_are_not_cut_again(recordings, capsys, monkeypatch):
    stop_before_the_index()
    monkeypatch.setattr("data_prep.chunk_run.cut_recording", lambda job: 1 / 0)
    assert cut().num_segments == 15
    assert "continuing: 5 of 5 recordings are done" in capsys.readouterr().out


def test_of_a_stale_chunk_only_what_changed_is_cut_again(recordings, capsys):
    cut("whole")
    stop_before_the_index()
    draw_recording(recordings / "d.mp4", first_grey=5, seconds=6)
    assert cut().num_segments == 4 * 3 + 5
    assert "continuing: 4 of 5 recordings are done" in capsys.readouterr().out


def test_a_recording_that_came_meanwhile_moves_the_batches_and_loses_nothing(recordings, capsys):
    stop_before_the_index()
    draw_recording(recordings / "aa.mp4")
    assert cut().num_segments == 18
    assert "continuing: 5 of 6 recordings are done" in capsys.readouterr().out
    assert [line["num_recordings"] for line in read_completion()] == [2, 2, 2]


def test_a_recording_that_went_away_takes_its_segments_along(recordings):
    stop_before_the_index()
    (recordings / "b.mp4").unlink()
    assert cut().num_segments == 12
    assert not list(Path("out/video_segments").glob("b_*"))


def test_a_segment_file_that_is_gone_is_made_again_before_the_end(recordings, capsys):
    cut("whole")
    stop_before_the_index()
    Path("out/video_segments/c_seg_01.mp4").unlink()
    cut()
    assert "continuing: 4 of 5 recordings are done" in capsys.readouterr().out
    assert (
        Path("out/video_segments/c_seg_01.mp4").read_bytes() == Path("whole/video_segments/c_seg_01.mp4").read_bytes()
    )


def test_a_damaged_chunk_is_named(recordings):
    stop_before_the_index()
    Path("out/metadata/chunks/batch_00001.json").write_text("{}")
    with pytest.raises(LedgerError, match=r"batch_00001\.json is damaged .* remove it, and run the same command again"):
        cut()


def test_a_chunk_that_another_worker_finished_is_finished(recordings, monkeypatch):
    stop_before_the_index()
    before = read_tree(Path("out/metadata/chunks"))
    facts = read_chunk_facts(Path("out/metadata/chunks/batch_00000.json"))
    job = chunks.FinishJob(
        facts.chunk, [(one.id, one.fingerprint) for one in facts.recordings], Path("out"), facts.code, facts.config
    )
    chunks.finish_chunk(job)  # its parts are gone
    assert read_tree(Path("out/metadata/chunks")) == before
    Path("out/metadata/chunks/batch_00000.json").unlink()
    with pytest.raises(FileNotFoundError):
        chunks.finish_chunk(job)


def die_over_c(job):
    """A worker that c.mp4 kills, in the middle of its segments."""
    if getattr(job, "ref", None) is not None and job.ref.recording_id == "c":
        Path("out/video_segments/c_seg_00.mp4").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return work_on(job)


def test_a_recording_that_kills_its_workers_is_in_the_ledger_and_the_others_in_the_index(recordings, monkeypatch):
    monkeypatch.setattr("data_prep.segment_jobs.work_on", die_over_c)
    assert cut(workers=2).num_segments == 12
    (skip,) = read_ledger(Path("out/skipped.jsonl"))
    assert (skip.id, skip.stage, skip.reason) == ("c", "cut", "it killed its worker 3 times (out of memory?)")
    assert not list(Path("out/video_segments").glob("c_*"))


def test_a_chunk_that_kills_its_workers_stops_the_run():
    job = chunks.FinishJob("chunk_0007", [], Path("out"), "", "")
    with pytest.raises(DrivingError, match="killed 3 times while they put chunk chunk_0007 together"):
        give_up(job)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["nothing", "a file more"])
def test_killed_at_every_rename_chunks_end_the_same(recordings, change):
    """The first run was stopped before its index; the second takes chunks apart where a file came between."""
    if change == "a file more":
        stop_before_the_index()
        os.rename("out", "stopped")
        draw_recording(recordings / "aa.mp4")
    cut("out")
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    num_killed = 0
    while True:
        if change == "a file more":
            os.system("cp -r stopped out")
        if not run_killed_at_rename(lambda: cut("out"), 3 * num_killed):  # every third: each costs two runs
            break
        cut("out")
        assert read_tree(Path("out")) == whole
        num_killed += 1
        os.rename("out", f"killed_{num_killed}")
    assert num_killed >= 8
    assert read_tree(Path("out")) == whole


# An index that is too large for one file.


@pytest.fixture
def large(recordings, monkeypatch):
    monkeypatch.setattr(segment_index, "MAX_FILE_ROWS", 10)
    return recordings


def test_the_index_of_a_large_run_is_its_chunks(large):
    cut()
    assert not Path("out/metadata/segments.parquet").exists()
    assert not Path("out/metadata/segments.json").exists()
    assert len(read_completion()) == 3
    cut("out")  # complete: left as it is
    assert read_chunk_facts(Path("out/metadata/chunks/batch_00002.json")).recordings[0].num_rows == 3


@pytest.mark.parametrize("place", ["out", "out/metadata", "out/metadata/segments.parquet", "out/metadata/chunks"])
def test_a_large_index_reads_as_one_table(large, monkeypatch, place):
    cut()
    monkeypatch.setattr(segment_index, "MAX_FILE_ROWS", 100)
    cut("small")
    large_table, small = open_segments(Path(place)), open_segments(Path("small"))
    assert (large_table.num_rows, large_table.columns, large_table.folder) == (15, small.columns, Path("out"))
    columns = ["segment_uuid", "fps", "future_pose", "no_such_column"]
    assert large_table.read_rows(columns) == small.read_rows(columns)
    wanted = [number % 4 == 1 for number in range(15)]
    ids = [[one for table in found.iter_tables(wanted, ["segment_uuid"]) for one in table["segment_uuid"].to_pylist()]
           for found in (large_table, small)]  # fmt: skip
    assert ids[0] == ids[1] == ["a_seg_01", "b_seg_02", "d_seg_00", "e_seg_01"]
    assert large_table.read_plan()["format"] == FORMAT_VERSION


def test_a_large_index_has_another_hash_when_a_chunk_has_other_rows(large):
    cut()
    before = open_segments(Path("out")).sha256()
    cut("other", duration=0.5)
    assert before == open_segments(Path("out")).sha256() != open_segments(Path("other")).sha256()


def test_a_large_index_is_not_open_before_the_run_is_complete(large):
    stop_before_the_index()
    with pytest.raises(DrivingError, match="the segments in out are not finished"):
        open_segments(Path("out"))


def test_a_large_run_of_which_a_chunk_is_gone_makes_it_again(large):
    cut()
    before = read_tree(Path("out"))
    Path("out/metadata/chunks/batch_00001.parquet").unlink()
    assert cut().num_segments == 15
    assert read_tree(Path("out")) == before


@pytest.mark.parametrize(("num_recordings", "num_threads"), [(1, 8), (3, 2), (8, 1), (100, 1)])
def test_a_worker_is_one_thread_unless_there_are_fewer_recordings_than_cores(num_recordings, num_threads, monkeypatch):
    """So two workers do twice what one does, and one long recording still has the whole machine."""
    jobs: list[CutJob] = []

    def note(executor, function, work, **_):
        jobs.extend(work)
        return iter(())

    monkeypatch.setattr(segment_jobs, "count_cores", lambda: 8)
    monkeypatch.setattr(segment_jobs, "run_on", note)
    refs = {str(number): make_ref(str(number), "folder") for number in range(num_recordings)}
    chunk = chunks.FinishJob("batch_00000", [(name, "") for name in refs], Path("out"), "", "")
    options = SegmentOptions(Path("in"), Path("out"), workers=1)
    segment_jobs.cut_chunks(options, 30.0, [(chunk, list(refs))], refs, num_recordings, num_recordings)
    assert {job.num_threads for job in jobs} == {num_threads}
    assert len(jobs) == num_recordings
