"""A training process that is killed, or stopped with Ctrl-C, and started again by the same command."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch

NUM_STEPS = 60
NUM_KILLS = 3


def arguments(tiny_model, training_json, output_dir, num_workers="1") -> list[str]:
    return [
        "--model_name_or_path", str(tiny_model), "--dataset_use", str(training_json), "--output_dir", str(output_dir),
        "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1", "--learning_rate", "1e-2",
        "--video_fps", "10", "--report_to", "none", "--disable_tqdm", "True", "--dataloader_num_workers", num_workers,
        "--use_cpu", "True", "--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1", "--max_steps",
        str(NUM_STEPS), "--save_steps", "4",
    ]  # fmt: skip


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "qwenvl.train.train_qwen", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_step(process: subprocess.Popen, output_dir, step: int) -> None:
    """Return when the log holds the step; fail when the process ends before."""
    log = output_dir / "training_log.jsonl"
    while not log.exists() or f'"step": {step},' not in log.read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def assert_same_weights(found_dir, expected_dir) -> None:
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (expected_dir, found_dir))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.fixture(scope="module")
def whole(tiny_model, training_json, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(arguments(tiny_model, training_json, folder)) == 0
    return folder


def test_ctrl_c_ends_in_one_line_and_the_same_command_ends_in_the_same_bits(whole, tiny_model, training_json, tmp_path):
    # A loader's worker that is cut off while it hands over a sample may add its own complaint.
    command = arguments(tiny_model, training_json, tmp_path / "run", num_workers="0")
    process = start(command)
    wait_for_step(process, tmp_path / "run", 6)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.strip() == "interrupted; run the same command again to continue"
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert run(command) == 0
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.slow
def test_killed_at_random_steps_the_same_command_ends_in_the_same_bits(whole, tiny_model, training_json, tmp_path):
    command = arguments(tiny_model, training_json, tmp_path / "run")
    draw = random.Random(7)
    step = 0
    for _ in range(NUM_KILLS):
        step += draw.randint(5, NUM_STEPS // NUM_KILLS - 5)
        process = start(command)
        wait_for_step(process, tmp_path / "run", step)
        time.sleep(draw.uniform(0, 0.05))  # anywhere: in a step, in a checkpoint, in a rename
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert run(command) == 0
    assert_same_weights(tmp_path / "run", whole)
