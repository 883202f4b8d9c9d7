"""Fine-tune Qwen3-VL on a training JSON. One page: plan, model, trainer, resume, result.

    torchrun -m qwenvl.train.train_qwen --model_name_or_path ... --dataset_use ... --output_dir ...

Run the same command again after a kill and it goes on from the newest complete checkpoint; after the end it says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driving.errors import DrivingError, run_main
from driving.ledger import check_bad_fraction, claim_output, write_json, write_ledger

# Before torch is loaded: threads that wait must sleep. Spinning ones make a step on shared cores a hundred times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
CACHE_LIMIT_BYTES = 2 * 2**30


def train(attn_implementation: str = "auto", argv: Sequence[str] | None = None) -> int:
    """Run one training command; returns its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the loader's workers are forked
    return run_main(lambda: run(sys.argv[1:] if argv is None else argv, attn_implementation))


def run(argv: Sequence[str], attn_implementation: str = "auto", callbacks: Sequence[Any] = ()) -> int:
    """Resolve the plan, then train, continue, or say that all is done."""
    from qwenvl.data import parse_dataset_use
    from qwenvl.data.rows import load_rows
    from qwenvl.train import checkpoints, loading
    from qwenvl.train.argument import parse_plan
    from qwenvl.train.plan_report import count_steps, plan_identity

    plan = parse_plan(argv, attn_implementation)
    plan.model.attn_implementation = loading.choose_attention(plan.model.attn_implementation)
    uses = parse_dataset_use(plan.data.dataset_use)
    loading.check_model_folder(plan.model.model_name_or_path)
    rows = load_rows(uses, plan.run.seed)
    hashes = {use.name: checkpoints.hash_file(use.annotation_path) for use in uses}
    identity = plan_identity(plan, checkpoints.identify_model(plan.model.model_name_or_path), hashes)
    if plan.run.dry_run:
        _prepare(plan, rows)
        return 0
    is_main = plan.run.process_index == 0
    output_dir = Path(plan.run.output_dir)
    claim = claim_output(output_dir, identity, overwrite=plan.run.overwrite_output) if is_main else _nobody()
    with claim as output:
        if is_main:
            write_ledger(output_dir / "skipped.jsonl", rows.skips)
            num_all = len(rows.records) + len(rows.skips)
            check_bad_fraction(len(rows.skips), num_all, plan.data.max_bad_fraction, output_dir / "skipped.jsonl")
        total_steps = count_steps(len(rows.records), plan)[1]
        finished_steps = output.manifest.get("summary", {}).get("total_steps", 0) if is_main else 0
        if _agree(finished_steps, plan) >= total_steps:
            _say(plan, f"{output_dir} is already finished ({total_steps:,} steps); nothing to do")
            return 0
        resume_from, passed_over = checkpoints.find_newest_complete(output_dir, identity)
        for reason in passed_over:
            _say(plan, f"{reason}; passed over")
        model, dataset = _prepare(plan, rows)
        summary = _fit(plan, model, dataset, identity, rows.groups, resume_from, callbacks)
        if is_main:
            output.finish(summary)
    _say(plan, f"{output_dir}: {summary['total_steps']:,} steps, {summary['skipped']} samples skipped")
    return 0


def _prepare(plan: Any, rows: Any) -> tuple[Any, Any]:
    """Load processor and model, look at the first usable sample, and print the plan."""
    import torch
    import transformers

    from qwenvl.data.dataset import DrivingDataset
    from qwenvl.train import loading
    from qwenvl.train.fast_vision import speed_up_vision
    from qwenvl.train.loss import use_supervised_rows
    from qwenvl.train.parts import count_parameters
    from qwenvl.train.plan_report import describe_run, format_plan
    from qwenvl.train.tuning import apply_tuning

    transformers.set_seed(plan.run.seed)
    processor = loading.load_processor(plan.model.model_name_or_path, plan.run.cache_dir)
    settings = processor.video_processor
    preprocessing = plan.data.build_preprocessing(
        factor_px=settings.patch_size * settings.merge_size,
        answer_format=rows.answer_format,
        transformers_version=transformers.__version__,
    )
    dataset = DrivingDataset(rows.records, rows.folders, processor, preprocessing, plan.run.model_max_length)
    sample = _first_sample(dataset)
    dataset.preprocessing = _complete_preprocessing(preprocessing, processor, sample)
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
    _say(plan, format_plan(facts, sample, processor.tokenizer))
    if plan.run.process_index == 0 and not plan.run.dry_run:
        write_json(Path(plan.run.output_dir) / "train_plan.json", facts)
    return model, dataset


