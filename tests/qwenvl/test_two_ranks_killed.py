"""Two ranks that are killed, with rows that only one of them found out to be bad."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from driving.ledger import read_ledger  # noqa: E402

pytestmark = [pytest.mark.needs_torch, pytest.mark.slow]
LIMIT_S = 900
BAD = ("05.mp4", "07.mp4")


def break_videos(folder: Path) -> None:
    for name in BAD:
        video = folder / "videos" / name
        video.write_bytes(video.read_bytes()[:200])


@pytest.fixture
def start(repository, tiny_model, training_json, tmp_path):
    """start(name, **environment): two ranks over a copy of the training folder with two broken videos."""
    shutil.copytree(training_json.parent, tmp_path / "data")
    break_videos(tmp_path / "data")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def launch(name: str, **environment: str) -> subprocess.Popen:
        settings = {
            **kept, "NPROC_PER_NODE": "2", "MODEL_PATH": str(tiny_model), "DATASET": str(tmp_path / "data/train.json"),
            "OUTPUT_DIR": str(tmp_path / name), "MAX_STEPS": "12", "BATCH_SIZE": "1", "GRAD_ACCUM_STEPS": "1",
            "VIDEO_FPS": "10", "LEARNING_RATE": "1e-2", "CUDA_VISIBLE_DEVICES": "", "SAVE_STEPS": "6",
            "LORA_R": "4", "MASTER_PORT": "29571", **environment,
        }  # fmt: skip
        with (tmp_path / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                [str(repository / "train_physical_ai_lora.sh"), "--max_bad_fraction", "0.5"],
                env=settings, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    return launch


def list_descendants(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(folder.name), *list_descendants(int(folder.name))]
    return found


def wait_for_step(process: subprocess.Popen, folder: Path, step: int) -> None:
    log, until_s = folder / "training_log.jsonl", time.monotonic() + LIMIT_S
    while not log.exists() or f'"step": {step},' not in log.read_text():
        assert process.poll() is None and time.monotonic() < until_s, folder.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.01)


def assert_ended_well(process: subprocess.Popen, folder: Path) -> None:
    assert process.wait(timeout=LIMIT_S) == 0, folder.with_suffix(".log").read_text()[-3000:]


def test_killed_and_continued_with_mended_files_two_ranks_end_in_the_same_bits(start, training_json, tmp_path):
    expected = [("clip05_seg_00", "load"), ("clip07_seg_00", "load")]
    assert_ended_well(start("whole"), tmp_path / "whole")
    assert [(skip.id, skip.stage) for skip in read_ledger(tmp_path / "whole/skipped.jsonl")] == expected
    assert list((tmp_path / "whole").glob("skipped*")) == [tmp_path / "whole/skipped.jsonl"]

    process = start("run")
    wait_for_step(process, tmp_path / "run", 8)
    for pid in [process.pid, *list_descendants(process.pid)]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    found = read_ledger(tmp_path / "run/checkpoint-6/skipped.jsonl")
    assert [(skip.id, skip.stage) for skip in found] == expected  # ten rows in five steps: both ranks have met theirs
    for name in BAD:
        shutil.copy(training_json.parent / "videos" / name, tmp_path / "data/videos" / name)
    assert_ended_well(start("run"), tmp_path / "run")
    assert "continuing from" in (tmp_path / "run.log").read_text()
    whole, again = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "run"))
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


def test_the_bad_rows_of_both_ranks_together_stop_both(start, tmp_path):
    rows = json.loads((tmp_path / "data/train.json").read_text())
    for row in rows[:4]:
        video = tmp_path / "data" / row["video"]
        video.write_bytes(video.read_bytes()[:200])
    process = start("run")
    assert process.wait(timeout=LIMIT_S) == 1
    said = (tmp_path / "run.log").read_text()
    assert said.count("of 10 samples are bad (at most 50.0% may be)") == 1
