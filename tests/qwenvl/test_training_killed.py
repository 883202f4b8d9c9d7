"""A training process that is killed or stopped, with its loader's workers, and started again by the same command."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from zygote import Zygote

pytest.importorskip("torch")
from tiny_runs import assert_same_weights, list_flags, read_losses  # noqa: E402

pytestmark = pytest.mark.needs_torch

NUM_STEPS = 24
NUM_KILLS = 5
LORA = ("--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1")
FULL = ("--tune_mm_vision", "True")
PACKED = ("--data_packing", "True", "--model_max_length", "300", "--per_device_train_batch_size", "1")
WAYS = {
    "lora": LORA,
    "lora-with-workers": (*LORA, "--dataloader_num_workers", "2", "--save_steps", "5"),
    "full": FULL,
    "full-with-workers": (*FULL, "--dataloader_num_workers", "2"),
    "packed": (*LORA, *PACKED),
    "packed-full-with-workers": (*FULL, *PACKED, "--dataloader_num_workers", "2"),
    "flattened-with-workers": (*LORA, "--data_flatten", "True", "--dataloader_num_workers", "2"),
    "accumulated-and-cached": (*LORA, "--gradient_accumulation_steps", "3", "--cache_frames", "True"),
}


def arguments(tiny_model, training_json, output_dir, *extra: str) -> list[str]:
    steps = ("--gradient_accumulation_steps", "1", "--max_steps", str(NUM_STEPS), "--save_steps", "1")
    return list_flags(tiny_model, training_json, output_dir, *steps, *extra)


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.stop()


@pytest.fixture(scope="module")
def whole(zygote, tiny_model, training_json, tmp_path_factory):
    """whole(*flags): the folder of a run that nothing disturbed."""
    folder, done = tmp_path_factory.mktemp("whole"), {}

    def find(*flags: str) -> Path:
        if flags not in done:
            output = folder / str(len(done))
            run = zygote.start(arguments(tiny_model, training_json, output, *flags), output)
            assert run.wait() == 0, run.read("err")
            done[flags] = output
        return done[flags]

    return find


@pytest.fixture
def begin(zygote, tiny_model, training_json, tmp_path):
    """begin(*flags): start, or start again, the run in tmp_path / "run"."""

    def start(*flags: str):
        command = arguments(tiny_model, training_json, tmp_path / "run", *flags)
        return zygote.start(command, tmp_path / "said")

    return start


def wait_until_gone(group: int, within_s: float = 5.0) -> None:
    """Return when no process of the group is left; fail when one stays."""
    until_s = time.monotonic() + within_s
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < until_s, "a process of the run is still there"
        time.sleep(0.01)


def test_ctrl_c_ends_in_one_line_and_the_same_command_ends_in_the_same_bits(whole, begin, tmp_path):
    flags = WAYS["lora-with-workers"]
    run = begin(*flags)
    run.wait_for_step(tmp_path / "run", 6)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    assert run.wait() == 130
    assert run.read("err").strip() == "interrupted; run the same command again to continue"
    assert not (tmp_path / "run" / "manifest.json").exists()
    wait_until_gone(run.pid)
    run = begin(*flags)
    assert run.wait() == 0, run.read("err")
    assert "continuing from" in run.read("out")
    assert_same_weights(tmp_path / "run", whole(*flags))


@pytest.mark.slow
def test_an_impatient_ctrl_c_says_no_more(begin, tmp_path):
    run = begin(*WAYS["lora-with-workers"])
    run.wait_for_step(tmp_path / "run", 2)
    for _ in range(3):
        os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.05)
    assert run.wait() == 130
    assert run.read("err").strip() == "interrupted; run the same command again to continue"


def test_sigterm_to_the_whole_group_ends_in_a_checkpoint_of_the_step_and_then_in_the_same_bits(whole, begin, tmp_path):
    flags = (*WAYS["lora-with-workers"], "--save_steps", "1000")
    run = begin(*flags)
    run.wait_for_step(tmp_path / "run", 6)
    os.killpg(run.pid, signal.SIGTERM)  # as a scheduler does
    assert run.wait() == 143
    assert run.read("err") == ""
    assert "stopped as asked; run the same command again to continue from" in run.read("out")
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    wait_until_gone(run.pid)
    run = begin(*flags)
    assert run.wait() == 0, run.read("err")
    assert f"continuing from {checkpoint}" in run.read("out")
    assert_same_weights(tmp_path / "run", whole(*WAYS["lora-with-workers"]))


def test_killed_with_its_workers_at_work_it_can_be_started_again_at_once(whole, begin, tmp_path):
    flags = WAYS["lora-with-workers"]
    run = begin(*flags)
    run.wait_for_step(tmp_path / "run", 6)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run = begin(*flags)  # a worker that was left would hold the folder's lock
    assert run.wait() == 0, run.read("err")
    assert_same_weights(tmp_path / "run", whole(*flags))


@pytest.mark.slow
@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS)
def test_killed_at_random_moments_the_same_command_ends_in_the_same_bits(flags, whole, begin, tmp_path):
    draw = random.Random(str(flags))
    expected, folder = whole(*flags), tmp_path / "run"
    step = 0
    for _ in range(NUM_KILLS):
        step += draw.randint(1, NUM_STEPS // NUM_KILLS - 1)
        run = begin(*flags)
        run.wait_for_step(folder, step)
        time.sleep(draw.uniform(0, 0.3))  # anywhere: in a step, in a checkpoint, in a rename
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        wait_until_gone(run.pid)
    run = begin(*flags)
    assert run.wait() == 0, run.read("err")
    assert "continuing from" in run.read("out")
    assert_same_weights(folder, expected)
    assert read_losses(folder) == read_losses(expected)
