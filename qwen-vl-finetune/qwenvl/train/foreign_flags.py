"""Flags that would do nothing, or undo what this trainer promises: refused where they are set.

A flag that is accepted and does nothing is found out after the run; here it is found out before.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from driving.errors import DrivingError
from qwenvl.train.answer_scores import EVAL_METRICS

# flag -> (the value that changes nothing, what to do instead)
FOREIGN: dict[str, tuple[Any, str]] = {
    "auto_find_batch_size": (False, "the batch is part of the plan that a resume must match; try a dry run"),
    "average_tokens_across_devices": (True, "the loss is always weighted by supervised token over all ranks"),
    "data_seed": (None, "--seed decides the order of the rows too"),
    "batch_eval_metrics": (False, "answers are gathered once, as text"),
    "bf16_full_eval": (False, "evaluation computes as training does"),
    "dataloader_drop_last": (False, "no row is left out; the last batch is smaller"),
    "dataloader_in_order": (True, "the order of the rows is exact"),
    "dataloader_multiprocessing_context": (None, "the workers are forked, so that they share the frame cache"),
    "enable_jit_checkpoint": (False, "SIGTERM is answered with a checkpoint already"),
    "eval_accumulation_steps": (None, "evaluation keeps no logits"),
    "fp16_full_eval": (False, "evaluation computes as training does"),
    "fsdp": (None, "--deepspeed shards here"),
    "label_smoothing_factor": (0.0, "the loss is that of the exact answer"),
    "length_column_name": ("length", "--group_by_length measures the rows itself"),
    "logging_nan_inf_filter": (False, "a loss that is not finite ends the run"),
    "greater_is_better": (None, "each metric knows"),
    "prediction_loss_only": (False, "--eval_samples 0 answers nothing"),
    "save_only_model": (False, "a checkpoint without its optimizer cannot be continued exactly"),
    "torch_compile": (False, "samples differ in shape, so it would compile again and again"),
    "torch_compile_backend": (None, "samples differ in shape, so it would compile again and again"),
    "torch_compile_mode": (None, "samples differ in shape, so it would compile again and again"),
    "use_cache": (False, "keys of one sample would leak into the next one of a row"),
    "use_liger_kernel": (False, "the head sees supervised rows only, in chunks, without it"),
}
LORA_ONLY = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_dora", "use_rslora")
EVALUATION_ONLY = (
    "eval_dataset_use", "eval_delay", "eval_on_start", "eval_samples", "eval_steps", "load_best_model_at_end",
    "metric_for_best_model",
)  # fmt: skip
# accelerate's object, whatever was typed: its settings are for loaders and steps that are not used here.
ACCELERATOR_CONFIG = "accelerator_config"


def check_foreign(run: Any, typed: set[str]) -> None:
    """Raise where one of these flags was given a value that would be ignored.

    Args:
        run: the TrainingArguments.
        typed: names of the flags on the command line.
    """
    for name, (harmless, instead) in FOREIGN.items():
        value = getattr(run, name, harmless)
        if name in typed and value != harmless and not (harmless is None and not value):
            raise DrivingError(f"--{name} {value} has no place here: {instead}; leave it out")
    if ACCELERATOR_CONFIG in typed:
        raise DrivingError(f"--{ACCELERATOR_CONFIG} has no place here: batches and steps are planned; leave it out")


def check_evaluation(run: Any, data: Any, typed: set[str]) -> None:
    """Raise where something is asked of an evaluation that never takes place, or by a metric that there is not."""
    if run.metric_for_best_model not in EVAL_METRICS:
        raise DrivingError(
            f"--metric_for_best_model {run.metric_for_best_model} is none of {', '.join(sorted(EVAL_METRICS))}"
        )
    if run.is_evaluated:
        return
    for name in EVALUATION_ONLY:
        value = getattr(run, name, None) or getattr(data, name, None)
        if name in typed and value:
            raise DrivingError(
                f"--{name} {value} has no effect without an evaluation; add --eval_strategy steps or epoch"
            )
    if str(getattr(run.save_strategy, "value", run.save_strategy)) == "best":
        raise DrivingError("--save_strategy best needs an evaluation; add --eval_strategy steps or epoch")


# With --streaming True: flag of the data or the run -> why it needs all rows before the first step, and what to do.
NEEDS_ALL_ROWS = {
    "data_packing": "bins are planned from the lengths of all rows; use --data_flatten True",
    "group_by_length": "it sorts all rows by length; leave it out",
    "prepared_dir": "a prepared cache lists all rows, and is read as it is without --streaming; drop one of the two",
}


def check_streaming(data: Any, run: Any) -> None:
    """Raise where something is asked of a stream that needs all its rows at once."""
    if not data.streaming:
        return
    for name, reason in NEEDS_ALL_ROWS.items():
        value = getattr(data, name, None) or getattr(run, name, None)
        if value:
            raise DrivingError(f"--{name} {value} cannot be had with --streaming True: {reason}")
    if data.cache_frames.lower() == "true":
        raise DrivingError("--cache_frames True cannot be had with --streaming True: it keeps all frames; drop it")


def check_without_effect(model: Any, data: Any, run: Any) -> None:
    """Raise for a flag that another flag makes meaningless."""
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.name in LORA_ONLY and not model.lora_enable and value != field.default:
            raise DrivingError(f"--{field.name} {value} has no effect without --lora_enable True; set it, or drop this")
    if run.mm_projector_lr is not None and not model.tune_mm_mlp:
        raise DrivingError(
            f"--mm_projector_lr {run.mm_projector_lr:g} has no effect on frozen mergers; "
            "set --tune_mm_mlp True, or leave it out"
        )
    if run.group_by_length and data.data_packing:
        raise DrivingError(
            "--group_by_length True has no effect with --data_packing True, which plans by length; drop it"
        )
    if data.prepared_dir and data.cache_frames.lower() == "true":
        raise DrivingError(
            "--cache_frames True has no effect with --prepared_dir, which is mapped into memory; drop it"
        )
