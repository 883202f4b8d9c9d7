"""What could be changed so that a run needs less memory, and what each change saves by the estimate.

this run's MemoryPlan ──one change at a time──▶ another MemoryPlan ──▶ difference of their estimates
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from qwenvl.train.memory import Engine, MemoryPlan, estimate_memory
from qwenvl.train.parts import LANGUAGE, VISION
from qwenvl.train.samplers import PREFETCH_FACTOR

WORTH_SHARE = 0.01  # of the estimate: what saves less is not named
ZERO_CONFIGS = "qwen-vl-finetune/scripts"
LORA_RANK = 64


@dataclass
class Situation:
    """What is known about a run when its memory ends; filled in as the run goes on.

    Attributes:
        memory: None until the model is there.
        batch_size, accumulation: of one process.
        frame_px: area of one frame.
        batch_bytes: of a batch's frames on the host.
        cache_bytes: of the decoded frames that are kept.
        num_workers, prefetch: of the loader.
        step: that was being taken; 0 before the first.
    """

    memory: MemoryPlan | None = None
    batch_size: int = 1
    accumulation: int = 1
    frame_px: int = 0
    batch_bytes: int = 0
    cache_bytes: int = 0
    num_workers: int = 0
    prefetch: int = PREFETCH_FACTOR
    step: int = 0

    def learn(self, run: Any, memory: MemoryPlan, sample: dict[str, Any]) -> None:
        """Fill in what is known once the model is there; `run` are the TrainingArguments."""
        clips = [*sample["videos"], *sample["images"]]
        self.memory = memory
        self.batch_size = run.per_device_train_batch_size
        self.accumulation = run.gradient_accumulation_steps
        self.frame_px = clips[0].shape[1] * clips[0].shape[2] if clips else 0
        self.batch_bytes = self.batch_size * sum(clip.nbytes for clip in clips)
        self.num_workers = run.dataloader_num_workers
        self.prefetch = run.dataloader_prefetch_factor or PREFETCH_FACTOR


@dataclass(frozen=True)
class Saving:
    """Something to change, and the bytes that it saves a process."""

    change: str
    saved_bytes: int


def list_savings(memory: MemoryPlan, situation: Situation) -> list[Saving]:
    """Changes that need less memory where the model computes, with their estimated savings."""
    before = estimate_memory(memory).total
    changes = list(_plan_changes(memory, situation))
    savings = [Saving(change, before - estimate_memory(changed).total) for change, changed in changes]
    return [saving for saving in savings if saving.saved_bytes > WORTH_SHARE * before]


def _plan_changes(memory: MemoryPlan, situation: Situation) -> Iterator[tuple[str, MemoryPlan]]:
    """(what to type, the run it makes)."""
    batch, size = memory.batch, situation.batch_size
    if size > 1:
        one = replace(
            batch, tokens=batch.tokens // size, supervised=batch.supervised // size, patches=batch.patches // size
        )
        yield f"BATCH_SIZE=1 GRAD_ACCUM_STEPS={size * situation.accumulation}", replace(memory, batch=one)
    if not memory.checkpointing:
        yield "GRADIENT_CHECKPOINTING=True", replace(memory, checkpointing=True)
    if batch.patches and situation.frame_px:
        fewer = batch.patches // memory.shape.vision.merge**2 // 2
        half = replace(batch, tokens=batch.tokens - fewer, patches=batch.patches // 2)
        yield f"VIDEO_FRAME_PIXELS={situation.frame_px // 2}", replace(memory, batch=half)
    if memory.text.in_full:
        yield "./train_physical_ai_lora.sh (--lora_enable True)", _with_adapters(memory)
    elif not memory.quantised_weights and memory.text.rank:
        text = memory.shape.text
        yield "--load_in_4bit True", replace(memory, quantised_weights=text.num_layers * text.quantisable_weights)
    yield from _plan_engines(memory)


def _plan_engines(memory: MemoryPlan) -> Iterator[tuple[str, MemoryPlan]]:
    if memory.device != "cuda":
        return
    engine = memory.engine
    shared = replace(memory, text=replace(memory.text, casts=False), vision=replace(memory.vision, casts=False))
    if engine.num_processes > 1 and engine.zero_stage < 3:
        yield (
            f"DEEPSPEED_CONFIG={ZERO_CONFIGS}/zero3.json",
            replace(shared, engine=Engine(engine.num_processes, zero_stage=3)),
        )
    if not (engine.offloads_optimizer and engine.offloads_weights):
        yield (
            f"DEEPSPEED_CONFIG={ZERO_CONFIGS}/zero3_offload.json (slower)",
            replace(shared, engine=Engine(engine.num_processes, 3, offloads_optimizer=True, offloads_weights=True)),
        )


def _with_adapters(memory: MemoryPlan, rank: int = LORA_RANK) -> MemoryPlan:
    """The same run with adapters on all linear layers of the parts that were trained in full."""
    text = memory.shape.text
    adapters = (
        rank
        * text.num_layers
        * (
            2 * (text.width + text.attention_width)
            + 2 * (text.width + text.key_width)
            + 3 * (text.width + text.mlp_width)
        )
    )
    total = memory.parameters[LANGUAGE][1]
    parameters = {**memory.parameters, LANGUAGE: (adapters, total + adapters)}
    if memory.vision.in_full:
        parameters[VISION] = (0, memory.parameters[VISION][1])
    kept = replace(memory.text, in_full=False, rank=rank, adapts_attention=True, adapts_mlp=True, has_dropout=True)
    return replace(memory, parameters=parameters, text=kept, vision=replace(memory.vision, in_full=False))


def list_loader_savings(situation: Situation) -> list[Saving]:
    """Changes that need less of the host's memory while batches wait."""
    waiting = situation.num_workers * situation.prefetch * situation.batch_bytes
    savings = []
    if situation.num_workers > 1:
        saved = waiting - situation.prefetch * situation.batch_bytes
        savings.append(Saving("--dataloader_num_workers 1", saved))
    if situation.num_workers and situation.prefetch > 1:
        savings.append(Saving("--dataloader_prefetch_factor 1", waiting - waiting // situation.prefetch))
    if situation.cache_bytes:
        savings.append(Saving("--cache_frames False", situation.cache_bytes))
    if situation.batch_size > 1:
        change = f"BATCH_SIZE=1 GRAD_ACCUM_STEPS={situation.batch_size * situation.accumulation}"
        per_batch = max(1, situation.num_workers * situation.prefetch) * situation.batch_bytes
        savings.append(Saving(change, per_batch - per_batch // situation.batch_size))
    return savings
