"""The door over HF_ENDPOINT, killed and continued; and what it leaves, cut into segments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from downloading import CAMERA_ZIP, clips_of, fetch, hash_files
from local_hub import GOOD_TOKEN

from data_prep.dataset_options import DatasetOptions
from data_prep.hf_dataset import run as make_dataset
from data_prep.segment_options import SegmentOptions
from data_prep.segments import run as cut_segments
from driving.ledger import read_ledger


def cut(root, output):
    cut_segments(SegmentOptions(input_dir=root, output_dir=output, cut="index", fps=10.0, workers=1))
    assert read_ledger(output / "skipped.jsonl") == []
    return pq.read_table(output / "metadata/segments.parquet").to_pylist()


@pytest.mark.parametrize("asked", [{"all": True}, {"clips": 4}], ids=["whole chunks", "single clips"])
def test_segments_of_what_was_fetched_are_those_of_the_dataset(hub, recordings, tmp_path, asked):
    fetch(tmp_path / "here", **asked)
    found, expected = cut(tmp_path / "here", tmp_path / "cut"), cut(recordings, tmp_path / "expected")
    told = ("segment_uuid", "split", "start_second", "targets", "observed", "camera", "platform_class")
    assert len(found) == 4 * 2
    assert [[row.get(key) for key in told] for row in found] == [[row.get(key) for key in told] for row in expected]


def test_three_clips_of_two_chunks_are_cut_without_a_fault(hub, tmp_path):
    fetch(tmp_path / "here", clips=3)
    rows = cut(tmp_path / "here", tmp_path / "cut")
    assert sorted({row["clip_uuid"] for row in rows}) == sorted(clips_of(hub.root, 0) + clips_of(hub.root, 1)[:1])


def test_segments_and_their_dataset_keep_the_revision_that_was_fetched(hub, tmp_path):
    fetch(tmp_path / "here", clips=4)
    cut(tmp_path / "here", tmp_path / "cut")
    make_dataset(DatasetOptions(segments_path=tmp_path / "cut", output_dir=tmp_path / "dataset", fps=10.0))
    plan = json.loads((tmp_path / "here" / "plan.json").read_text())
    facts = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    assert len(plan["commit"]) == 40
    assert facts["provenance"]["origin"] == {"repo_id": plan["repo_id"], "commit": plan["commit"]}
    assert f"{plan['repo_id']} at {plan['commit']}" in (tmp_path / "dataset" / "README.md").read_text()


@pytest.fixture
def door(hub, repository, tmp_path):
    """Start the door as a user does, told by the environment where the hub is."""

    def start(*words: str) -> subprocess.Popen:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": GOOD_TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        return subprocess.Popen(
            [sys.executable, "download_dataset.py", "--output-dir", str(tmp_path / "here"), *words],
            cwd=repository, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def wait_for_request(hub, where):
    deadline = time.monotonic() + 60
    while not hub.asked(where):
        assert time.monotonic() < deadline, f"nobody asked for {where}"
        time.sleep(0.02)
    time.sleep(0.3)  # its first bytes are here


@pytest.mark.slow
def test_the_door_killed_in_the_middle_goes_on_where_it_was(hub, door, tmp_path):
    hub.break_next(CAMERA_ZIP.format(0), "stall", 8)
    process = door("--chunk", "0000", "0001")
    wait_for_request(hub, CAMERA_ZIP.format(0))
    process.kill()
    process.communicate()
    assert not (tmp_path / "here" / CAMERA_ZIP.format(0)).exists()
    hub.log.clear()
    again = door("--chunk", "0000", "0001")
    output, complaints = again.communicate()
    assert again.returncode == 0 and complaints == "" and "fetched and checked" in output
    assert hash_files(tmp_path / "here") == hash_files(hub.root)
    (asked,) = hub.asked(CAMERA_ZIP.format(0))
    assert int(asked[2].removeprefix("bytes=").split("-")[0]) > 40_000


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_says_how_to_go_on(hub, door, tmp_path):
    hub.break_next(CAMERA_ZIP.format(0), "status", 429, times=9, headers=[("Retry-After", "300")])
    process = door("--chunk", "0000")
    wait_for_request(hub, CAMERA_ZIP.format(0))
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=20)
    assert process.returncode == 130
    assert complaints == "\ninterrupted; run the same command again to continue\n"


@pytest.mark.slow
def test_a_refusal_is_one_line_and_exit_code_1(hub, door):
    hub.break_next("api/refs", "status", 401, times=9)
    process = door("--chunk", "0000")
    _, complaints = process.communicate()
    assert process.returncode == 1
    assert complaints.startswith("error: the hub does not accept this machine's") and complaints.count("\n") == 1
