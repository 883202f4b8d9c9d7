"""A finished run vouches for its files: one that lost them is not finished any more."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")
import transformers  # noqa: E402
from tiny_runs import list_flags  # noqa: E402

from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch


def arguments(tiny_model, training_json, output_dir, *extra: str) -> list[str]:
    flags = ("--lora_enable", "True", "--lora_r", "4", "--max_steps", "2")
    return list_flags(tiny_model, training_json, output_dir, *flags, *extra)


@pytest.fixture(scope="module")
def finished(tiny_model, training_json, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run(arguments(tiny_model, training_json, folder)) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_the_manifest_lists_what_loading_the_result_needs(finished):
    files = json.loads((finished / "manifest.json").read_text())["files"]
    for name in ("adapter_model.safetensors", "adapter_config.json", "preprocessing.json", "tokenizer.json"):
        assert files[name] == (finished / name).stat().st_size
    assert not {"plan.json", "train_plan.json", "training_log.jsonl", "skipped.jsonl"} & files.keys()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "preprocessing.json"])
def test_a_file_that_is_gone_is_taken_from_the_last_checkpoint(name, copied, tiny_model, training_json, capsys):
    before = (copied / name).read_bytes()
    (copied / name).unlink()
    command = arguments(tiny_model, training_json, copied)
    assert run(command) == 0
    said = capsys.readouterr().out
    assert f"{copied} was complete, but {name} is missing or of another size; made again" in said
    assert "checkpoint-2 already stands at the last step; its weights are the result" in said
    assert (copied / name).read_bytes() == before
    assert run(command) == 0
    assert "is already finished (2 steps); nothing to do" in capsys.readouterr().out


def test_a_finished_run_that_is_given_more_steps_is_not_finished_until_it_has_taken_them(
    copied, tiny_model, training_json
):
    class Look(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen.append((copied / "manifest.json").exists())

    seen: list[bool] = []
    assert run(arguments(tiny_model, training_json, copied, "--max_steps", "3"), callbacks=[Look()]) == 0
    assert seen == [False]
    assert json.loads((copied / "manifest.json").read_text())["summary"]["total_steps"] == 3
