"""Model, dataset and printed plan of one run, ready for the first step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import transformers

from driving.errors import DrivingError
from driving.ledger import MIN_BAD_TO_FAIL, write_json
from qwenvl.data.dataset import BadSample, DrivingDataset
from qwenvl.data.frame_cache import FrameCache
from qwenvl.data.pixels import set_processor_budget
from qwenvl.data.preview import hash_prompt, keep_example
from qwenvl.data.rows import Rows
from qwenvl.train import loading
from qwenvl.train.argument import TrainPlan
from qwenvl.train.fast_vision import speed_up_vision
from qwenvl.train.loss import use_supervised_rows
from qwenvl.train.parts import count_parameters
from qwenvl.train.plan_report import PLAN_FACTS_NAME, describe_run, format_plan
from qwenvl.train.tuning import apply_tuning

CACHE_LIMIT_BYTES = 2 * 2**30


def prepare_run(plan: TrainPlan, rows: Rows) -> tuple[Any, DrivingDataset]:
    """Load processor and model, look at the first usable sample, and print the plan."""
    _join_deepspeed(plan)
    transformers.set_seed(plan.run.seed)
    processor = loading.load_processor(plan.model.model_name_or_path, plan.run.cache_dir)
    settings = processor.video_processor
    preprocessing = plan.data.build_preprocessing(
        factor_px=settings.patch_size * settings.merge_size,
        answer_format=rows.answer_format,
        transformers_version=transformers.__version__,
    )
    dataset = DrivingDataset(rows.records, rows.folders, processor, preprocessing, plan.run.model_max_length)
    record, sample = _first_sample(dataset, plan.data.max_bad_fraction)
    dataset.preprocessing = dataclasses.replace(
        preprocessing,
        prompt_hash=hash_prompt(sample, processor.tokenizer),
        prompt_example=keep_example(record, sample),
    )
    _set_budget(plan, processor, sample, preprocessing.factor_px)
    dataset.cache = _plan_cache(plan, len(dataset), sample)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[plan.model.precision]
    model = loading.load_model(
        plan.model.model_name_or_path,
        attention=plan.model.attn_implementation,
        dtype=dtype,
        cache_dir=plan.run.cache_dir,
        without_weights=plan.run.dry_run,
    )
    speed_up_vision(model)
    use_supervised_rows(model)
    model = apply_tuning(model, plan.model)
    facts = describe_run(
        plan,
        num_rows=len(dataset),
        num_by_name=rows.num_by_name,
        sample=sample,
        parts=count_parameters(model),
    )
    say(plan, format_plan(facts, sample, processor.tokenizer))
    if plan.run.process_index == 0 and not plan.run.dry_run:
        write_json(Path(plan.run.output_dir) / PLAN_FACTS_NAME, facts)
    return model, dataset


def _first_sample(dataset: DrivingDataset, max_bad_fraction: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first row that can be used, and what the loss sees of it; looks on for as long as the run could go on."""
    num_allowed = max(MIN_BAD_TO_FAIL, int(max_bad_fraction * len(dataset)))
    for index in range(min(num_allowed + 1, len(dataset))):
        sample = dataset[index]
        if not isinstance(sample, BadSample):
            return dataset.records[index], sample
    raise DrivingError(f"none of the first {index + 1} rows can be used; the last: {sample.id}: {sample.reason}")


def _set_budget(plan: TrainPlan, processor: Any, sample: dict[str, Any], factor_px: int) -> None:
    """Make the saved processor give the same frame size from the plain recording, or say that it cannot."""
    if not sample["videos"]:
        return
    frames, height, width = sample["videos"][0].shape[:3]
    if not set_processor_budget(processor, height, width, frames, (height, width), factor_px):
        say(
            plan,
            f"no pixel budget of the plain processor gives {frames} frames of {height}x{width} px for every recording; "
            "serve this model through preprocessing.json, or cut the frames to that size first",
        )


def _plan_cache(plan: TrainPlan, num_rows: int, sample: dict[str, Any]) -> FrameCache | None:
    """Memory for the decoded frames: where asked for, or where they fit and are needed more than once."""
    wanted = plan.data.cache_frames.lower()
    if wanted == "false" or len(sample["videos"]) != 1:
        return None
    shape = tuple(sample["videos"][0].shape)
    needed = FrameCache.count_bytes(num_rows, shape)
    if wanted == "auto" and (needed > CACHE_LIMIT_BYTES or plan.run.num_train_epochs <= 1):
        return None
    return FrameCache(num_rows, shape)


def _join_deepspeed(plan: TrainPlan) -> None:
    """Tell DeepSpeed about the process group before weights are sharded; on a CPU it would look for another one."""
    if plan.run.deepspeed and plan.run.world_size > 1:
        import deepspeed

        deepspeed.init_distributed(dist_backend="nccl" if plan.run.device.type == "cuda" else "gloo")


def say(plan: TrainPlan, text: str) -> None:
    """Print once, not once a process."""
    if plan.run.process_index == 0:
        print(text, flush=True)
