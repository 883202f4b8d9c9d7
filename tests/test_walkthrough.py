"""The walk-through of FINETUNE.md with the default names, in a folder of its own, on a few small drawn recordings.

Doors are called in this process (importing torch costs seconds each time); the launchers and the converter, whose
command line is the promise, as the user calls them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from data_prep import hf_dataset, segment_options, synthetic, training_format  # noqa: E402
from evaluation import evaluate  # noqa: E402
from qwenvl.data.dataset import read_clips  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.train import train_qwen  # noqa: E402

pytestmark = pytest.mark.needs_torch

FPS = "10"
SMALL = {"VIDEO_FPS": FPS, "VIDEO_MIN_FRAMES": "4", "VIDEO_FRAME_PIXELS": "8192", "BATCH_SIZE": "2"}
SMALL |= {"GRAD_ACCUM_STEPS": "1", "CUDA_VISIBLE_DEVICES": ""}
CHECKOUT = (".venv", "scripts", "qwen-vl-finetune", "train_physical_ai.sh", "train_physical_ai_lora.sh",
            "convert_to_training_format.py")  # fmt: skip
LORA = "checkpoints/physical_ai_driving_lora"
FULL = "checkpoints/physical_ai_driving"


def launch(command: str, *arguments: str, **environment: str) -> str:
    """Run a launcher or a door of the folder we stand in, as a user does; returns what it said."""
    done = subprocess.run(
        [command, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def read_json(path: str):
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def walk(repository, tmp_path_factory):
    """A folder with recordings, segments, dataset and training JSON under their default names; we stand in it."""
    folder, before = tmp_path_factory.mktemp("walk"), Path.cwd()
    for name in CHECKOUT:  # recipes stand beside the data, as in a checkout
        if (repository / name).exists():
            (folder / name).symlink_to(repository / name)
    os.chdir(folder)
    drawn = ["--clips", "6", "--seconds", "4", "--height", "64", "--width", "128", "--workers", "1"]
    assert synthetic.main(drawn) == 0
    assert segment_options.main(["--fps", FPS, "--video-frame-pixels", "8192", "--workers", "1"]) == 0
    assert hf_dataset.main(["--fps", FPS]) == 0
    assert "records written to qwen_video_dataset_training" in launch("./convert_to_training_format.py")
    yield folder
    os.chdir(before)


def test_every_stage_finds_its_input_under_the_default_name(walk):
    splits = {name: len(read_json(f"qwen_video_dataset_training/{name}.json")) for name in ("train", "val", "test")}
    segments = read_json("qwen_video_segments/metadata/segments.json")
    assert sum(splits.values()) == len(segments) and min(splits.values()) > 0


@pytest.fixture(scope="module")
def trained(walk, tiny_model):
    """What the LoRA launcher said in its first run of two steps, and what it said when it was called again."""
    small = {**SMALL, "MODEL_PATH": str(tiny_model), "MAX_STEPS": "2"}
    return [launch("./train_physical_ai_lora.sh", **small) for _ in range(2)]


def test_the_lora_launcher_trains_and_says_that_it_is_done_when_called_again(trained):
    first, second = trained
    assert "2 steps, 0 samples skipped" in first
    assert "is already finished (2 steps); nothing to do" in second


def test_the_adapter_is_evaluated_with_the_default_data(trained):
    assert evaluate.main(["--model", LORA, "--bootstrap", "50", "--control-samples", "2", "--device", "cpu"]) == 0
    ids = {row["id"] for row in read_json("qwen_video_dataset_training/test.json")}
    answers = Path("evaluation_results/predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in answers} == ids
    assert Path("evaluation_results/report.html").is_file()


def test_drawn_recordings_are_called_synthetic_in_the_data_and_in_the_scores(trained):
    assert read_json("qwen_video_dataset_training/dataset.json")["synthetic"] is True
    assert read_json("evaluation_results/metrics.json")["data"]["is_synthetic"] is True


@pytest.fixture(scope="module")
def index_rows(walk):
    """Rows of a training JSON whose videos point into the archives, by id."""
    index = ["--output-dir", "index_segments", "--cut", "index", "--fps", FPS, "--workers", "1"]
    assert segment_options.main(index) == 0
    segments = "index_segments/metadata/segments.parquet"
    assert hf_dataset.main(["--segments-path", segments, "--output-dir", "index_dataset", "--fps", FPS]) == 0
    assert training_format.main(["--dataset-dir", "index_dataset", "--output-dir", "index_training"]) == 0
    return {row["id"]: row for row in read_json("index_training/train.index.json")}


def test_rows_that_point_into_an_archive_name_member_and_frames(index_rows):
    for row in index_rows.values():
        assert row["video"].endswith(".zip") and row["member"].endswith(".mp4")
        assert len(row["frame_indices"]) == int(FPS)


def test_an_archive_shows_the_frames_of_the_file_cut_from_it(index_rows):
    settings = Preprocessing(video_fps=float(FPS), video_min_frames=4, video_frame_pixels=8192)
    same, next_frame = [], []
    for cut in read_json("qwen_video_dataset_training/train.json"):
        (expected,), (found,) = read_clips(cut, settings), read_clips(index_rows[cut["id"]], settings)
        assert found.fps == expected.fps and found.frames.shape == expected.frames.shape
        same.append(mean_difference(found.frames, expected.frames))
        next_frame.append(mean_difference(found.frames[:-1], expected.frames[1:]))
    assert max(same) < 4  # grey levels: what encoding twice costs
    assert np.mean(next_frame) > 2 * np.mean(same)  # some of the cars stand still


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())


def test_a_dataset_that_points_into_the_archives_trains_too(index_rows, tiny_model):
    flags = (
        "--lora_enable True --lora_r 4 --max_steps 1 --video_min_frames 4 --video_frame_pixels 8192 --report_to none "
        "--use_cpu True --per_device_train_batch_size 2 --disable_tqdm True --output_dir index_model"
    )
    data = ["--model_name_or_path", str(tiny_model), "--dataset_use", "index_training/train.index.json"]
    assert train_qwen.run([*data, *flags.split(), "--video_fps", FPS]) == 0
    assert read_json("index_model/train_plan.json")["first_sample"]["videos"] == [[int(FPS), 64, 128]]
    assert Path("index_model/skipped.jsonl").read_text() == ""


@pytest.mark.slow
def test_the_full_launcher_trains_with_two_processes(walk, tiny_model):
    small = {**SMALL, "MODEL_PATH": str(tiny_model), "MAX_STEPS": "1", "NPROC_PER_NODE": "2"}
    said = launch("./train_physical_ai.sh", **small)
    assert "2 samples x 2 processes x 1 accumulation = 4 a step" in said
    assert (
        Path(FULL, "model.safetensors").is_file() and read_json(f"{FULL}/manifest.json")["summary"]["total_steps"] == 1
    )
