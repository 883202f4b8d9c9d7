"""Model, dataset and printed plan of one run, ready for the first step."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import transformers

from driving.errors import DrivingError
from driving.ledger import MIN_BAD_TO_FAIL, Skip
from driving.mirror import mirror_record
from driving.records import record_name
from driving.whole_files import write_json
from qwenvl.data import parse_dataset_use
from qwenvl.data.clips import read_clips
from qwenvl.data.dataset import BadSample, DrivingDataset
from qwenvl.data.decode_guard import DecodeGuard
from qwenvl.data.families import FAMILIES
from qwenvl.data.frame_cache import FrameCache
from qwenvl.data.packing import hash_lengths
from qwenvl.data.pixels import set_processor_budget
from qwenvl.data.prepared import PreparedCache
from qwenvl.data.preview import hash_prompt, keep_example
from qwenvl.data.rows import Rows
from qwenvl.data.shared_memory import check_shared_memory, count_sample_bytes, estimate_batch_bytes
from qwenvl.data.stream import WINDOW_ROWS, StreamDataset, StreamOrder, StreamRows
from qwenvl.train import loading
from qwenvl.train.argument import TrainPlan
from qwenvl.train.base_model import BaseModel
from qwenvl.train.estimate import plan_memory
from qwenvl.train.estimate_report import count_available, describe_memory, estimate_time, format_memory
from qwenvl.train.fast_vision import speed_up_vision
from qwenvl.train.forward import use_driving_forward
from qwenvl.train.parts import count_parameters
from qwenvl.train.plan_report import (
    PLAN_FACTS_NAME,
    describe_lengths,
    describe_packing,
    describe_run,
    format_plan,
)
from qwenvl.train.samplers import PREFETCH_FACTOR, EpochBatches
from qwenvl.train.savings import Situation
from qwenvl.train.stream_loader import StreamBatches
from qwenvl.train.tuning import apply_tuning
from qwenvl.train.validation_set import ValidationSet, build_validation_set, describe_validation_set

if TYPE_CHECKING:
    from qwenvl.data.lengths import Lengths

MEASURE_WORKERS, MEASURE_ALONE_ROWS = 8, 512
MIRROR_LOOKS = 1_000
CACHE_LIMIT_BYTES = 2 * 2**30


@dataclass
class RunData:
    """What a run learns from, before any weight is loaded.

    Attributes:
        dataset: the rows as samples.
        batches: which rows make which batch, on this rank.
        lengths: tokens of each row; None where nothing is planned or estimated from them.
        validation_set: held-out rows to evaluate on meanwhile; None for none.
    """

    dataset: DrivingDataset
    batches: EpochBatches
    lengths: Lengths | None
    validation_set: ValidationSet | None = None

    @property
    def hash(self) -> str:
        """What the order of the rows is a function of, beside the plan's own values; "" where it is nothing more."""
        if self.batches.num_tokens is None:
            return ""
        return hash_lengths(self.lengths.tokens, self.lengths.visual_tokens, self.batches.bin_tokens)


def prepare_data(plan: TrainPlan, rows: Rows, base: BaseModel) -> RunData:
    """Load the processor and plan the batches; no media file is decoded."""
    processor = loading.load_processor(base.path, plan.run.cache_dir, base.commit)
    settings = processor.video_processor
    preprocessing = plan.data.build_preprocessing(
        factor_px=settings.patch_size * settings.merge_size,
        answer_format=rows.answer_format,
        transformers_version=transformers.__version__,
    )
    max_length = plan.run.model_max_length
    if isinstance(rows, StreamRows):
        dataset: DrivingDataset = StreamDataset(rows, processor, preprocessing, max_length)
    else:
        dataset = DrivingDataset(rows.records, rows.folders, processor, preprocessing, max_length)
    if plan.data.decode_limit_s > 0:
        dataset.guard = DecodeGuard(read_clips, plan.data.decode_limit_s)
    if plan.data.prepared_dir:
        dataset.use_prepared(PreparedCache.read(Path(plan.data.prepared_dir)))
    run, lengths = plan.run, None
    is_planned = plan.data.data_packing or run.group_by_length
    if isinstance(rows, StreamRows):
        say(plan, describe_stream(rows, run.dry_run))
    elif is_planned or run.dry_run:
        lengths = _measure(plan, rows, dataset)
    batches = _plan_batches(plan, rows, lengths if is_planned else None)
    if batches.mirror:
        say(plan, describe_mirror(dataset, batches.mirror))
    validation_set = None
    if run.is_evaluated:
        validation_set = build_validation_set(plan, parse_dataset_use(plan.data.dataset_use), rows, dataset)
        for line in describe_validation_set(validation_set, plan):
            say(plan, line)
    return RunData(dataset, batches, lengths, validation_set)


