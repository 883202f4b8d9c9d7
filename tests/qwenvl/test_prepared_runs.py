"""Training from a prepared cache gives the bits of training from video; its door survives a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
from tiny_runs import assert_same_weights, list_flags  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.data.prepared import PreparedCache  # noqa: E402
from qwenvl.prepare_cache import PrepareCacheOptions, main  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture(scope="module")
def cache(tiny_model, training_json, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "prepared"
    flags = ["--model_name_or_path", str(tiny_model), "--dataset_use", str(training_json), "--output_dir", str(folder)]
    assert main([*flags, "--video_fps", "10", "--workers", "1"]) == 0
    return folder


def train(tiny_model, training_json, output_dir, *extra: str) -> Path:
    flags = ("--lora_enable", "True", "--lora_r", "4", "--max_steps", "4", *extra)
    assert run(list_flags(tiny_model, training_json, output_dir, *flags)) == 0
    return output_dir


@pytest.mark.parametrize(
    "more", [(), ("--data_packing", "True", "--model_max_length", "250")], ids=["padded", "packed"]
)
def test_the_weights_are_those_of_training_from_video(more, cache, tiny_model, training_json, tmp_path, monkeypatch):
    from_video = train(tiny_model, training_json, tmp_path / "video", *more)

    def refuse(*args, **kwargs):
        raise AssertionError("a video was decoded")

    monkeypatch.setattr("video_io.decode.iter_decoded", refuse)
    flags = (*more, "--prepared_dir", str(cache), "--dataloader_num_workers", "1")
    assert_same_weights(train(tiny_model, training_json, tmp_path / "prepared", *flags), from_video)


def test_a_run_with_other_pixels_is_refused(cache, tiny_model, training_json, tmp_path):
    flags = ("--video_fps", "5", "--prepared_dir", str(cache), "--dataloader_num_workers", "2")
    with pytest.raises(DrivingError, match="prepared with video_fps = 10.0, this run has 5.0; prepare another folder"):
        train(tiny_model, training_json, tmp_path / "run", *flags)


def test_the_flags_of_the_door_have_the_defaults_of_training():
    from qwenvl.train.argument import DataArguments, TrainingArguments

    theirs = {**DataArguments.__dataclass_fields__, **TrainingArguments.__dataclass_fields__}
    ours = PrepareCacheOptions.__dataclass_fields__
    shared = (ours.keys() & theirs.keys()) - {"output_dir", "overwrite_output"}
    assert len(shared) == 11
    assert {name: ours[name].default for name in shared} == {name: theirs[name].default for name in shared}


@pytest.mark.slow
def test_a_door_that_is_killed_goes_on_where_it_was(tiny_model, draw, tmp_path, repository):
    rows = []
    for index in range(40):
        draw(tmp_path / f"{index:02d}.mp4", 30, 480, 640, shade=index)
        turns = [{"from": "human", "value": "<video>\nQ"}, {"from": "gpt", "value": f"({index}.0, 0.1)"}]
        rows.append({"id": f"row{index}", "video": f"{index:02d}.mp4", "conversations": turns})
    (tmp_path / "train.json").write_text(json.dumps(rows))
    folder = tmp_path / "prepared"
    command = [
        sys.executable, repository / "scripts/prepare_cache.py", "--model_name_or_path", tiny_model, "--workers", "2",
        "--dataset_use", tmp_path / "train.json", "--output_dir", folder, "--video_frame_pixels", "307200",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(folder.glob("shard-*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.json")}
    assert not (folder / "manifest.json").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith("40 rows")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    held = PreparedCache.read(folder).entries
    assert len({entry.row for entry in held}) == len(held) == 40
    third = subprocess.run(command, capture_output=True, text=True, check=False)
    assert third.stdout.splitlines()[-1].startswith("already complete: 40 rows")
