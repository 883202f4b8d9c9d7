"""What a run says before its first step, and what it keeps of it in train_plan.json."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qwenvl.data.preview import describe_sample, format_sample
from qwenvl.data.stream import BLOCK_ROWS, ORDER_VERSION, WINDOW_ROWS
from qwenvl.train.argument import TrainPlan
from qwenvl.train.command import format_train_command
from qwenvl.train.engines import name_engine

if TYPE_CHECKING:
    from driving.ledger import Skip
    from qwenvl.data.lengths import Lengths
    from qwenvl.train.samplers import EpochBatches

STATISTICS = {"median": np.median, "most": np.max}
PLAN_FACTS_NAME = "train_plan.json"


def count_steps(num_batches: int, plan: TrainPlan) -> tuple[int, int]:
    """(optimizer steps an epoch, steps in all) of so many batches a rank and epoch, as transformers counts them."""
    run = plan.run
    per_epoch = max(1, -(-num_batches // run.gradient_accumulation_steps))
    return per_epoch, run.max_steps if run.max_steps > 0 else -(-int(per_epoch * run.num_train_epochs * 1000) // 1000)


def say_other_steps(plan: TrainPlan, total_steps: int) -> None:
    """Print that a run that is continued has been given another number of steps: its schedule bends there."""
    path = Path(plan.run.output_dir) / PLAN_FACTS_NAME
    planned = json.loads(path.read_text(encoding="utf-8"))["total_steps"] if path.exists() else total_steps
    if planned != total_steps:
        print(
            f"{plan.run.output_dir} was planned for {planned:,} steps and now goes to {total_steps:,}; "
            "the learning rate follows the new schedule from here on",
            flush=True,
        )


def plan_identity(
    plan: TrainPlan,
    model_identity: str,
    data_hashes: dict[str, str],
    order_hash: str = "",
    rendering: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON values that must stay the same for a run to be continued; epochs, saving and logging are free.

    Args:
        rendering: what decides how a row becomes tokens and pixels (`identity.identify_processor`): a tokenizer or a
            template is no weight, and may change under a run all the same.
    """
    model, data, run = plan.model, plan.data, plan.run
    tuned = ("tune_mm_llm", "tune_mm_mlp", "tune_mm_vision", "lora_enable", "load_in_4bit")
    lora = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_dora", "use_rslora")
    optimizer = (
        "learning_rate", "mm_projector_lr", "vision_tower_lr", "weight_decay", "adam_beta1", "adam_beta2",
        "adam_epsilon", "max_grad_norm", "warmup_steps", "group_by_length",
    )  # fmt: skip
    rarely_given = ("lr_scheduler_kwargs", "optim_args", "optim_target_modules", "neftune_noise_alpha")
    identity = {
        "dataset_use": data.dataset_use,
        "data_hashes": data_hashes,
        "model": model_identity,
        **{name: getattr(model, name) for name in tuned + (lora if model.lora_enable else ())},
        "precision": model.precision,
        "optimizer": str(run.optim.value if hasattr(run.optim, "value") else run.optim),
        "lr_scheduler": str(getattr(run.lr_scheduler_type, "value", run.lr_scheduler_type)),
        **{name: getattr(run, name) for name in optimizer},
        **{name: getattr(run, name) for name in rarely_given if getattr(run, name, None)},
        "seed": run.seed,
        # Sums are split over the threads: another number of them gives other bits.
        **({"OMP_NUM_THREADS": torch.get_num_threads()} if run.device.type == "cpu" else {}),
        "data_flatten": data.data_flatten,
        "data_packing": data.data_packing,
        **({"mirror": data.mirror_share} if data.mirror_share else {}),
        **({"streaming": [BLOCK_ROWS, WINDOW_ROWS, ORDER_VERSION]} if data.streaming else {}),
        "order_hash": order_hash,
        "rendering": rendering or {},
        "batch_size": run.per_device_train_batch_size,
        "gradient_accumulation_steps": run.gradient_accumulation_steps,
        "world_size": run.world_size,
        "engine": name_engine(run.deepspeed),
        "model_max_length": run.model_max_length,
        "preprocessing": data.build_preprocessing().to_json(),
    }
    return json.loads(json.dumps(identity))  # as it will be read back: a tuple comes back as a list


