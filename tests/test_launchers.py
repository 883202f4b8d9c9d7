"""Each launcher prints a command that parses into the plan of the document, wherever it is called from."""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pytest

FROM_ENVIRONMENT = {
    "MODEL_PATH": ("model_name_or_path", "some/model"),
    "DATASET": ("dataset_use", "my data.json"),
    "OUTPUT_DIR": ("output_dir", "runs/one two"),
    "LEARNING_RATE": ("learning_rate", "3e-4"),
    "BATCH_SIZE": ("per_device_train_batch_size", "7"),
    "GRAD_ACCUM_STEPS": ("gradient_accumulation_steps", "5"),
    "EPOCHS": ("num_train_epochs", "9"),
    "MAX_STEPS": ("max_steps", "11"),
    "MODEL_MAX_LENGTH": ("model_max_length", "512"),
    "PRECISION": ("precision", "fp32"),
    "VIDEO_FPS": ("video_fps", "10"),
    "VIDEO_MAX_FRAMES": ("video_max_frames", "20"),
    "VIDEO_MIN_FRAMES": ("video_min_frames", "4"),
    "VIDEO_FRAME_PIXELS": ("video_frame_pixels", "28672"),
    "VIDEO_MAX_PIXELS": ("video_max_pixels", "802816"),
    "VIDEO_MIN_PIXELS": ("video_min_pixels", "1024"),
    "MAX_PIXELS": ("max_pixels", "4096"),
    "MIN_PIXELS": ("min_pixels", "2048"),
    "ATTN_IMPLEMENTATION": ("attn_implementation", "eager"),
    "REPORT_TO": ("report_to", "tensorboard"),
    "RUN_NAME": ("run_name", "r"),
    "SAVE_STEPS": ("save_steps", "33"),
    "SAVE_TOTAL_LIMIT": ("save_total_limit", "4"),
}
LORA_ONLY = {
    "LORA_R": ("lora_r", "2"),
    "LORA_ALPHA": ("lora_alpha", "3"),
    "LORA_DROPOUT": ("lora_dropout", "0.0"),
    "LORA_TARGET_MODULES": ("lora_target_modules", "attention"),
}
DEFAULTS = {
    "train_physical_ai_lora.sh": {
        "output_dir": "checkpoints/physical_ai_driving_lora", "learning_rate": "2e-4",
        "per_device_train_batch_size": "4", "gradient_accumulation_steps": "2", "num_train_epochs": "5",
        "lora_enable": "True", "lora_r": "64", "lora_alpha": "128", "lora_dropout": "0.05",
    },
    "train_physical_ai.sh": {
        "output_dir": "checkpoints/physical_ai_driving", "learning_rate": "1e-5", "per_device_train_batch_size": "2",
        "gradient_accumulation_steps": "4", "num_train_epochs": "3",
    },
}  # fmt: skip
SHARED = {
    "model_name_or_path": "Qwen/Qwen3-VL-4B-Instruct", "dataset_use": "physical_ai_driving",
    "tune_mm_vision": "False", "tune_mm_mlp": "True", "tune_mm_llm": "True", "video_fps": "30",
    "video_max_frames": "32", "video_min_frames": "16", "model_max_length": "4096", "lr_scheduler_type": "cosine",
    "warmup_ratio": "0.03", "report_to": "none", "precision": "auto", "save_total_limit": "2",
}  # fmt: skip
RECIPES = sorted(DEFAULTS)


def dry_run(repository, recipe, *trailing, folder=None, **environment) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [str(repository / recipe), *trailing],
        env={**kept, "DRY_RUN": "command", **environment},
        cwd=folder or repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def command_of(output: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if line.startswith("command:")]
    return shlex.split(line.removeprefix("command:"))


