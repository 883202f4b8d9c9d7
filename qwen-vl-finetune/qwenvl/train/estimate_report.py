"""The lines of the plan about cost: memory of a process, and with a dry run the hours; both said to be estimates.

MemoryPlan ──format_memory──▶ lines
Work of an epoch ──count_run──▶ operations ÷ measured speed ──format_hours──▶ lines
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from qwenvl.train.argument import TrainPlan
from qwenvl.train.estimate import count_run, describe_learning, list_grids, sum_epoch
from qwenvl.train.flops import Flops
from qwenvl.train.memory import MemoryPlan, estimate_memory
from qwenvl.train.progress import format_duration
from qwenvl.train.speed import Speed, Trial, measure_speed

if TYPE_CHECKING:
    from qwenvl.data.lengths import Lengths

GIB = 2**30


def estimate_time(
    plan: TrainPlan,
    model: Any,
    memory: MemoryPlan,
    *,
    num_rows: int,
    sample: dict[str, Any],
    lengths: Lengths | None,
    video_settings: Any,
    steps_an_epoch: int,
    total_steps: int,
) -> list[str]:
    """Lines about the hours that a run will take on this machine; times a layer of the model for a second or two.

    Args:
        video_settings: the processor's, for the size of a patch.
    """
    grids = list_grids(sample, video_settings.patch_size, video_settings.temporal_patch_size)
    epoch = sum_epoch(num_rows, sample, grids, lengths, memory.shape.vision.merge)
    flops = count_run(memory, epoch, total_steps / steps_an_epoch)
    device = plan.run.device
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[plan.model.precision]
    num_batches = steps_an_epoch * plan.run.gradient_accumulation_steps * plan.num_processes
    trial = Trial(
        model=model,
        shape=memory.shape,
        learning=describe_learning(memory),
        device=device,
        dtype=dtype,
        num_samples=max(1, round(num_rows / num_batches)),
        tokens=max(1, round(epoch.tokens / num_rows)),
        grid=grids[0] if grids else (0, 0, 0),
    )
    # Processes on one CPU share its cores.
    return format_hours(flops, measure_speed(trial), plan.num_processes if device.type == "cuda" else 1, total_steps)


def estimate_seconds(flops: Flops, speed: Speed, num_parallel: int) -> float:
    """Seconds of computation alone: no waiting for data, no saving, no network."""
    text = flops.computed - flops.computed_at("vision")
    return (text / speed.text_flops_per_s + flops.computed_at("vision") / speed.vision_flops_per_s) / num_parallel


def describe_memory(memory: MemoryPlan) -> dict[str, float]:
    """The estimate as JSON values."""
    parts = estimate_memory(memory)
    return {name: round(count / GIB, 4) for name, count in {**vars(parts), "total": parts.total}.items()}


def count_available(device: Any) -> int | None:
    """Bytes of memory that a device has; None where the system does not say."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def format_memory(memory: MemoryPlan, available_bytes: int | None = None) -> list[str]:
    """Lines of the plan: the estimate, what it is made of, and whether it fits."""
    parts = estimate_memory(memory)
    names = ("weights", "gradients", "optimizer", "activations", "logits")
    sums = ", ".join(f"{name} {format_gib(getattr(parts, name))}" for name in names)
    batch = memory.batch
    where = "GPU" if memory.device == "cuda" else "CPU"
    lines = [
        f"memory           about {format_gib(parts.total)} GiB a process on the {where} (an estimate): {sums};",
        f"                 largest micro-batch {batch.tokens:,} tokens, {batch.patches:,} patches; the program, "
        "CUDA and fragments not counted",
    ]
    if parts.host:
        lines.append(f"                 and {format_gib(parts.host)} GiB a process offloaded to the host")
    if available_bytes is not None and parts.total > available_bytes:
        lines.append(f"warning          that is more than the {format_gib(available_bytes)} GiB that this {where} has")
    return lines


def format_gib(count: int) -> str:
    gib = count / GIB
    return f"{gib:.1f}" if gib >= 10 else f"{gib:.2f}" if gib >= 0.01 else f"{gib:.4f}"


def format_hours(flops: Flops, speed: Speed | str, num_parallel: int, total_steps: int) -> list[str]:
    """Lines of the plan: operations, and the time they take here; `speed` may be the reason why it is not known."""
    a_step = flops.computed / total_steps
    twice = 1 - flops.needed / flops.computed
    counted = f"{a_step / 1e12:,.3g} TFLOP a step of all processes"
    counted += f", {twice:.0%} of it by computing activations again" if twice else ""
    if isinstance(speed, str):
        return [f"time             not estimated: {speed}; {counted}"]
    seconds = estimate_seconds(flops, speed, num_parallel)
    rates = f"{speed.text_flops_per_s / 1e12:.3g} and {speed.vision_flops_per_s / 1e12:.3g} TFLOP/s"
    return [
        f"time             about {format_duration(seconds)} for {total_steps:,} steps (an estimate): {counted};",
        f"                 {rates} timed here on a layer of the language model and of the tower; waiting for data, "
        "saving and network not counted",
    ]
