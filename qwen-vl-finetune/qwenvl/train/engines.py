"""What a DeepSpeed config may say, and what the engine of a run is called.

The config decides how weights, gradients and optimizer states are spread over ranks and memory. What is learnt, and how
fast, is decided by the flags alone: a config that would overrule them is refused.

zero3_offload.json says "zero_force_ds_cpu_optimizer": false. DeepSpeed's own Adam for the CPU keeps its bias correction
as a running product that no checkpoint holds, so that a resumed run ends in other bits; it needs a compiler, and was no
faster than torch's fused one (docs/LOG.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from qwenvl.train.translate import split_flags

DATA_PARALLEL = "data parallel"
# Sections that would replace our optimizer and its learning rates by part, or the schedule.
OVERRULING = ("optimizer", "scheduler")
GATHER = "stage3_gather_16bit_weights_on_model_save"


def check_deepspeed_config(argv: Sequence[str]) -> None:
    """Raise for a --deepspeed that is no file, no config, or one that takes over what the flags decide.

    Transformers would take the name of a missing file for the config itself.
    """
    for name, values in split_flags(list(argv)):
        if name in ("deepspeed", "dry_run_deepspeed") and values and values[0]:
            _check_file(Path(values[0]))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DrivingError(
            f"the DeepSpeed config {path} does not exist; "
            "there are qwen-vl-finetune/scripts/zero2.json, zero3.json and zero3_offload.json"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DrivingError(f"the DeepSpeed config {path} is not JSON ({error})") from error
    for section in OVERRULING:
        if section in config:
            raise DrivingError(
                f'the DeepSpeed config {path} has a section "{section}", which would overrule --learning_rate, '
                "--mm_projector_lr, --vision_tower_lr and --lr_scheduler_type; take it out"
            )
    if is_zero3(config) and config["zero_optimization"].get(GATHER) is not True:
        raise DrivingError(
            f"the DeepSpeed config {path} would save shards instead of weights that load in transformers; "
            f'write "{GATHER}": true into its "zero_optimization"'
        )


def check_engine(run: Any) -> None:
    """Raise where a DeepSpeed config holds another batch size, clipping or precision than the flags.

    Args:
        run: the TrainingArguments.
    """
    if not run.deepspeed:
        return
    config = read_config(run.deepspeed)
    batch, accumulation = run.per_device_train_batch_size, run.gradient_accumulation_steps
    flags = {
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": batch * accumulation * run.world_size,
        "gradient_clipping": run.max_grad_norm,
        "bf16": run.bf16,
        "fp16": run.fp16,
    }
    for name, expected in flags.items():
        found = config.get(name, "auto")
        found = found.get("enabled", "auto") if isinstance(found, dict) else found
        if found not in ("auto", expected):
            raise DrivingError(
                f'{run.deepspeed}: "{name}" is {json.dumps(found)}, the flags and this machine say '
                f'{json.dumps(expected)}; write "auto" there'
            )


def read_config(config: str | dict | None) -> dict[str, Any]:
    """What a DeepSpeed config (its file, or what it holds) says; nothing for none."""
    return json.loads(Path(config).read_text(encoding="utf-8")) if isinstance(config, str) and config else config or {}


def is_zero3(config: str | dict | None) -> bool:
    """Whether a DeepSpeed config shards the weights themselves."""
    return read_config(config).get("zero_optimization", {}).get("stage") == 3


def name_engine(config: str | dict | None) -> str:
    """The engine, as far as its checkpoints and sums are its own: "data parallel", "ZeRO-3 with optimizer on cpu"."""
    if not config:
        return DATA_PARALLEL
    zero = read_config(config).get("zero_optimization", {})
    devices = {part: zero.get(f"offload_{part}", {}).get("device", "none") for part in ("optimizer", "param")}
    moved = [f"{part} on {device}" for part, device in devices.items() if device != "none"]
    return f"ZeRO-{zero.get('stage', 0)}" + (f" with {', '.join(moved)}" if moved else "")
