"""Memory that ran out, turned into what to change and what it saves in this very run, largest saving first.

error ──is_out_of_memory──▶ list_savings(this run's MemoryPlan) ──▶ one message, exit code 1
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers

from driving.errors import DrivingError
from qwenvl.train.memory import estimate_memory
from qwenvl.train.savings import ZERO_CONFIGS, Situation, list_loader_savings, list_savings

GIB = 2**30
# Where torch has no class for it: its CPU allocator, CUDA's own calls, an error that could not be made again in the
# process that waits for a loader's worker, and a worker that the system ended.
WORDS = ("DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "MemoryError", "signal: Killed")
HOST_WORDS = ("DefaultCPUAllocator", "MemoryError", "signal: Killed")


class OutOfMemoryError(DrivingError):
    """A run does not fit into the memory of its machine."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the GPU or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def is_on_host(error: BaseException) -> bool:
    """Whether it was the host's memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in HOST_WORDS)


@contextlib.contextmanager
def explain_out_of_memory() -> Iterator[Situation]:
    """Turn memory that runs out inside into one message; whoever knows more fills in the Situation.

    Raises:
        OutOfMemoryError: With what to change.
    """
    situation = Situation()
    try:
        yield situation
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(format_advice(situation, on_host=is_on_host(error))) from error


def format_advice(situation: Situation, *, on_host: bool) -> str:
    """The message: what ran out and when, then a line for each thing to change."""
    memory = situation.memory
    on_cpu = memory is None or memory.device == "cpu"
    place = "the host" if on_host or on_cpu else "the GPU"
    when = f"at step {situation.step:,}" if situation.step else "before the first step"
    if memory is None:
        return (
            f"{place} ran out of memory while the model was loaded; take LoRA with --load_in_4bit True, a smaller "
            f"--model_name_or_path, or --deepspeed {ZERO_CONFIGS}/zero3.json on several GPUs"
        )
    savings = list_loader_savings(situation) if on_host else []
    if not on_host or on_cpu:
        savings += list_savings(memory, situation)
    savings = sorted((saving for saving in savings if saving.saved_bytes > 0), key=lambda one: -one.saved_bytes)
    total = estimate_memory(memory).total / GIB
    lines = [f"{place} ran out of memory {when} (a process was estimated to need about {total:.3g} GiB)"]
    if not savings:
        return f"{lines[0]}; nothing is left to save, take a smaller --model_name_or_path or a larger machine"
    width = max(len(saving.change) for saving in savings)
    lines[0] += "; what can be changed, and about how much it saves a process:"
    lines += [f"  {saving.change:<{width}}  {format_saved(saving.saved_bytes)}" for saving in savings]
    lines.append(
        "a changed batch size, frame size or set of trained weights is another run: give it another OUTPUT_DIR"
    )
    return "\n".join(lines)


def format_saved(saved_bytes: int) -> str:
    return f"{saved_bytes / GIB:.1f} GiB" if saved_bytes >= GIB else f"{saved_bytes / 2**20:.1f} MiB"


class WatchSteps(transformers.TrainerCallback):
    """Notes the step that is being taken."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.situation.step = state.global_step + 1

    on_step_end = on_train_begin