def _plan_batches(plan: TrainPlan, rows: Rows, lengths: Lengths | None) -> EpochBatches:
    """Which rows make which batch; planned by their lengths where they are given."""
    run, mirror = plan.run, plan.data.mirror_share
    if isinstance(rows, StreamRows):
        order = StreamOrder(rows.shard_rows, run.seed)
        size = run.per_device_train_batch_size
        return StreamBatches(order, size, run.process_index, plan.num_processes, mirror=mirror)
    return EpochBatches(
        len(rows.records),
        run.per_device_train_batch_size,
        run.seed,
        run.process_index,
        plan.num_processes,
        num_tokens=None if lengths is None else lengths.tokens,
        num_visual=None if lengths is None else lengths.visual_tokens,
        bin_tokens=run.model_max_length if plan.data.data_packing else 0,
        mirror=mirror,
    )


def describe_stream(rows: StreamRows, dry_run: bool) -> str:
    """What is streamed, and what is not known of it before the first step."""
    num_rows, num_shards = len(rows.records), len(rows.shard_rows)
    order = "shuffled" if num_rows <= WINDOW_ROWS else f"each {WINDOW_ROWS:,} shuffled together"
    line = f"streaming        {num_rows:,} rows of {num_shards:,} shards, {order}; each is checked when it is read"
    return line + "; memory and time are estimated from the first one alone" * dry_run


