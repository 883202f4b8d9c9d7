"""An array job on commands that stand in for Slurm's and really run the tasks, two at a time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import fake_slurm
import pytest
from cutting import cut, draw_recording, draw_recordings
from killing import read_tree

from data_prep import chunks
from data_prep.executors.slurm import read_chunk_names, work_path
from data_prep.segment_options import parse_share_of_chunks
from data_prep.synthetic import constant_motion, write_dataset
from driving import output_lock
from driving.errors import DrivingError, LedgerError

slow = pytest.mark.slow


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Five videos in rec/ and one that is none, two to a chunk; the test runs beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunks, "RECORDINGS_PER_CHUNK", 2)
    draw_recordings(tmp_path)
    for name in "de":
        draw_recording(tmp_path / "rec" / f"{name}.mp4", first_grey=50)
    (tmp_path / "rec" / "bad.mp4").write_bytes(b"no video")
    return tmp_path / "rec"


@pytest.fixture
def sbatch(recordings, tmp_path, monkeypatch):
    """An sbatch that notes what it is given and runs nothing, and a squeue that shows nothing; returns the calls."""
    calls = []

    def run(words, **_):
        if words[0] == "squeue":
            return subprocess.CompletedProcess(words, 0, stdout="", stderr="")
        calls.append(words)
        return subprocess.CompletedProcess(words, 0, stdout=f"{40 + len(calls)}\n", stderr="")

    monkeypatch.setattr("data_prep.executors.slurm.subprocess.run", run)
    return calls


def submit(**options):
    return cut(executor="slurm", workers=0, **options)


def run_all_shares(num_shares):
    return [cut(share=f"{place}/{num_shares}").message for place in range(num_shares)]


def test_an_array_and_a_job_after_it_are_submitted(sbatch):
    message = submit().message
    assert sbatch == [
        ["sbatch", "--parsable", "out/metadata/work/array.sbatch"],
        ["sbatch", "--parsable", "--dependency=afterok:41", "--kill-on-invalid-dep=yes",
         "out/metadata/work/index.sbatch"],
    ]  # fmt: skip
    assert message.startswith("submitted 3 chunks as array job 41, and job 42, which writes the index after it")
    script = Path("out/metadata/work/array.sbatch").read_text()
    assert "#SBATCH --array=0-2\n" in script and "#SBATCH --cpus-per-task=1\n" in script
    assert script.splitlines()[-1].endswith('--workers 1 --share "$SLURM_ARRAY_TASK_ID/3"')
    assert f"cd {Path.cwd()}\n" in script
    last = Path("out/metadata/work/index.sbatch").read_text().splitlines()[-1]
    assert "--input-dir rec --output-dir out --fps 10.0" in last and last.endswith("--workers 1 --share index")


@pytest.mark.parametrize("way", ["resized", "scaled"])
def test_shares_and_the_job_after_them_make_what_a_local_run_makes(sbatch, way):
    cut("out", cut=way)
    os.rename("out", "local")
    submit(cut=way)
    said = [cut(share=f"{place}/2", cut=way).message for place in range(2)]
    assert said == ["share 0/2: 2 of 2 chunks are finished", "share 1/2: 1 of 1 chunks are finished"]
    assert cut(share="index", cut=way).num_segments == 15
    assert read_tree(Path("out")) == read_tree(Path("local"))


def test_an_array_has_no_more_tasks_than_allowed(sbatch):
    submit(array_size=2)
    script = Path("out/metadata/work/array.sbatch").read_text()
    assert "#SBATCH --array=0-1\n" in script and script.endswith('"$SLURM_ARRAY_TASK_ID/2"\n')


def test_the_job_after_the_array_does_not_try_again_what_failed_and_the_same_command_does(sbatch, recordings, capsys):
    for name in ("bad_2", "bad_3", "bad_4"):
        (recordings / f"{name}.mp4").write_bytes(b"no video")
    submit()
    run_all_shares(1)
    capsys.readouterr()
    with pytest.raises(LedgerError, match="4 of 9 samples are bad"):
        cut(share="index")
    assert "continuing: 9 of 9 recordings are done" in capsys.readouterr().out
    draw_recording(recordings / "bad_2.mp4")
    assert submit().message.startswith("submitted 2 chunks")  # of five, those with a bad one
    run_all_shares(1)
    assert cut(share="index", max_bad_fraction=0.5).num_segments == 18


def test_what_was_finished_is_not_submitted_again(sbatch):
    submit()
    cut(share="0/3")  # a and b
    assert submit().message.startswith("submitted 2 chunks")
    assert read_chunk_names(Path("out")) == ["batch_00001", "batch_00002"]


def test_with_nothing_left_the_index_is_written_at_once(sbatch, recordings):
    (recordings / "bad.mp4").unlink()
    submit()
    run_all_shares(1)
    assert submit().num_segments == 15
    assert len(sbatch) == 2  # of the first submission
    assert not Path("out/metadata/work").exists()
    assert cut(share="0/1").message == "out is already complete"


def test_a_dry_run_prints_the_scripts_and_writes_nothing(sbatch, capsys):
    message = submit(dry_run=True, array_size=2).message
    assert message == "6 recordings in 3 chunks, 3 of them to do; nothing was written"
    printed = capsys.readouterr().out
    assert "#SBATCH --array=0-1\n" in printed and printed.count("#!/bin/bash") == 2
    assert "# sbatch --dependency=afterok:<id of the array> --kill-on-invalid-dep=yes\n" in printed
    assert not Path("out").exists() and sbatch == []
    assert cut(dry_run=True).message == message
    assert capsys.readouterr().out == ""
    cut()
    assert submit(dry_run=True).message == "6 recordings in 3 chunks, 0 of them to do; nothing was written"


# Several tasks, one folder.


def test_a_chunk_that_another_task_has_in_work_is_left_to_it(sbatch, capsys):
    submit()
    with work_path(Path("out"), "batch_00001").open("r+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert run_all_shares(1) == ["share 0/1: 2 of 3 chunks are finished"]
    assert "batch_00001 is in work by another task" in capsys.readouterr().out
    assert run_all_shares(1) == ["share 0/1: 3 of 3 chunks are finished"]


def test_tasks_share_a_folder_and_keep_a_run_of_its_own_out(sbatch, monkeypatch):
    submit()
    monkeypatch.setattr(output_lock, "WAIT_S", 0.3)
    with output_lock.lock_shared(Path("out"), wait_s=0.0):
        assert run_all_shares(1) == ["share 0/1: 3 of 3 chunks are finished"]
        with pytest.raises(LedgerError, match="another run is writing out"):
            cut()


def test_a_task_waits_for_the_run_that_submitted_it_and_gives_up_in_the_end(sbatch):
    submit()
    with output_lock.lock_alone(Path("out")):
        started = time.monotonic()
        with pytest.raises(LedgerError, match="another run is writing out"), output_lock.lock_shared(Path("out"), 0.5):
            pass
        assert time.monotonic() - started > 0.5


def test_jobs_that_still_run_keep_a_second_submission_out(sbatch, monkeypatch):
    submit()

    def squeue(words, **_):
        return subprocess.CompletedProcess(words, 0, stdout="41 segments RUNNING\n", stderr="")

    monkeypatch.setattr("data_prep.executors.slurm.subprocess.run", squeue)
    with pytest.raises(LedgerError, match="job 41 still works on out; wait for it, or end it with scancel 41"):
        submit()


# What can be wrong.


def test_a_share_with_other_options_is_refused(sbatch):
    submit()
    with pytest.raises(LedgerError, match=r"out was made with duration = 1\.0, this run asks for 0\.5"):
        cut(share="0/1", duration=0.5)


def test_a_share_with_other_code_is_refused(sbatch, monkeypatch):
    submit()
    monkeypatch.setattr("data_prep.executors.slurm_share.hash_code", lambda: "another")
    with pytest.raises(LedgerError, match="the code has changed since the chunks of out were submitted"):
        cut(share="0/1")


def test_a_share_of_nothing_is_refused(recordings):
    Path("out").mkdir()
    with pytest.raises(LedgerError, match="out is not a folder that a run has begun"):
        cut(share="0/1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.segments.write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cut()
    with pytest.raises(
        LedgerError, match="nothing was submitted for out; --share is what tasks of --executor slurm are given"
    ):
        cut(share="0/1")


def test_a_damaged_list_of_work_is_named(sbatch):
    submit()
    work_path(Path("out"), "batch_00001").write_text("{")
    with pytest.raises(LedgerError, match=r"batch_00001\.json cannot be read .* with --executor slurm again"):
        run_all_shares(1)


def test_a_machine_without_slurm_is_told_of_the_dry_run(recordings, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DrivingError, match="needs sbatch, which is not on this machine; .* with --dry-run"):
        submit()


def test_what_sbatch_refuses_is_told(recordings, tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text("#!/bin/bash\necho 'Invalid account' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(DrivingError, match=r"sbatch refused \(Invalid account\); mend it \(SBATCH_ACCOUNT"):
        submit()


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "a/b", "1/2/3"])
def test_a_share_that_is_none_is_no_share(text):
    with pytest.raises(ValueError):
        parse_share_of_chunks(text)


# The real thing, in processes of their own.


@slow
def test_an_array_of_which_a_task_is_killed_is_made_up_for_by_the_same_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    motions = [constant_motion(5.0 + number, 0.01) for number in range(12)]
    write_dataset(Path("rec"), motions, seconds=6, height=64, width=112, clips_per_chunk=2)
    cut("out")
    whole = read_tree(Path("out"))
    os.rename("out", "local")
    state = fake_slurm.install(tmp_path / "slurm", monkeypatch)
    assert submit().message.startswith("submitted 6 chunks")
    pid_file = state / "tasks" / "100_1.pid"
    deadline = time.monotonic() + 120
    while not pid_file.exists() or not pid_file.read_text() or not list(Path("out").glob("video_segments/*.mp4")):
        assert time.monotonic() < deadline, (state / "100_0.log").read_text()
        time.sleep(0.01)
    os.killpg(int(pid_file.read_text()), signal.SIGKILL)
    states = fake_slurm.wait_for_jobs(state)
    assert states == {"100": "failed", "101": "failed"}  # a task of the array, and so what depends on it
    assert not Path("out/metadata/segments.parquet").exists()
    assert submit().message.startswith("submitted 1 chunks")
    assert fake_slurm.wait_for_jobs(state) == {**states, "102": "done", "103": "done"}
    assert read_tree(Path("out")) == whole
    assert json.loads(Path("out/manifest.json").read_text())["summary"]["counts"]["num_segments"] == 12 * 5
