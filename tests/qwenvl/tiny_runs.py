"""A training run that takes seconds: its command line, a kill after a step, and a comparison of what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file


def list_flags(model: Path | str, data: Path | str, output_dir: Path | str, *extra: str) -> list[str]:
    """A command line for the CPU, two rows a batch; what `extra` gives again wins."""
    return [
        "--model_name_or_path", str(model), "--dataset_use", str(data), "--output_dir", str(output_dir),
        "--per_device_train_batch_size", "2", "--learning_rate", "1e-2", "--video_fps", "10", "--report_to", "none",
        "--disable_tqdm", "True", "--dataloader_num_workers", "0", "--use_cpu", "True", *extra,
    ]  # fmt: skip


class Killed(Exception):
    """What `KillAt` raises."""


class KillAt(transformers.TrainerCallback):
    """Stops a run after a step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Killed


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a result or a checkpoint in one file: the model's or the adapter's."""
    (path,) = folder.glob("*model.safetensors")
    return load_file(path)


def assert_same_weights(found_dir: Path, expected_dir: Path) -> None:
    """Both hold weights of the same names and bits."""
    found, expected = read_weights(found_dir), read_weights(expected_dir)
    assert found.keys() == expected.keys(), f"only in one: {sorted(found.keys() ^ expected.keys())}"
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == [], f"{len(different)} of {len(expected)} differ: {different}"


def read_losses(folder: Path) -> list[tuple[int, float]]:
    """(step, loss) of each line of a run's log."""
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]
