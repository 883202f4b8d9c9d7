"""What decides the cost of a run, gathered from its plan, its model and the lengths of its rows.

TrainPlan, model, first sample, lengths ──plan_memory──▶ MemoryPlan ──▶ bytes             (qwenvl.train.memory)
                                        ──sum_epoch────▶ Work ──▶ operations of a run    (qwenvl.train.flops)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qwenvl.data.preview import describe_sample
from qwenvl.train.activations import Kept
from qwenvl.train.argument import TrainPlan, checkpointing_field
from qwenvl.train.flops import Flops, Grid, Learning, Work, count_flops
from qwenvl.train.memory import Engine, MemoryPlan, MicroBatch
from qwenvl.train.model_shape import read_model_shape
from qwenvl.train.parts import LANGUAGE, MERGER, VISION, count_parameters
from qwenvl.train.quantised import count_quantised
from qwenvl.train.tuning import ATTENTION, tuned_parts

if TYPE_CHECKING:
    from qwenvl.data.lengths import Lengths

MLP_LAYERS = ("gate_proj", "up_proj", "down_proj")


def plan_memory(plan: TrainPlan, model: Any, sample: dict[str, Any], lengths: Lengths | None) -> MemoryPlan:
    """All that decides the memory of a process of this run."""
    shape = read_model_shape(model.config)
    text, vision = (_describe_part(plan, part) for part in (LANGUAGE, VISION))
    return MemoryPlan(
        shape=shape,
        parameters=count_parameters(model),
        batch=plan_batch(plan, sample, lengths, shape.vision.merge),
        text=text,
        vision=vision,
        engine=read_engine(find_engine(plan), plan.num_processes),
        optimizer=str(getattr(plan.run.optim, "value", plan.run.optim)),
        checkpointing=bool(getattr(plan.run, checkpointing_field())),
        quantised_weights=count_quantised(model),
        attention=plan.model.attn_implementation,
        device=plan.run.device.type,
    )


def _describe_part(plan: TrainPlan, part: str) -> Kept:
    model, is_tuned = plan.model, part in tuned_parts(plan.model)
    names = model.lora_target_modules
    has_adapters = model.lora_enable and is_tuned
    wanted = {name.strip() for name in names.split(",")}
    is_half = model.precision != "fp32"
    return Kept(
        in_full=is_tuned and not model.lora_enable,
        rank=model.lora_r * has_adapters,
        adapts_attention=has_adapters and (names in ("all", "attention") or bool(wanted & {*ATTENTION, "qkv", "proj"})),
        adapts_mlp=has_adapters and (names == "all" or bool(wanted & {*MLP_LAYERS, "linear_fc1", "linear_fc2"})),
        has_dropout=model.lora_dropout > 0,
        compute_bytes=2 if is_half else 4,
        casts=is_half and not find_engine(plan),
        mask_bytes=1 if plan.run.device.type == "cuda" else 4,
    )


def plan_batch(plan: TrainPlan, sample: dict[str, Any], lengths: Lengths | None, merge: int) -> MicroBatch:
    """The largest micro-batch that can come: the longest rows together, or full bins."""
    size = plan.run.per_device_train_batch_size
    if lengths is None or not len(lengths.tokens):
        counts = describe_sample(sample)
        tokens, visual, supervised = (
            np.full(size, counts[name]) for name in ("tokens", "visual_tokens", "supervised_tokens")
        )
    else:
        tokens, visual, supervised = lengths.tokens, lengths.visual_tokens, lengths.supervised_tokens
    longest = int(tokens.max())
    if plan.data.data_packing:
        room = min(size * plan.run.model_max_length, int(tokens.sum()))
        shares = [float((part / np.maximum(tokens, 1)).max()) for part in (visual, supervised)]
        most_visual, most_supervised = (round(room * share) for share in shares)
        return MicroBatch(room, longest, most_supervised, most_visual * merge**2)
    most = [int(np.sort(part)[-size:].sum()) for part in (tokens, visual, supervised)]
    held = most[0] if plan.data.is_flat else size * longest
    return MicroBatch(held, most[0] if plan.data.is_flat else longest, most[2], most[1] * merge**2)


def find_engine(plan: TrainPlan) -> str:
    """The DeepSpeed config of the run, or of the run that a dry run plans for; "" for none."""
    return plan.run.deepspeed or plan.run.dry_run_deepspeed or ""


def read_engine(config: str | dict, num_processes: int) -> Engine:
    """What a DeepSpeed config shares out and moves to the host."""
    if not config:
        return Engine(num_processes)
    settings = config if isinstance(config, dict) else json.loads(Path(config).read_text(encoding="utf-8"))
    zero = settings.get("zero_optimization", {})
    moved = [(zero.get(name) or {}).get("device", "none") != "none" for name in ("offload_optimizer", "offload_param")]
    return Engine(num_processes, int(zero.get("stage", 0)), *moved)


def list_grids(sample: dict[str, Any], patch_px: int, frames_a_patch: int) -> list[Grid]:
    """(t, h, w) in patches of a sample's videos and images."""
    clips = [*sample["videos"], *sample["images"]]
    return [(-(-len(clip) // frames_a_patch), clip.shape[1] // patch_px, clip.shape[2] // patch_px) for clip in clips]


def sum_epoch(
    num_rows: int, sample: dict[str, Any], grids: Sequence[Grid], lengths: Lengths | None, merge: int
) -> Work:
    """The work of one pass over all rows; without lengths every row counts as the first one."""
    n = grids[0][1] * grids[0][2] if grids else 0
    if lengths is None:
        counts = describe_sample(sample)
        tokens, patches = counts["tokens"], counts["visual_tokens"] * merge**2
        one = Work(tokens, tokens**2 / 2, counts["supervised_tokens"], patches, patches * n)
        return one.scaled(num_rows)
    tokens = lengths.tokens.astype(float)
    patches = float(lengths.visual_tokens.sum()) * merge**2
    return Work(
        float(tokens.sum()), float((tokens**2).sum()) / 2, float(lengths.supervised_tokens.sum()), patches, patches * n
    )


def describe_learning(memory: MemoryPlan) -> Learning:
    """What learns, as the count of operations wants it."""
    parts = {LANGUAGE: memory.text, VISION: memory.vision}
    in_full = {part for part, kept in parts.items() if kept.in_full}
    if memory.parameters[MERGER][0]:
        in_full.add(MERGER)
    adapters = {part: memory.parameters[part][0] for part, kept in parts.items() if kept.rank}
    return Learning(frozenset(in_full), adapters, memory.checkpointing)


def count_run(memory: MemoryPlan, epoch: Work, num_epochs: float) -> Flops:
    """Operations of a whole run, all processes together."""
    return count_flops(memory.shape, epoch.scaled(num_epochs), describe_learning(memory))
