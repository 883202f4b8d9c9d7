"""The same recordings, wherever and by however many they are cut: the same bytes, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cutting import FPS, HEIGHT, WIDTH, cut
from killing import count_survivors, list_workers, read_tree

from data_prep.synthetic import write_dataset
from data_prep.synthetic.draw import draw_motion

pytestmark = pytest.mark.slow

NUM_CLIPS, CLIPS_PER_CHUNK, SECONDS = 50, 10, 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Fifty clips in five chunks, and what one process made of them in one go: cut as `out`, kept as `whole`."""
    folder = tmp_path_factory.mktemp("fifty")
    motions = [draw_motion(3, index, SECONDS) for index in range(NUM_CLIPS)]
    write_dataset(
        folder / "rec", motions, seconds=SECONDS, height=64, width=112, clips_per_chunk=CLIPS_PER_CHUNK, workers=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cut("out")
        os.rename("out", "whole")
    return folder


@pytest.fixture
def whole(dataset, monkeypatch):
    """The bytes of every file; the test runs beside the recordings, with no `out`."""
    monkeypatch.chdir(dataset)
    yield read_tree(Path("whole"))
    if Path("out").exists():
        os.rename("out", f"out_{time.monotonic_ns()}")


def test_the_whole_is_what_fifty_clips_should_give(whole):
    rows = pq.read_table("whole/metadata/segments.parquet")
    assert (rows.num_rows, len(set(rows["clip_uuid"].to_pylist()))) == (NUM_CLIPS * (SECONDS - 1), NUM_CLIPS)


@pytest.mark.parametrize("options", [{"workers": 2}, {"executor": "ray", "workers": 2}], ids=["local x2", "ray"])
def test_every_file_has_the_bytes_that_one_process_writes(whole, options):
    if "executor" in options:
        pytest.importorskip("ray")
    cut("out", **options)
    assert read_tree(Path("out")) == whole


def start(repository):
    command = [sys.executable, str(repository / "prepare_video_segments.py"), "--input-dir", "rec"]
    command += ["--output-dir", "out", "--fps", str(FPS), "--video-frame-pixels", str(HEIGHT * WIDTH)]
    with Path("log").open("a") as log:
        return subprocess.Popen([*command, "--workers", "2"], stdout=log, stderr=log, start_new_session=True)


def count_segments():
    return len(list(Path("out/video_segments").glob("*.mp4")))


def wait_for_segment(process):
    """Until a further segment is written, so that most kills hit workers that have begun; at most three seconds."""
    before, deadline = count_segments(), time.monotonic() + 3.0
    while process.poll() is None and time.monotonic() < deadline and count_segments() <= before:
        time.sleep(0.01)


def test_twenty_random_kills_of_workers_and_driver_lose_and_duplicate_nothing(whole, repository):
    rng = np.random.default_rng(5)
    kills: Counter[str] = Counter()
    process = start(repository)
    while kills.total() < 20:
        wait_for_segment(process)
        time.sleep(rng.uniform(0.0, 0.3))
        workers = list_workers(process.pid)
        if process.poll() is not None:
            if process.returncode == 0:  # another one, as long as kills are left
                assert read_tree(Path("out")) == whole
                os.rename("out", f"out_{time.monotonic_ns()}")
            process = start(repository)
        elif rng.random() < 0.3:
            process.kill()
            process.wait()
            kills["driver"] += 1
            process = start(repository)
        elif workers:
            os.kill(workers[rng.integers(len(workers))], signal.SIGKILL)
            kills["worker"] += 1
    if process.wait(timeout=300) != 0:  # the last kills left it without workers
        process = start(repository)
    assert process.wait(timeout=300) == 0
    assert min(kills.values()) >= 3 and len(kills) == 2
    assert Path("log").read_text().count("what it had in work is tried again") >= 3  # kills that hit a recording
    assert count_survivors(process.pid) == 0
    assert read_tree(Path("out")) == whole