def describe_mirror(dataset: DrivingDataset, share: float) -> str:
    """How many rows can be mirrored, by a look at some of them.

    Raises:
        DrivingError: None of those has a mirrored form.
    """
    step = -(-len(dataset) // MIRROR_LOOKS)
    looked_at = dataset.records[::step]
    answer_format = dataset.answer_format
    num_mirrored = sum(mirror_record(record, answer_format) is not None for record in looked_at)
    if not num_mirrored:
        raise DrivingError(
            f"--mirror {share:g}: none of {len(looked_at):,} rows has a mirrored form (pairs without a dataset.json "
            "beside them, written signs, places in the picture); leave the flag out"
        )
    return (
        f"mirror           each row with probability {share:g} in each epoch; {num_mirrored:,} of {len(looked_at):,} "
        "rows looked at have a mirrored form, the others stay as they are"
    )


def _measure(plan: TrainPlan, rows: Rows, dataset: DrivingDataset) -> Lengths:
    """Lengths of the rows; those that cannot be measured, or do not fit, leave the dataset for the ledger."""
    from qwenvl.data.lengths import MEASURE_STAGE, find_kept_lengths, measure_rows

    _drop(rows, dataset, [skip for skip in rows.settled or () if skip.stage == MEASURE_STAGE])
    with plan.run.main_process_first(desc="measuring"):  # the other processes of this machine read what it found
        kept_in = find_kept_lengths([use.annotation_path for use in parse_dataset_use(plan.data.dataset_use)])
        num_workers = min(os.cpu_count() or 1, MEASURE_WORKERS) if len(dataset) >= MEASURE_ALONE_ROWS else 0
        show_progress = plan.run.process_index == 0 and not plan.run.disable_tqdm
        lengths, skips = measure_rows(dataset, num_workers=num_workers, show_progress=show_progress, kept_in=kept_in)
    if skips and rows.settled is not None:
        raise DrivingError(
            f"{skips[0].id} could be used when {plan.run.output_dir} was begun, and now: {skips[0].reason}; "
            "put the file back, or start afresh with --overwrite_output True"
        )
    return lengths.take(_drop(rows, dataset, skips)) if skips else lengths


def _drop(rows: Rows, dataset: DrivingDataset, skips: Sequence[Skip]) -> list[int]:
    """Take rows out of the run, by id; the places of those that stay."""
    bad = {skip.id for skip in skips}
    kept = [index for index, record in enumerate(rows.records) if record_name(record) not in bad]
    if not kept:
        raise DrivingError(f"none of {len(rows.records):,} rows can be used; the first: {skips[0].reason}")
    rows.drop(skips)
    dataset.take(kept)
    return kept


def prepare_model(
    plan: TrainPlan, rows: Rows, data: RunData, base: BaseModel, situation: Situation | None = None
) -> Any:
    """Look at the first usable sample, load the weights, make the asked parts trainable, and print the plan.

    Args:
        situation: told what the run needs, for the message should memory run out.
    """
    _join_deepspeed(plan)
    transformers.set_seed(plan.run.seed)
    dataset, processor = data.dataset, data.dataset.processor
    record, sample = _first_sample(dataset, plan.data.max_bad_fraction)
    dataset.preprocessing = dataclasses.replace(
        dataset.preprocessing,
        prompt_hash=hash_prompt(sample, processor.tokenizer),
        prompt_example=keep_example(record, sample),
    )
    _set_budget(plan, processor, sample, dataset.preprocessing.factor_px)
    _check_shared_memory(plan, data.batches, sample)
    dataset.cache = _plan_cache(plan, len(dataset), sample)
    model = loading.load_model(
        base.path,
        attention=plan.model.attn_implementation,
        dtype=loading.weights_dtype(base.precision),
        cache_dir=plan.run.cache_dir,
        commit=base.commit,
        load_in_4bit=base.load_in_4bit,
        device=plan.run.device,
        without_weights=plan.run.dry_run,
    )
    if base.load_in_4bit and FAMILIES[base.model_type].has_experts:
        say(plan, f"the experts of {base.path} stay in {base.precision}: 4 bits and adapters reach linear layers alone")
    speed_up_vision(model)
    use_driving_forward(model)
    model = apply_tuning(model, plan.model)
    facts = describe_run(
        plan,
        num_batches=len(data.batches),
        num_rows=len(dataset),
        num_by_name=rows.num_by_name,
        sample=sample,
        parts=count_parameters(model),
    )
    memory = plan_memory(plan, model, sample, data.lengths)
    if situation is not None:
        situation.learn(plan.run, memory, sample)
        if dataset.cache is not None:
            situation.cache_bytes = FrameCache.count_bytes(len(dataset), tuple(sample["videos"][0].shape))
    facts["track"] = rows.track
    facts["memory_gib"] = describe_memory(memory)
    facts["lengths"] = describe_lengths(data.lengths, rows.skips, plan.run.model_max_length)
    facts["packing"] = describe_packing(data.batches)
    costs = format_memory(memory, count_available(plan.run.device))
    if plan.run.dry_run:
        costs += estimate_time(
            plan,
            model,
            memory,
            num_rows=len(dataset),
            sample=sample,
            lengths=data.lengths,
            video_settings=processor.video_processor,
            steps_an_epoch=facts["steps_an_epoch"],
            total_steps=facts["total_steps"],
        )
    say(plan, format_plan(facts, sample, processor.tokenizer, costs))
    if plan.run.process_index == 0 and not plan.run.dry_run:
        write_json(Path(plan.run.output_dir) / PLAN_FACTS_NAME, facts)
    return model


def _first_sample(dataset: DrivingDataset, max_bad_fraction: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first row that can be used, and what the loss sees of it; looks on for as long as the run could go on."""
    num_allowed = max(MIN_BAD_TO_FAIL, int(max_bad_fraction * len(dataset)))
    for index in range(min(num_allowed + 1, len(dataset))):
        sample = dataset[index]
        if not isinstance(sample, BadSample):
            return dataset.records[index], sample
        if sample.stops_run:
            raise DrivingError(sample.reason)
    reason = sample.reason.removeprefix(f"{sample.id}: ")
    raise DrivingError(f"none of the first {index + 1} rows can be used; the last: {sample.id}: {reason}")


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


def _check_shared_memory(plan: TrainPlan, batches: EpochBatches, sample: dict[str, Any]) -> None:
    loads = None
    if batches.num_visual is not None:
        loads = np.array([int(batches.num_visual[unit].sum()) for unit in batches.plan_epoch(0)])
    check_shared_memory(
        estimate_batch_bytes(sample, batches.batch_size, loads),
        num_workers=plan.run.dataloader_num_workers,
        prefetch_factor=plan.run.dataloader_prefetch_factor or PREFETCH_FACTOR,
        num_held=plan.run.gradient_accumulation_steps,
        num_ranks=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        evaluation_batch_bytes=plan.run.per_device_eval_batch_size * count_sample_bytes(sample) * plan.run.is_evaluated,
    )


def _plan_cache(plan: TrainPlan, num_rows: int, sample: dict[str, Any]) -> FrameCache | None:
    """Memory for the decoded frames: where asked for, or where they fit and are needed more than once."""
    wanted = plan.data.cache_frames.lower()
    if plan.data.prepared_dir or plan.data.streaming or wanted == "false" or len(sample["videos"]) != 1:
        return None
    shape = tuple(sample["videos"][0].shape)
    needed = FrameCache.count_bytes(num_rows, shape)
    if wanted == "auto" and (needed > CACHE_LIMIT_BYTES or plan.run.num_train_epochs <= 1):
        return None
    return FrameCache(num_rows, shape)


def _join_deepspeed(plan: TrainPlan) -> None:
    """Tell DeepSpeed about the process group before weights are sharded; on a CPU it would look for another one."""
    if not plan.run.deepspeed or plan.run.dry_run:
        return
    if "RANK" not in os.environ:
        raise DrivingError(
            "--deepspeed needs a launcher, also for one process: ./train_physical_ai.sh, or "
            "torchrun --nproc_per_node 1 -m qwenvl.train.train_qwen ..."
        )
    import deepspeed

    on_cpu = plan.run.device.type == "cpu"
    if on_cpu:  # nothing to build for collectives: that takes a minute and a compiler, and training has no use for it
        deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(dist_backend="gloo" if on_cpu else "nccl")


def say(plan: TrainPlan, text: str) -> None:
    """Print once, not once a process."""
    if plan.run.process_index == 0:
        print(text, flush=True)