def _fit(
    plan: Any, model: Any, dataset: Any, identity: dict[str, Any], groups: list[str], resume_from: Any, callbacks: Any
) -> dict[str, Any]:
    """Train to the end and write the result; returns the run's summary."""
    from qwenvl.train.trainer import DrivingTrainer

    if plan.run.gradient_checkpointing and plan.run.gradient_checkpointing_kwargs is None:
        plan.run.gradient_checkpointing_kwargs = {"use_reentrant": False}  # the frozen tower gives inputs no gradient
    trainer = DrivingTrainer(
        model,
        plan.run,
        dataset,
        run_plan=identity,
        groups=groups,
        max_bad_fraction=plan.data.max_bad_fraction,
        callbacks=callbacks,
    )
    if resume_from is not None:
        _say(plan, f"continuing from {resume_from}")
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from is not None else None)
    trainer.save_result()
    trainer.accelerator.wait_for_everyone()
    return {"total_steps": trainer.state.global_step, "epoch": trainer.state.epoch, "skipped": len(trainer.skips)}


def _first_sample(dataset: Any) -> dict[str, Any]:
    """The first row that can be used, as the loss sees it."""
    from qwenvl.data.dataset import BadSample

    for index in range(len(dataset)):
        sample = dataset[index]
        if not isinstance(sample, BadSample):
            return sample
        if index == 9:
            break
    raise DrivingError(f"none of the first {index + 1} rows can be used; the last: {sample.id}: {sample.reason}")


def _complete_preprocessing(preprocessing: Any, processor: Any, sample: dict[str, Any]) -> Any:
    """Add the prompt's hash, and make the saved processor give the same frame size from the plain recording."""
    from qwenvl.data.labels import IGNORED
    from qwenvl.data.pixels import set_processor_budget

    supervised = (sample["labels"] != IGNORED).nonzero()
    prompt = processor.tokenizer.decode(sample["input_ids"][: int(supervised[0])].tolist())
    if sample["videos"]:
        frames, height, width = sample["videos"][0].shape[:3]
        set_processor_budget(processor, height, width, frames, (height, width), preprocessing.factor_px)
    return dataclasses.replace(preprocessing, prompt_hash=hashlib.sha256(prompt.encode()).hexdigest()[:16])


def _plan_cache(plan: Any, num_rows: int, sample: dict[str, Any]) -> Any:
    """Memory for the decoded frames: where asked for, or where they fit and are needed more than once."""
    from qwenvl.data.frame_cache import FrameCache

    wanted = plan.data.cache_frames.lower()
    if wanted == "false" or len(sample["videos"]) != 1:
        return None
    shape = tuple(sample["videos"][0].shape)
    needed = FrameCache.count_bytes(num_rows, shape)
    if wanted == "auto" and (needed > CACHE_LIMIT_BYTES or plan.run.num_train_epochs <= 1):
        return None
    return FrameCache(num_rows, shape)


def _agree(value: int, plan: Any) -> int:
    """Rank 0's value on every rank; waits until rank 0 has claimed the output folder."""
    if plan.run.world_size == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def _say(plan: Any, text: str) -> None:
    if plan.run.process_index == 0:
        print(text, flush=True)


@contextlib.contextmanager
def _nobody():
    """What the other ranks claim: nothing; rank 0 holds the folder for all."""
    yield None


if __name__ == "__main__":
    sys.exit(train(attn_implementation="auto"))
