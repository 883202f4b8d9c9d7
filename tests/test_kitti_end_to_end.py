"""Real KITTI frames, poses and times through every stage: segments, dataset, JSON, a trained step, a scored model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")
from data_prep import hf_dataset, segment_options, training_format  # noqa: E402
from evaluation import evaluate  # noqa: E402
from qwenvl.train import train_qwen  # noqa: E402

pytestmark = pytest.mark.needs_torch

FPS = 10
SPEED_TOLERANCE_MPS = 0.05


def prepare(recordings: Path) -> None:
    """Everything up to the training JSON, under the default names of the folder we stand in."""
    assert segment_options.main(
        ["--input_dir", str(recordings), "--fps", str(FPS), "--video-frame-pixels", "12288", "--workers", "1",
         "--allow-one-recording"]
    ) == 0  # fmt: skip
    assert hf_dataset.main(["--fps", str(FPS), "--allow-one-recording"]) == 0
    assert training_format.main([]) == 0


@pytest.fixture(scope="module")
def kitti(shared_data, tmp_path_factory, tiny_model):
    """(folder in which the whole walk was done, the recording)"""
    folder, recording, before = tmp_path_factory.mktemp("kitti"), shared_data / "kitti_odometry_06", Path.cwd()
    os.chdir(folder)
    try:
        prepare(recording)
        assert train_qwen.run(
            ["--model_name_or_path", str(tiny_model), "--dataset_use", "qwen_video_dataset_training/train.json",
             "--output_dir", "model", "--lora_enable", "True", "--lora_r", "4", "--max_steps", "1", "--video_fps",
             str(FPS), "--video_min_frames", "4", "--video_frame_pixels", "12288", "--report_to", "none", "--use_cpu",
             "True", "--per_device_train_batch_size", "1", "--disable_tqdm", "True"]
        ) == 0  # fmt: skip
        assert evaluate.main(["--model", "model", "--bootstrap", "50", "--device", "cpu"]) == 0
    finally:
        os.chdir(before)
    return folder, recording


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_truth(folder: Path) -> list[dict]:
    return pq.read_table(folder / "qwen_video_dataset_training" / "truth.parquet").to_pylist()


def chord_speeds(recording: Path, times_s: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """|dX| / dt [m/s] between the two poses around each instant [s], straight from the numbers of poses.txt."""
    position_m = np.loadtxt(recording / "poses.txt").reshape(-1, 3, 4)[:, :, 3]
    speeds_mps = np.linalg.norm(np.diff(position_m, axis=0), axis=1) / np.diff(times_s)
    return speeds_mps[np.searchsorted(times_s, at_s) - 1]


def worst_speed_error(truth: list[dict], recording: Path, times_s: np.ndarray) -> float:
    """Largest distance [m/s] of any target speed from the chord speed at its instant."""
    errors = []
    for row in truth:
        at_s = row["start_second"] + 1 + (np.arange(FPS) + 0.5) / FPS
        errors.append(np.abs(np.array(row["targets"])[:, 0] - chord_speeds(recording, times_s, at_s)).max())
    return float(max(errors))


def test_all_rows_but_those_in_the_gap_between_train_and_test_are_there(kitti):
    folder, _ = kitti
    splits = {row["id"]: row["split"] for row in read_truth(folder)}
    assert set(splits.values()) == {"train", "test"}
    skipped = (folder / "qwen_video_dataset" / "skipped.jsonl").read_text()
    assert len(splits) + skipped.count("in the gap between two sides") == 4  # segments of 5.2 s


def test_speeds_agree_with_poses_over_real_times(kitti):
    folder, recording = kitti
    assert worst_speed_error(read_truth(folder), recording, np.loadtxt(recording / "times.txt")) < SPEED_TOLERANCE_MPS


def test_speeds_disagree_when_times_are_replaced_by_ten_hertz(kitti, tmp_path, monkeypatch):
    _, recording = kitti
    assumed = shutil.copytree(recording, tmp_path / "kitti_odometry_06")
    (assumed / "times.txt").chmod(0o644)
    (assumed / "times.txt").write_text("".join(f"{index / FPS}\n" for index in range(51)))
    monkeypatch.chdir(tmp_path)
    prepare(assumed)
    assert worst_speed_error(read_truth(tmp_path), recording, np.loadtxt(recording / "times.txt")) > 0.3


def test_a_step_was_trained(kitti):
    (line,) = (kitti[0] / "model" / "training_log.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 1 and float(json.loads(line)["loss"]) > 0


def test_the_model_was_asked_about_every_test_row_and_scored(kitti):
    folder, _ = kitti
    tested = {row["id"] for row in read_truth(folder) if row["split"] == "test"}
    lines = (folder / "evaluation_results" / "predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines} == tested
    metrics = read_json(folder / "evaluation_results" / "metrics.json")
    assert metrics["model"]["velocity_mae_mps"]["num_rows"] == len(tested) == 1
    assert 0 <= metrics["model"]["velocity_mae_mps"]["value"] < 30


def test_the_report_says_that_train_and_test_are_one_recording(kitti):
    folder, _ = kitti
    assert read_json(folder / "qwen_video_dataset" / "dataset.json")["one_recording"] is True
    assert "one recording" in (folder / "evaluation_results" / "report.html").read_text().lower()
