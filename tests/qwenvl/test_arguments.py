"""Flags: upstream's, those that transformers dropped, and those that are refused."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")
import transformers  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.argument import check_arguments, parse_plan  # noqa: E402
from qwenvl.train.foreign_flags import FOREIGN  # noqa: E402
from qwenvl.train.limits import check_reporters  # noqa: E402
from qwenvl.train.translate import check_flags, resolve_machine, translate_argv  # noqa: E402

pytestmark = pytest.mark.needs_torch


def parse(*argv: str):
    return parse_plan(["--model_name_or_path", "m", "--use_cpu", "True", *argv])


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        (["--warmup_ratio", "0.03"], ["--warmup_steps", "0.03"]),
        (["--evaluation-strategy", "no"], ["--eval_strategy", "no"]),
        (["--no_cuda", "True"], ["--use_cpu", "True"]),
        (["--overwrite_output_dir"], ["--overwrite_output"]),
        (["--per_gpu_train_batch_size", "3"], ["--per_device_train_batch_size", "3"]),
        (["--per_gpu_eval_batch_size", "3"], ["--per_device_eval_batch_size", "3"]),
        (["--adafactor", "True"], ["--optim", "adafactor"]),
        (["--adafactor", "False"], []),
        (["--half_precision_backend", "auto"], []),
        (["--base_interval", "2"], []),
        (["--save_safetensors", "True"], []),
        (["--video-max-pixels=1024*28*28"], ["--video_max_pixels", "802816"]),
        (["--group_by_length", "True"], ["--group_by_length", "True"]),
    ],
)
def test_what_people_still_type_is_translated(typed, known):
    assert translate_argv(typed)[0] == known


def test_the_logging_dir_goes_where_tensorboard_looks_now(monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")
    argv, notes = translate_argv(["--logging_dir", "logs/x"])
    import os

    assert argv == [] and os.environ["TENSORBOARD_LOGGING_DIR"] == "logs/x"
    assert "logs/x" in notes[0]


def test_a_deepspeed_config_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(DrivingError, match="my/zero2.json does not exist; there are qwen-vl-finetune/scripts/zero2"):
        parse("--deepspeed", "my/zero2.json")


def test_unsafe_weights_are_not_written():
    with pytest.raises(DrivingError, match="--save_safetensors False is gone"):
        translate_argv(["--save_safetensors", "False"])


def test_a_pixel_count_must_be_a_number_or_a_product():
    with pytest.raises(DrivingError, match="'lots' is not a number of pixels"):
        translate_argv(["--max_pixels", "lots"])


def test_dashes_and_underscores_are_one_flag():
    lora = ("--lora_enable", "True")
    assert parse("--lora-r", "8", *lora).model.lora_r == parse("--lora_r", "8", *lora).model.lora_r == 8


def test_a_mistyped_flag_is_answered_with_the_nearest():
    with pytest.raises(DrivingError, match="--lora_enabel is not a flag .* did you mean --lora_enable"):
        parse("--lora_enabel", "True")


def test_a_value_without_a_flag_is_refused():
    with pytest.raises(DrivingError, match="'config.json' stands before the first flag"):
        check_flags(["config.json"], set())


@pytest.mark.parametrize(
    "argv",
    [
        ("--eval_steps", "0.5"),
        ("--eval_dataset_use", "val.json"),
        ("--metric_for_best_model", "eval_loss"),
        ("--load_best_model_at_end", "True"),
    ],
)
def test_what_is_asked_of_an_evaluation_that_never_takes_place_is_refused(argv):
    with pytest.raises(DrivingError, match=f"{argv[0]} {argv[1]} has no effect without an evaluation; add --eval_str"):
        parse(*argv)


def test_evaluation_takes_place_with_every_checkpoint_unless_said():
    run = parse("--eval_strategy", "steps", "--save_steps", "70").run
    assert (run.eval_steps, run.eval_samples, run.metric_for_best_model) == (70, 64, "eval_loss")
    assert parse("--eval_strategy", "steps", "--eval_steps", "30", "--save_steps", "70").run.eval_steps == 30


def test_the_best_may_be_looked_for_more_often_than_checkpoints_are_written():
    run = parse("--eval_strategy", "epoch", "--load_best_model_at_end", "True", "--metric_for_best_model", "ade").run
    assert (run.load_best_model_at_end, run.metric_for_best_model) == (True, "eval_ade")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--tune_mm_llm", "False", "--tune_mm_mlp", "False"), "nothing is trained"),
        (("--lora_enable", "True", "--tune_mm_llm", "False"), "LoRA has nothing to adapt"),
        (("--lora_dropout", "1.0"), "the dropout from 0 to below 1"),
        (("--cache_frames", "maybe"), "none of auto, True, False"),
        (("--precision", "int8"), "none of auto, bf16, fp16, fp32"),
        (("--max_bad_fraction", "2"), "not a share from 0 to 1"),
        (("--ignore_data_skip", "True"), "--ignore_data_skip True would show a resumed run the first samples again"),
        (("--remove_unused_columns", "True"), "--remove_unused_columns True would take the frames away"),
        (("--save_strategy", "best"), "--save_strategy best needs an evaluation"),
        (("--metric_for_best_model", "bleu"), "--metric_for_best_model eval_bleu is none of eval_ade, "),
        (("--eval_strategy", "steps", "--lr_scheduler_type", "greedy"), "--lr_scheduler_type greedy would follow the"),
        (("--eval_strategy", "steps", "--eval_samples", "-1"), "--eval_samples -1 must be a number, at least 0"),
        (("--eval_strategy", "epoch", "--fp16_full_eval", "True"), "--fp16_full_eval True has no place here"),
        (("--vision_tower_lr", "1e-5"), "--vision_tower_lr 1e-05 has no effect on a frozen tower"),
        (("--save_steps", "0"), "--save_steps 0 must be above 0"),
        (("--bf16", "True", "--fp16", "True"), "--bf16 True and --fp16 True contradict each other"),
        (("--precision", "fp32", "--bf16", "True"), "--precision fp32 and --bf16 True contradict each other"),
        (("--per_device_train_batch_size", "0"), "--per_device_train_batch_size 0 must be a number, at least 1"),
        (("--gradient_accumulation_steps", "0"), "--gradient_accumulation_steps 0 must be a number, at least 1"),
        (("--num_train_epochs", "0"), "--num_train_epochs 0 must be above 0"),
        (("--num_train_epochs", "-1"), "--num_train_epochs -1 must be above 0"),
        (("--learning_rate", "-1"), "--learning_rate -1.0 must be a number, at least 0"),
        (("--learning_rate", "nan"), "--learning_rate nan must be a number"),
        (("--lr_scheduler_type", "nope"), "nope"),
        (("--dataloader_num_workers", "-1"), "--dataloader_num_workers -1 must be a number, at least 0"),
        (("--seed", "-1"), "--seed -1 must be from 0 to"),
        (("--warmup_ratio", "abc"), "--warmup_ratio abc is not a share below 1"),
        (("--warmup_ratio", "-0.1"), "--warmup_ratio -0.1 is not a share below 1"),
        (("--report_to", "nope"), "--report_to nope is none of none, all, .*wandb"),
        (("--lora_r", "8"), "--lora_r 8 has no effect without --lora_enable True"),
        (("--prepared_dir", "p", "--cache_frames", "True"), "--cache_frames True has no effect with --prepared_dir"),
        (("--use_dora", "True"), "--use_dora True has no effect without --lora_enable True"),
        (("--tune_mm_mlp", "False", "--mm_projector_lr", "1e-5"), "--mm_projector_lr 1e-05 has no effect on frozen"),
        (
            ("--data_packing", "True", "--group_by_length", "True"),
            "--group_by_length True has no effect",
        ),
    ],
)
def test_contradictions_and_bad_values_are_refused(argv, message):
    with pytest.raises(DrivingError, match=message):
        parse(*argv)


# What makes each of these say something else than its default.
FOREIGN_VALUES = {
    "accelerator_config": '{"split_batches": true}', "average_tokens_across_devices": "False", "data_seed": "1",
    "dataloader_in_order": "False", "dataloader_multiprocessing_context": "spawn", "fsdp": "full_shard",
    "label_smoothing_factor": "0.1", "length_column_name": "words", "torch_compile_backend": "eager",
    "torch_compile_mode": "default", "eval_accumulation_steps": "2",
}  # fmt: skip


@pytest.mark.parametrize("name", [*FOREIGN, "accelerator_config"])
def test_a_flag_of_transformers_that_would_be_ignored_is_refused(name):
    if name not in {field.name for field in dataclasses.fields(transformers.TrainingArguments)}:
        pytest.skip(f"this transformers has no --{name}")
    with pytest.raises(DrivingError, match=f"--{name} .*has no place here: .*; leave it out"):
        parse(f"--{name}", FOREIGN_VALUES.get(name, "True"))


@pytest.mark.parametrize("flag", ["--dataloader_drop_last", "--use_cache", "--torch_compile"])
def test_a_flag_that_is_given_its_harmless_value_is_taken(flag):
    assert getattr(parse(flag, "False").run, flag[2:]) is False


def test_a_reporter_that_is_not_installed_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DrivingError, match="wandb is not installed; uv pip install wandb, or use --report_to none"):
        check_reporters(["wandb"])


def test_a_deepspeed_config_that_is_not_json_is_named(tmp_path):
    (tmp_path / "zero.json").write_text("{")
    with pytest.raises(DrivingError, match="the DeepSpeed config .*zero.json is not JSON"):
        parse("--deepspeed", str(tmp_path / "zero.json"))


def test_a_word_for_a_number_is_refused_without_the_usage_of_every_flag(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--learning_rate", "fast")
    complaint = capsys.readouterr().err
    assert end.value.code == 2 and len(complaint.strip().splitlines()) == 2
    assert "argument --learning_rate/--learning-rate: invalid float value: 'fast'" in complaint


def test_a_missing_model_is_named():
    with pytest.raises(DrivingError, match="--model_name_or_path is missing"):
        parse_plan(["--use_cpu", "True"])


def test_bf16_on_a_machine_without_it_says_what_is_used_instead():
    argv, notes = resolve_machine(["--use_cpu", "True", "--bf16", "True"])
    assert argv[argv.index("--precision") + 1] == "fp32"
    assert notes == ["bf16 was asked for; this machine has no GPU, fp32 is used"]


def test_activations_are_kept_on_a_cpu_unless_asked():
    argv, _ = resolve_machine(["--use_cpu", "True", "--gradient_checkpointing", "auto"])
    assert argv[argv.index("--gradient_checkpointing") + 1] == "False"
    argv, _ = resolve_machine(["--use_cpu", "True", "--gradient_checkpointing", "True"])
    assert argv[argv.index("--gradient_checkpointing") + 1] == "True"


@pytest.mark.parametrize("spelling", ["--help", "-h"])
def test_help_is_printed_with_every_flag_of_ours(spelling, capsys):
    with pytest.raises(SystemExit) as left:
        parse_plan([spelling])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--video_frame_pixels", "--cache_frames", "--lora_target_modules", "%N"))


def test_one_process_that_sees_several_gpus_is_refused_with_the_way_out(monkeypatch):
    plan = parse("--output_dir", "o")
    monkeypatch.setattr(type(plan.run), "n_gpu", property(lambda run: 2))
    with pytest.raises(DrivingError, match="sees 2 GPUs .* torchrun --nproc_per_node 2, .* CUDA_VISIBLE_DEVICES=0"):
        check_arguments(plan.model, plan.data, plan.run)
