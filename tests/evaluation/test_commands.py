"""The commands behind an evaluation, collected from the papers that each stage left."""

from __future__ import annotations

import json

from evaluation.checkpoint import Checkpoint, read_checkpoint
from evaluation.evaluate import EvaluateOptions
from evaluation.lineage import collect_commands


def write_plan(folder, **plan):
    folder.mkdir(parents=True)
    (folder / "train_plan.json").write_text(json.dumps(plan))


def test_a_model_trained_on_top_of_another_names_both_runs(tmp_path):
    write_plan(tmp_path / "full", command="train in full", model="Qwen/Qwen3-VL-4B-Instruct")
    write_plan(tmp_path / "lora", command="train an adapter", model=str(tmp_path / "full"))
    (tmp_path / "lora" / "checkpoint-20").mkdir()
    checkpoint = read_checkpoint(str(tmp_path / "lora" / "checkpoint-20"))
    assert collect_commands(checkpoint, EvaluateOptions())["model"] == ["train in full", "train an adapter"]


def test_a_model_that_names_itself_as_its_base_is_followed_only_so_far(tmp_path):
    write_plan(tmp_path / "a", command="again", model=str(tmp_path / "a"))
    assert set(collect_commands(read_checkpoint(str(tmp_path / "a")), EvaluateOptions())["model"]) == {"again"}


def test_the_data_folder_says_how_it_was_made(tmp_path):
    (tmp_path / "commands.json").write_text('["cut", "split"]')
    options = EvaluateOptions(test_data=tmp_path / "test.json")
    assert collect_commands(Checkpoint("m", "", None, None), options)["data"] == ["cut", "split"]


def test_the_evaluation_is_named_without_what_only_says_how_to_run_it():
    options = EvaluateOptions(model="a b", rescore=True, overwrite_output=True, batch_size=4)
    commands = collect_commands(Checkpoint("m", "", None, None), options)
    assert commands["evaluation"] == ["uv run python scripts/evaluate.py --model 'a b' --batch-size 4"]
    assert commands["model"] == []