def flags_of(command: list[str]) -> dict[str, str]:
    """The last value of each flag: trailing arguments win."""
    return {name[2:]: value for name, value in zip(command, command[1:], strict=False) if name.startswith("--")}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_defaults_are_those_of_the_document(repository, recipe, tmp_path):
    flags = flags_of(command_of(dry_run(repository, recipe, folder=tmp_path)))
    expected = {**SHARED, **DEFAULTS[recipe]}
    assert {name: flags.get(name) for name in expected} == expected
    assert ("lora_enable" in flags) == recipe.endswith("_lora.sh")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_variable_of_the_environment_reaches_its_flag(repository, recipe):
    table = {**FROM_ENVIRONMENT, **(LORA_ONLY if recipe.endswith("_lora.sh") else {})}
    flags = flags_of(command_of(dry_run(repository, recipe, **{name: value for name, (_, value) in table.items()})))
    assert {name: flags[name] for name, _ in table.values()} == dict(table.values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_trailing_arguments_win_over_the_environment(repository, recipe):
    flags = flags_of(command_of(dry_run(repository, recipe, "--learning_rate", "1", LEARNING_RATE="2")))
    assert flags["learning_rate"] == "1"


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_the_seeds_document_tells_people_to_edit_is_there_to_be_found(repository, recipe):
    text = (repository / recipe).read_text()
    assert '--report_to "none"' in text
    assert "--tune_mm_llm True" in text
    trainer = (repository / "qwen-vl-finetune/qwenvl/train/train_qwen.py").read_text()
    assert 'train(attn_implementation="auto")' in trainer.splitlines()[-1]


def test_several_processes_go_through_torchrun(repository):
    command = command_of(dry_run(repository, "train_physical_ai.sh", NPROC_PER_NODE="2"))
    assert command[1:3] == ["-m", "qwenvl.train.torchrun"]
    assert flags_of(command)["nproc_per_node"] == "2"
    assert "--standalone" in command


def test_deepspeed_goes_through_torchrun_even_with_one_process(repository):
    command = command_of(dry_run(repository, "train_physical_ai.sh", DEEPSPEED_CONFIG="my/zero2.json"))
    assert command[1:3] == ["-m", "qwenvl.train.torchrun"]
    assert flags_of(command)["nproc_per_node"] == "1"


def test_one_process_on_a_machine_of_two_gpus_goes_through_torchrun_too(repository):
    script = "source scripts/launch.sh; count_gpus() { echo 2; }; launch --seed 1"
    settings = {"PATH": os.environ["PATH"], "DRY_RUN": "command", "NPROC_PER_NODE": "1"}
    said = subprocess.run(
        ["bash", "-c", script], env=settings, cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert command_of(said)[1:3] == ["-m", "qwenvl.train.torchrun"]
    assert flags_of(command_of(said))["nproc_per_node"] == "1"


@pytest.mark.needs_torch
@pytest.mark.slow
def test_a_dry_run_plans_for_all_processes_of_all_machines(repository, tiny_model, tmp_path):
    turns = [{"from": "human", "value": "Stop?"}, {"from": "gpt", "value": "Yes."}]
    (tmp_path / "train.json").write_text(json.dumps([{"id": str(i), "conversations": turns} for i in range(24)]))
    where = {"MODEL_PATH": str(tiny_model), "DATASET": str(tmp_path / "train.json"), "CUDA_VISIBLE_DEVICES": ""}
    said = dry_run(repository, "train_physical_ai.sh", DRY_RUN="1", NNODES="2", NODE_RANK="1", MASTER_ADDR="x",
                   NPROC_PER_NODE="3", BATCH_SIZE="2", GRAD_ACCUM_STEPS="1", **where)  # fmt: skip
    assert "2 samples x 6 processes x 1 accumulation = 12 a step" in said
    assert "steps            6 (2 an epoch, 3 epochs)" in said


def refused(repository, script: str = f"./{RECIPES[0]}", **environment) -> str:
    """What is said on stderr by a launcher that refuses to start."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    done = subprocess.run(
        ["bash", "-c", script], env={**kept, "DRY_RUN": "command", **environment}, cwd=repository,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize(("name", "value"), [("NPROC_PER_NODE", "abc"), ("NPROC_PER_NODE", "0"), ("NNODES", "two")])
def test_a_count_that_is_none_is_refused_in_one_line(repository, name, value):
    said = refused(repository, **{name: value})
    assert said == f"error: {name}={value} is not a whole number of at least 1\n"


TWO_GPUS = "source scripts/launch.sh; has_driver() { true; }; count_gpus() { echo 2; }; launch --seed 1"
NO_GPUS = "source scripts/launch.sh; has_driver() { true; }; count_gpus() { echo 0; }; launch --seed 1"


def test_more_processes_than_gpus_are_refused(repository):
    assert refused(repository, TWO_GPUS, NPROC_PER_NODE="3") == (
        "error: NPROC_PER_NODE=3, but torch sees 2 GPU(s) here; NPROC_PER_NODE=2 uses all of them "
        "(CUDA_VISIBLE_DEVICES= trains on the CPU)\n"
    )


def test_gpus_that_torch_does_not_see_are_refused_instead_of_training_on_the_cpu(repository):
    assert refused(repository, NO_GPUS, CUDA_VISIBLE_DEVICES="7") == (
        "error: CUDA_VISIBLE_DEVICES=7, but torch sees no GPU with it; name GPUs that nvidia-smi lists "
        "(CUDA_VISIBLE_DEVICES= trains on the CPU)\n"
    )


@pytest.mark.parametrize("value", ["", "-1"])
def test_hiding_every_gpu_trains_on_the_cpu(repository, value):
    settings = {"PATH": os.environ["PATH"], "DRY_RUN": "command", "CUDA_VISIBLE_DEVICES": value}
    said = subprocess.run(
        ["bash", "-c", NO_GPUS], env=settings, cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert flags_of(command_of(said))["use_cpu"] == "True"


MACHINES = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"}


def test_several_machines_meet_at_the_address_of_the_first(repository):
    flags = flags_of(command_of(dry_run(repository, "train_physical_ai.sh", **MACHINES)))
    assert {name: flags[name] for name in ("nnodes", "node_rank", "master_addr", "master_port")} == {
        "nnodes": "2", "node_rank": "1", "master_addr": "10.0.0.1", "master_port": "1234",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NODE_RANK", "", "NNODES=2 needs NODE_RANK: 0 on the first machine, 1 on the second, ..."),
        ("NODE_RANK", "2", "NODE_RANK=2 is none of 0 to 1, the machines of NNODES=2"),
        ("NODE_RANK", "first", "NODE_RANK=first is none of 0 to 1, the machines of NNODES=2"),
        ("MASTER_ADDR", "", "NNODES=2 needs MASTER_ADDR: name or address of the first machine, the same everywhere"),
        ("MASTER_PORT", "70000", "MASTER_PORT=70000 is no port; take one from 1024 to 65535, the same everywhere"),
        ("MASTER_PORT", "http", "MASTER_PORT=http is no port; take one from 1024 to 65535, the same everywhere"),
    ],
)
def test_a_machine_without_its_place_is_refused_in_one_line(repository, name, value, said):
    assert refused(repository, **{**MACHINES, name: value}) == f"error: {said}\n"


def test_an_explicit_deepspeed_config_is_always_used(repository):
    flags = flags_of(command_of(dry_run(repository, "train_physical_ai.sh", DEEPSPEED_CONFIG="my/zero2.json")))
    assert flags["deepspeed"] == "my/zero2.json"


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="says what is done without a GPU")
def test_without_a_gpu_full_fine_tuning_says_that_it_leaves_deepspeed_out(repository):
    output = dry_run(repository, "train_physical_ai.sh")
    assert "no GPU here: training in plain data parallel instead of qwen-vl-finetune/scripts/zero3.json" in output
    assert "deepspeed" not in flags_of(command_of(output))
    assert flags_of(command_of(output))["use_cpu"] == "True"


@pytest.mark.needs_torch
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_command_parses_into_a_plan(repository, recipe):
    pytest.importorskip("torch")
    from qwenvl.train.argument import parse_plan

    command = command_of(dry_run(repository, recipe))
    plan = parse_plan(command[command.index("qwenvl.train.train_qwen") + 1 :])
    assert plan.model.lora_enable == recipe.endswith("_lora.sh")
    assert plan.run.num_train_epochs == float(DEFAULTS[recipe]["num_train_epochs"])
