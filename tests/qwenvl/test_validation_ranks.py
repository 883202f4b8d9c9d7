"""Evaluation inside training on two ranks: rows split, answers gathered, and no rank waits for ever under ZeRO-3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")
from forked_ranks import train_with  # noqa: E402
from judging import ask_plainly, list_answers, measure_plain_loss, read_evaluations  # noqa: E402
from tiny_runs import assert_same_weights, list_flags  # noqa: E402

pytestmark = [pytest.mark.needs_torch, pytest.mark.slow]

LORA = ("--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1", "--gradient_checkpointing", "True")
ZERO_3 = ("--tune_mm_vision", "True", "--deepspeed", "qwen-vl-finetune/scripts/zero3.json")
LORA_ZERO_3 = (*LORA, "--deepspeed", "qwen-vl-finetune/scripts/zero3.json")
EVALUATED = ("--eval_strategy", "steps", "--eval_steps", "2", "--per_device_eval_batch_size", "1")


@pytest.fixture(scope="module")
def data(training_json, tmp_path_factory) -> Path:
    """train.json of 6 rows; val.json of 5 rows, one a text and one an image: one rank has no row in the last batch."""
    folder = tmp_path_factory.mktemp("split") / "data"
    shutil.copytree(training_json.parent, folder)
    rows = json.loads((folder / "train.json").read_text())
    (folder / "train.json").write_text(json.dumps(rows[:6]))
    turns = [{"from": "human", "value": "May one turn right on red?"}, {"from": "gpt", "value": "Not here, no."}]
    text = {"id": "text", "group": "text", "conversations": turns}
    Image.new("RGB", (96, 64), (90, 120, 30)).save(folder / "a.png")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A road"}]
    still = {"id": "still", "group": "still", "image": "a.png", "conversations": turns}
    (folder / "val.json").write_text(json.dumps([rows[7], text, rows[8], still, rows[9]]))
    return folder


def arguments(tiny_model, data, output_dir, *extra: str) -> list[str]:
    flags = ("--per_device_train_batch_size", "1", "--dataloader_num_workers", "1")
    flags = (*flags, "--max_steps", "4", "--save_steps", "2")
    return list_flags(tiny_model, data / "train.json", output_dir, *flags, *extra)


@pytest.mark.parametrize("flags", [LORA, ZERO_3, LORA_ZERO_3], ids=["lora", "zero-3", "lora-zero-3"])
def test_two_ranks_measure_what_one_measures_on_their_result(
    flags, repository, tiny_model, data, tmp_path, monkeypatch
):
    monkeypatch.chdir(repository)
    folder = train_with(arguments(tiny_model, data, tmp_path / "run", *flags, *EVALUATED))
    line = read_evaluations(folder)[4]
    assert (line["metrics"]["eval_rows"], line["metrics"]["eval_answers"]) == (5, 5)
    assert line["metrics"]["eval_loss"] == pytest.approx(measure_plain_loss(folder, data / "val.json"), rel=1e-4)
    assert list_answers(line) == ask_plainly(folder, data / "val.json")


def test_two_ranks_end_in_the_same_bits_with_and_without_evaluation(tiny_model, data, tmp_path):
    evaluated, plain = (
        train_with(arguments(tiny_model, data, tmp_path / name, *LORA, *flags))
        for name, flags in (("evaluated", EVALUATED), ("plain", ()))
    )
    assert_same_weights(evaluated, plain)


@pytest.mark.parametrize("flags", [(), ZERO_3[2:]], ids=["data-parallel", "zero-3"])
def test_two_ranks_keep_the_best_and_make_it_the_result(flags, repository, tiny_model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    best = ("--load_best_model_at_end", "True", "--learning_rate", "0.3", "--lr_scheduler_type", "constant")
    flags = (*flags, *EVALUATED, "--eval_steps", "1", *best, "--save_total_limit", "1", "--eval_samples", "1")
    folder = train_with(arguments(tiny_model, data, tmp_path / "run", *flags))
    losses = {step: line["metrics"]["eval_loss"] for step, line in read_evaluations(folder).items()}
    facts = json.loads((folder / "best.json").read_text())
    assert facts["step"] == min(losses, key=losses.get) < 4
    assert_same_weights(folder, folder / facts["checkpoint"])
    assert {path.name for path in folder.glob("checkpoint-*")} == {facts["checkpoint"], "checkpoint-4"}
