"""The command lines of upstream's scripts, as their users have them, `--report_to none` apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from qwenvl.train.argument import parse_plan  # noqa: E402
from qwenvl.train.train_qwen import train  # noqa: E402

pytestmark = pytest.mark.needs_torch
LAUNCH_LIMIT_S = 900


def script_flags(
    model: str, zero: int, learning_rate: str, run_name: str, batch_size: int = 4, *more: str
) -> list[str]:
    """What sft.sh, sft_7b.sh, sft_qwen3_4b.sh and sft_30a3b_lora.sh give to train_qwen.py."""
    return [
        "--deepspeed", f"./scripts/zero{zero}.json", "--model_name_or_path", model,
        "--dataset_use", "public_dataset1,public_dataset2", "--data_flatten", "True", "--tune_mm_vision", "False",
        "--tune_mm_mlp", "True", "--tune_mm_llm", "True", "--bf16", *more, "--output_dir", "./output",
        "--num_train_epochs", "0.5", "--per_device_train_batch_size", str(batch_size),
        "--per_device_eval_batch_size", str(2 * batch_size), "--gradient_accumulation_steps", "4",
        "--max_pixels", "50176", "--min_pixels", "784", "--eval_strategy", "no", "--save_strategy", "steps",
        "--save_steps", "1000", "--save_total_limit", "1", "--learning_rate", learning_rate, "--weight_decay", "0",
        "--warmup_ratio", "0.03", "--max_grad_norm", "1", "--lr_scheduler_type", "cosine", "--logging_steps", "1",
        "--model_max_length", "8192", "--gradient_checkpointing", "True", "--dataloader_num_workers", "4",
        "--run_name", run_name, "--report_to", "none",
    ]  # fmt: skip


QWEN3_4B = script_flags("Qwen/Qwen3-VL-4B-Instruct", 3, "1e-5", "qwen3vl")
SCRIPTS = {
    "sft.sh": script_flags("Qwen/Qwen2.5-VL-3B-Instruct", 3, "2e-7", "qwen2vl-baseline"),
    "sft_7b.sh": script_flags("Qwen/Qwen2.5-VL-7B-Instruct", 3, "2e-7", "qwen2vl-baseline"),
    "sft_qwen3_4b.sh": QWEN3_4B,
    "sft_30a3b_lora.sh": script_flags(
        "Qwen/Qwen3-VL-30B-A3B-Instruct", 2, "1e-5", "qwen3vl-moe-lora", 1, "--lora_enable", "True"
    ),
}
# The list of all flags in upstream's README, with the values it shows.
README = [
    "--model_name_or_path", "Qwen/Qwen3-VL-4B-Instruct", "--tune_mm_llm", "True", "--tune_mm_vision", "True",
    "--tune_mm_mlp", "True", "--dataset_use", "public_dataset1%100", "--output_dir", "./output", "--cache_dir", "cache",
    "--bf16", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4", "--learning_rate", "2e-7",
    "--mm_projector_lr", "1e-5", "--vision_tower_lr", "1e-6", "--optim", "adamw_torch", "--model_max_length", "4096",
    "--data_flatten", "True", "--data_packing", "True", "--max_pixels", "576*28*28",
    "--min_pixels", "16*28*28", "--video_fps", "2",
    "--video_max_frames", "8", "--video_min_frames", "4", "--video_max_pixels", "1664*28*28",
    "--video_min_pixels", "256*28*28", "--num_train_epochs", "3", "--warmup_ratio", "0.03",
    "--lr_scheduler_type", "cosine", "--weight_decay", "0.01", "--logging_steps", "10", "--save_steps", "500",
    "--save_total_limit", "3", "--lora_enable", "True", "--lora_r", "8", "--lora_alpha", "16", "--lora_dropout", "0.0",
    "--deepspeed", "./scripts/zero3.json", "--base_interval", "2", "--report_to", "none",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, repository, tiny_model, training_json):
    """A working folder in which upstream's names mean something: a tiny model, two datasets, the DeepSpeed configs."""
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "Qwen").mkdir()
    (folder / "Qwen/Qwen3-VL-4B-Instruct").symlink_to(tiny_model)
    (folder / "scripts").symlink_to(repository / "qwen-vl-finetune/scripts")
    (folder / "systems/public").mkdir(parents=True)
    rows = json.loads(training_json.read_text())
    entries = {}
    for name in ("public_dataset1", "public_dataset2"):
        (folder / f"{name}.json").write_text(json.dumps([{**row, "id": f"{name}-{row['id']}"} for row in rows]))
        entries[name] = {"annotation_path": f"{name}.json", "data_path": str(training_json.parent)}
    (folder / "systems/public/datasets.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_flags_of_upstreams_scripts_mean_what_they_say(folder, monkeypatch, script):
    monkeypatch.chdir(folder)
    plan = parse_plan([*SCRIPTS[script], "--use_cpu", "True"])
    is_lora = script == "sft_30a3b_lora.sh"
    assert plan.data.dataset_use == "public_dataset1,public_dataset2" and plan.data.data_flatten
    assert (plan.data.max_pixels, plan.data.min_pixels) == (50_176, 784)
    assert (plan.model.tune_mm_vision, plan.model.tune_mm_mlp, plan.model.tune_mm_llm) == (False, True, True)
    assert plan.model.lora_enable is is_lora
    assert plan.run.per_device_train_batch_size == (1 if is_lora else 4)
    assert (plan.run.gradient_accumulation_steps, plan.run.model_max_length) == (4, 8192)
    assert (plan.run.warmup_steps, plan.run.weight_decay, plan.run.max_grad_norm) == (0.03, 0.0, 1.0)
    assert plan.run.learning_rate == float(SCRIPTS[script][SCRIPTS[script].index("--learning_rate") + 1])
    assert (plan.run.num_train_epochs, plan.run.save_steps, plan.run.save_total_limit) == (0.5, 1000, 1)
    assert plan.run.deepspeed == f"./scripts/zero{2 if is_lora else 3}.json"
    assert plan.run.dataloader_num_workers == 4


def test_every_flag_of_upstreams_readme_is_taken(folder, monkeypatch):
    monkeypatch.chdir(folder)
    plan = parse_plan([*README, "--use_cpu", "True"])
    assert (plan.data.max_pixels, plan.data.video_max_pixels) == (576 * 28 * 28, 1664 * 28 * 28)
    assert (plan.data.video_fps, plan.data.video_max_frames, plan.data.video_min_frames) == (2.0, 8, 4)
    assert (plan.run.mm_projector_lr, plan.run.vision_tower_lr) == (1e-5, 1e-6)
    assert (plan.model.lora_r, plan.model.lora_alpha, plan.model.lora_dropout) == (8, 16, 0.0)
    assert any("--base_interval 2" in note for note in plan.notes)


def without(flags: list[str], name: str) -> list[str]:
    """Flags without one of them and its value."""
    place = flags.index(name)
    return flags[:place] + flags[place + 2 :]


def check_result(output) -> None:
    """Half an epoch of 20 rows, 16 a step, is one step; weights and their processor are there."""
    lines = [json.loads(line) for line in (output / "training_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1] and lines[0]["loss"] > 0
    assert (output / "model.safetensors").exists() and (output / "preprocessing.json").exists()
    assert json.loads((output / "train_plan.json").read_text())["effective_batch"]["samples_a_step"] == 16


def test_sft_qwen3_4b_trains_unchanged_in_one_process(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert train(argv=without(QWEN3_4B, "--deepspeed")) == 0, capsys.readouterr().err
    check_result(folder / "output")


@pytest.mark.slow
def test_sft_qwen3_4b_trains_unchanged_under_torchrun_and_zero_3(folder, repository, tmp_path):
    """As upstream starts it: torchrun, the path of train_qwen.py, the DeepSpeed config."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", "--master_addr=127.0.0.1",
        "--master_port=29517", str(repository / "qwen-vl-finetune/qwenvl/train/train_qwen.py"), *QWEN3_4B,
    ]  # fmt: skip
    command[command.index("./output")] = str(tmp_path / "output")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=LAUNCH_LIMIT_S
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    check_result(tmp_path / "output")
