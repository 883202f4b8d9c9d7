"""The command of a training run, as train_plan.json keeps it."""

from __future__ import annotations

import shlex

from qwenvl.train.command import format_train_command


def test_a_run_of_one_process_is_started_by_its_module():
    command = format_train_command(["--run_name", "it's a run", "--bf16"], {})
    assert shlex.split(command) == [
        "uv", "run", "python", "-m", "qwenvl.train.train_qwen", "--run_name", "it's a run", "--bf16",
    ]  # fmt: skip


def test_several_ranks_are_started_by_torchrun():
    world = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
    assert format_train_command(["--seed", "1"], world) == (
        "uv run python -m qwenvl.train.torchrun --nproc_per_node 4 --nnodes 2 -m qwenvl.train.train_qwen --seed 1"
    )


def test_the_value_of_a_token_is_not_kept():
    command = format_train_command(["--hub_token", "hf_secret", "--push_to_hub_token=hf_other", "--seed", "1"], {})
    assert "secret" not in command
    assert "other" not in command
    assert command.endswith("--hub_token HIDDEN --push_to_hub_token=HIDDEN --seed 1")


def test_a_flag_after_a_token_without_value_stays():
    assert format_train_command(["--hub_token", "--seed", "1"], {}).endswith("--hub_token --seed 1")
