"""Values of transformers' own flags that cannot work here, refused before anything is loaded.

Left alone, each of these ends in a traceback hours later, or is silently ignored, which is worse.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from driving.errors import DrivingError

# name of --report_to -> modules of which one must be installed
REPORTERS = {
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dvclive": ("dvclive",),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
FOLLOWS_EVALUATION = ("reduce_lr_on_plateau", "greedy")
MAX_SEED = 2**32 - 1  # numpy's
MIN_VALUES = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "model_max_length": 1,
    "eval_samples": 0,
    "eval_steps": 0.0,
    "learning_rate": 0.0,
    "mm_projector_lr": 0.0,
    "vision_tower_lr": 0.0,
    "weight_decay": 0.0,
    "warmup_steps": 0.0,
    "max_grad_norm": 0.0,
    "logging_steps": 0.0,
}


def check_limits(run: Any, *, trains_vision: bool) -> None:
    """Raise for a number out of range, and for flags that would be ignored or break the exact resume.

    Args:
        run: the TrainingArguments.
        trains_vision: whether the vision tower learns.
    """
    _check_numbers(run)
    _check_refused(run, trains_vision)
    check_reporters(run.report_to)


def _check_numbers(run: Any) -> None:
    for name, smallest in MIN_VALUES.items():
        value = getattr(run, name)
        if value is not None and not smallest <= value < math.inf:
            raise DrivingError(f"--{name} {value} must be a number, at least {smallest:g}")
    if run.max_steps <= 0 and not 0 < run.num_train_epochs < math.inf:
        raise DrivingError(f"--num_train_epochs {run.num_train_epochs:g} must be above 0 (or give --max_steps)")
    if not 0 <= run.seed <= MAX_SEED:
        raise DrivingError(f"--seed {run.seed} must be from 0 to {MAX_SEED}")
    if str(getattr(run.save_strategy, "value", run.save_strategy)) == "steps" and not run.save_steps > 0:
        raise DrivingError(f"--save_steps {run.save_steps:g} must be above 0; --save_strategy no writes no checkpoints")


def _check_refused(run: Any, trains_vision: bool) -> None:
    if run.ignore_data_skip:
        raise DrivingError("--ignore_data_skip True would show a resumed run the first samples again; leave it out")
    if run.remove_unused_columns:
        raise DrivingError("--remove_unused_columns True would take the frames away from the model; leave it out")
    schedule = str(getattr(run.lr_scheduler_type, "value", run.lr_scheduler_type))
    if schedule in FOLLOWS_EVALUATION:
        raise DrivingError(
            f"--lr_scheduler_type {schedule} would follow the evaluations, which may change when a run is continued; "
            "use cosine, linear or constant"
        )
    if run.vision_tower_lr is not None and not trains_vision:
        raise DrivingError(
            f"--vision_tower_lr {run.vision_tower_lr:g} has no effect on a frozen tower; "
            "set --tune_mm_vision True, or leave it out"
        )


def check_reporters(names: list[str] | str | None) -> None:
    """Raise where --report_to names what transformers does not know, or what is not installed."""
    for name in [names] if isinstance(names, str) else names or []:
        if name in ("none", "all"):
            continue
        if name not in REPORTERS:
            raise DrivingError(f"--report_to {name} is none of none, all, {', '.join(REPORTERS)}")
        if not any(importlib.util.find_spec(module) for module in REPORTERS[name]):
            raise DrivingError(
                f"--report_to {name}: {REPORTERS[name][0]} is not installed; "
                f"uv pip install {REPORTERS[name][0]}, or use --report_to none"
            )