def describe_run(
    plan: TrainPlan,
    *,
    num_batches: int,
    num_rows: int,
    num_by_name: dict[str, int],
    sample: dict[str, Any],
    parts: dict[str, Any],
) -> dict[str, Any]:
    """The resolved plan as JSON values, for the screen and for train_plan.json."""
    run = plan.run
    per_epoch, total = count_steps(num_batches, plan)
    return {
        "model": plan.model.model_name_or_path,
        "attention": plan.model.attn_implementation,
        "precision": plan.model.precision,
        "datasets": num_by_name,
        "rows": num_rows,
        "output_dir": run.output_dir,
        "effective_batch": {
            "per_device": run.per_device_train_batch_size,
            "processes": plan.num_processes,
            "accumulation": run.gradient_accumulation_steps,
            "samples_a_step": run.per_device_train_batch_size * plan.num_processes * run.gradient_accumulation_steps,
        },
        "epochs": run.num_train_epochs,
        "steps_an_epoch": per_epoch,
        "total_steps": total,
        "learning_rate": run.learning_rate,
        **({"blind": True} if plan.data.blind else {}),
        "first_sample": describe_sample(sample),
        "trainable_parameters": {part: {"trainable": t, "all": n} for part, (t, n) in parts.items()},
        "notes": list(plan.notes),
        "command": format_train_command(plan.argv, os.environ),
    }


def describe_lengths(lengths: Lengths | None, skips: Sequence[Skip], limit_tokens: int) -> dict[str, Any] | None:
    """Tokens a sample over the whole dataset as JSON values; None where the rows were not measured."""
    if lengths is None:
        return None
    columns = {"tokens": lengths.tokens, "visual": lengths.visual_tokens, "supervised": lengths.supervised_tokens}
    return {
        **{f"{name}_{word}": int(f(column)) for name, column in columns.items() for word, f in STATISTICS.items()},
        "limit_tokens": limit_tokens,
        "left_out": len(skips),
        "left_out_share": round(len(skips) / (len(skips) + len(lengths.tokens)), 4),
    }


def describe_packing(batches: EpochBatches) -> dict[str, Any] | None:
    """How samples fill the rows of a batch; None where they are not packed."""
    if not batches.bin_tokens:
        return None
    fill = float(np.sum(batches.num_tokens)) / (batches.num_units * batches.bin_tokens)
    return {"bins_an_epoch": batches.num_units, "bin_tokens": batches.bin_tokens, "fill_percent": round(100 * fill, 1)}


def format_plan(facts: dict[str, Any], sample: dict[str, Any], tokenizer: Any, costs: Sequence[str] = ()) -> str:
    """The plan as a person reads it; `costs` are the lines about memory and time."""
    batch, first = facts["effective_batch"], facts["first_sample"]
    lines = [
        f"model            {facts['model']} ({facts['precision']}, attention {facts['attention']})",
        "data             " + ", ".join(f"{name}: {rows:,} rows" for name, rows in facts["datasets"].items()),
        f"batch            {batch['per_device']} samples x {batch['processes']} processes x "
        f"{batch['accumulation']} accumulation = {batch['samples_a_step']} a step",
        f"steps            {facts['total_steps']:,} ({facts['steps_an_epoch']:,} an epoch, {facts['epochs']:g} epochs)",
    ]
    if facts.get("track"):
        lines.insert(2, f"track            {facts['track']}")
    for part, count in facts["trainable_parameters"].items():
        lines.append(f"trains           {part:<9}{count['trainable']:>14,} of {count['all']:,} parameters")
    if facts.get("blind"):
        lines.append("blind            every frame is plain grey: what is learned comes from the text alone")
    for frames, height, width in first["videos"]:
        lines.append(f"video            {frames} frames of {height}x{width} px")
    lines.append(
        f"first sample     {first['tokens']:,} tokens: {first['visual_tokens']:,} visual, "
        f"{first['supervised_tokens']:,} supervised"
    )
    if all_rows := facts.get("lengths"):
        lines.append(
            f"all samples      tokens: median {all_rows['tokens_median']:,}, most {all_rows['tokens_most']:,} of "
            f"{all_rows['limit_tokens']:,} allowed; supervised: median {all_rows['supervised_median']:,}; "
            f"{all_rows['left_out']:,} rows left out ({all_rows['left_out_share']:.1%})"
        )
    if packing := facts.get("packing"):
        lines.append(
            f"packing          {packing['bins_an_epoch']:,} rows of {packing['bin_tokens']:,} tokens an epoch, "
            f"{packing['fill_percent']} % full"
        )
    lines += costs
    lines += [f"note             {note}" for note in facts["notes"]]
    lines += ["the first sample as the loss sees it ([[supervised]]):", format_sample(sample, tokenizer)]
    return "\n".join(lines)
