import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cutting import FPS, HEIGHT, WIDTH, cut, draw_recording, draw_recordings, read_rows
from killing import count_survivors, read_tree, run_killed_at_rename


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Three videos in rec/; the test runs beside them."""
    monkeypatch.chdir(tmp_path)
    return draw_recordings(tmp_path)


@pytest.mark.parametrize("options", [{}, {"cut": "copy"}])
def test_killed_at_every_rename_the_next_run_ends_the_same(recordings, options):
    (recordings / "bad.mp4").write_bytes(b"no video")
    cut("out", **options)
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    num_killed = 0
    while run_killed_at_rename(lambda: cut("out", **options), num_killed):
        cut("out", **options)
        assert read_tree(Path("out")) == whole
        num_killed += 1
        os.rename("out", f"killed_{num_killed}")
    # plan, segments, parts, chunk (2), ledger, completion, motion table, two indices, commands, manifest
    assert num_killed == 1 + 9 + 4 + 2 + 1 + 1 + 1 + 2 + 1 + 1


def test_killed_again_and_again_the_run_still_gets_on(recordings):
    cut("out")
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    num_runs = 0
    while run_killed_at_rename(lambda: cut("out"), 7):  # every attempt at its eighth rename: the last stage has seven
        num_runs += 1
        assert num_runs < 20
    assert read_tree(Path("out")) == whole


# From outside.


def start(repository, *options):
    command = [
        sys.executable,
        str(repository / "prepare_video_segments.py"),
        "--input-dir",
        "rec",
        "--output-dir",
        "out",
    ]
    return subprocess.Popen(
        [*command, "--fps", str(FPS), "--video-frame-pixels", str(HEIGHT * WIDTH), *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_part(process):
    while process.poll() is None and not list(Path("out/metadata/recordings").glob("*.arrow")):
        time.sleep(0.005)


@pytest.fixture
def many_recordings(recordings):
    for index in range(12):
        draw_recording(recordings / f"more_{index:02d}.mp4", first_grey=5 + index, seconds=6)
    cut("whole", workers=1)
    return recordings


def is_whole():
    """The folder holds what the run in one piece wrote, but for its own name."""

    def renamed(folder):
        tree = {name: data for name, data in read_tree(Path(folder)).items() if "segments.parquet" not in name}
        tree["manifest.json"] = tree["manifest.json"].split(b'"files"')[0]  # sizes: the index holds the folder's name
        return tree

    same = {name: data.replace(b"whole", b"out") for name, data in renamed("whole").items()}
    rows = [[{**row, "video_path": ""} for row in read_rows(folder)] for folder in ("whole", "out")]
    return renamed("out") == same and rows[0] == rows[1]


def test_control_c_says_how_to_go_on_and_the_same_command_does(many_recordings, repository):
    process = start(repository, "--workers", "2")
    wait_for_part(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted; run the same command again to continue" in output
    assert "Traceback" not in output
    assert not Path("out/metadata/segments.parquet").exists()
    again, _ = start(repository, "--workers", "2").communicate(timeout=300)
    assert re.search(r"continuing: \d+ of 15 recordings are done", again)
    assert is_whole()


def test_a_killed_run_leaves_no_worker_and_the_same_command_goes_on(many_recordings, repository):
    process = start(repository, "--workers", "2")
    wait_for_part(process)
    process.kill()
    process.wait()
    assert count_survivors(process.pid) == 0
    output, _ = start(repository, "--workers", "1").communicate(timeout=300)
    assert "69 segments from 15 recordings, 0 skipped" in output  # 3 x 3 + 12 x 5
    assert is_whole()


@pytest.mark.slow
def test_killed_at_ten_random_moments_the_run_ends_the_same(many_recordings, repository):
    rng = np.random.default_rng(0)
    for _ in range(10):
        process = start(repository, "--workers", "2")
        time.sleep(rng.uniform(0.3, 3.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    output, _ = start(repository, "--workers", "2").communicate(timeout=300)
    assert "69 segments from 15 recordings, 0 skipped" in output
    assert is_whole()
