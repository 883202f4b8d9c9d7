"""Which flags a continued run must share with its beginning, and which it may change."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from qwenvl.train.argument import parse_plan  # noqa: E402
from qwenvl.train.plan_report import plan_identity  # noqa: E402

pytestmark = pytest.mark.needs_torch
BASE = ("--model_name_or_path", "m", "--use_cpu", "True", "--report_to", "none", "--lora_enable", "True")
FIXED = {
    "dataset_use": "other", "tune_mm_llm": "False", "tune_mm_mlp": "False", "tune_mm_vision": "True", "lora_r": "8",
    "lora_alpha": "8", "lora_dropout": "0.5", "lora_target_modules": "attention", "use_dora": "True",
    "use_rslora": "True", "load_in_4bit": "True", "optim": "sgd", "optim_args": "a=1", "optim_target_modules": "all",
    "learning_rate": "1", "mm_projector_lr": "1", "vision_tower_lr": "1", "weight_decay": "1", "adam_beta1": "0.1",
    "adam_beta2": "0.1", "adam_epsilon": "1", "max_grad_norm": "9", "lr_scheduler_type": "linear",
    "lr_scheduler_kwargs": '{"num_cycles": 2}', "warmup_steps": "7", "group_by_length": "True", "data_flatten": "True",
    "data_packing": "True", "per_device_train_batch_size": "3", "gradient_accumulation_steps": "3", "seed": "3",
    "model_max_length": "99", "neftune_noise_alpha": "5", "video_fps": "3", "video_min_frames": "3",
    "video_max_frames": "99", "video_frame_pixels": "9999", "video_max_pixels": "9999", "video_min_pixels": "9999",
    "max_pixels": "9999", "min_pixels": "9999", "mirror": "True", "blind": "True", "streaming": "True",
}  # fmt: skip
FREE = {
    "num_train_epochs": "9", "max_steps": "9", "save_steps": "9", "save_total_limit": "9", "save_strategy": "epoch",
    "logging_steps": "9", "run_name": "r", "dataloader_num_workers": "1", "cache_frames": "False", "cache_dir": "c",
    "decode_limit_s": "9", "max_bad_fraction": "0.5", "prepared_dir": "p", "disable_tqdm": "True", "output_dir": "o",
    "overwrite_output": "True", "dry_run": "True",
}  # fmt: skip


def identity(*flags: str) -> dict:
    return plan_identity(parse_plan([*BASE, *flags]), "model", {}, "")


@pytest.mark.parametrize("flag", FIXED)
def test_a_flag_that_decides_the_weights_is_part_of_the_plan(flag):
    more = ("--tune_mm_vision", "True") if flag in ("vision_tower_lr", "tune_mm_llm") else ()
    assert identity(*more) != identity(*more, f"--{flag}", FIXED[flag])


@pytest.mark.parametrize("flag", FREE)
def test_a_flag_that_decides_no_weight_may_change(flag):
    assert identity() == identity(f"--{flag}", FREE[flag])
