"""Two ways to train the same thing in this process: the plain one, and ours by the launchers' own entry.

folder/model, folder/train.json, Setup ──train_plainly──▶ clock
                                       ──train_ours─────▶ clock
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import StepClock

TARGETS = {name: tuple(f"{part}_proj" for part in parts) for name, parts in {
    "attention": ("q", "k", "v", "o"), "all": ("q", "k", "v", "o", "gate", "up", "down"),
}.items()}  # fmt: skip
SEED = 42


@dataclass(frozen=True)
class Setup:
    """What both ways train with.

    Attributes:
        batch_size: samples a step.
        num_steps: optimizer steps, the dropped ones too.
        workers: processes that decode.
        targets: which layers of the language model get adapters: a key of TARGETS.
        checkpointing: compute activations again in the backward pass.
        flat: ours puts the samples of a batch into one row; False pads them, as the plain way does.
        device: "cpu" (fp32) or "cuda" (bf16).
    """

    batch_size: int = 2
    num_steps: int = 5
    workers: int = 1
    lora_r: int = 16
    lora_alpha: int = 32
    targets: str = "attention"
    checkpointing: bool = False
    flat: bool = True
    learning_rate: float = 1e-4
    device: str = "cpu"


def import_libraries() -> None:
    """Everything that either way will import, so that what is measured from here on is the training."""
    from qwenvl.train.quiet import drop_harmless_messages

    drop_harmless_messages()
    import peft  # noqa: F401

    from qwenvl.train import prepare, train_qwen, trainer  # noqa: F401


def train_plainly(folder: Path, setup: Setup, clock: StepClock) -> dict[str, Any]:
    """benchmarks/reference.py in this process; returns the losses and what a sample holds."""
    import torch
    import transformers

    from benchmarks import reference

    transformers.set_seed(SEED)
    processor = transformers.AutoProcessor.from_pretrained(folder / "model")
    loader = reference.build_loader(folder / "train.json", processor, setup.batch_size, setup.workers)
    lora = {
        "r": setup.lora_r,
        "lora_alpha": setup.lora_alpha,
        "lora_dropout": 0.0,
        "target_modules": language_pattern(setup.targets),
    }
    dtype = torch.float32 if setup.device == "cpu" else torch.bfloat16
    model = reference.build_model(folder / "model", lora, setup.device, dtype)
    if setup.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    reference.train(model, loader, setup.num_steps, clock, setup.learning_rate)
    first = [loader.dataset[index]["labels"] for index in range(min(setup.batch_size, len(loader.dataset)))]
    return {
        "losses": [float(loss) for loss in clock.losses],
        "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "tokens": [row.numel() for row in first],
        "supervised_tokens": [int((row != -100).sum()) for row in first],
    }


def language_pattern(targets: str) -> str:
    """Which modules of the whole model get adapters, as PEFT takes it."""
    return rf".*language_model.*\.({'|'.join(TARGETS[targets])})"


def train_ours(
    folder: Path, output_dir: Path, setup: Setup, clock: StepClock, flags: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`train_qwen.run` in this process, timed by a callback; returns the losses and what a sample holds.

    Args:
        flags: flags beside or instead of those that make ours train what the plain way trains.
    """
    import transformers

    from qwenvl.train import train_qwen
    from qwenvl.train.plan_report import PLAN_FACTS_NAME

    losses: list[float] = []

    class Watch(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.stop()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    argv = list_flags(folder, output_dir, setup, flags or {})
    if code := train_qwen.run(argv, callbacks=[Watch()]):
        raise RuntimeError(f"train_qwen.run answered {code}")
    facts = json.loads((output_dir / PLAN_FACTS_NAME).read_text(encoding="utf-8"))
    trainable = sum(part["trainable"] for part in facts["trainable_parameters"].values())
    return {"losses": losses, "trainable": trainable, "first_sample": facts["first_sample"]}


def list_flags(folder: Path, output_dir: Path, setup: Setup, others: Mapping[str, Any]) -> list[str]:
    """The command line of ours that trains what the plain way trains, and what `others` change of it."""
    flags = {
        "model_name_or_path": folder / "model",
        "dataset_use": folder / "train.json",
        "output_dir": output_dir,
        "overwrite_output": True,
        "tune_mm_llm": True,
        "tune_mm_mlp": False,
        "tune_mm_vision": False,
        "lora_enable": True,
        "lora_r": setup.lora_r,
        "lora_alpha": setup.lora_alpha,
        "lora_dropout": 0,
        "lora_target_modules": setup.targets,
        "data_flatten": setup.flat,
        "per_device_train_batch_size": setup.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": setup.num_steps,
        "learning_rate": setup.learning_rate,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "gradient_checkpointing": setup.checkpointing,
        "precision": "fp32" if setup.device == "cpu" else "bf16",
        "use_cpu": setup.device == "cpu",
        "dataloader_num_workers": setup.workers,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": SEED,
        **others,
    }
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))]
