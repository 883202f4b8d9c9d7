"""Evaluation inside training on a tiny model: what it measures, what it chooses, and that it leaves no trace."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from judging import ask_plainly, list_answers, measure_plain_loss, read_evaluations  # noqa: E402
from tiny_runs import KillAt, Killed, assert_same_weights, list_flags  # noqa: E402

from driving.errors import DrivingError, LedgerError  # noqa: E402
from qwenvl.data.collate import collate  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch

FULL = ("--tune_mm_vision", "True")
LORA = ("--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1")
STEPS = ("--max_steps", "4", "--save_steps", "2", "--eval_strategy", "steps", "--eval_steps", "2")
FORMAT = {"num_pairs": 2, "fps": 10.0}


@pytest.fixture(scope="module")
def data(training_json, tmp_path_factory) -> Path:
    """train.json of 6 rows and val.json of 4 rows from two other recordings."""
    folder = tmp_path_factory.mktemp("split") / "data"
    shutil.copytree(training_json.parent, folder)
    rows = json.loads((folder / "train.json").read_text())
    (folder / "train.json").write_text(json.dumps(rows[:6]))
    (folder / "val.json").write_text(json.dumps(rows[6:]))
    return folder


def arguments(tiny_model, data, output_dir, *extra: str) -> list[str]:
    return list_flags(tiny_model, data / "train.json", output_dir, *extra)


def lines_of(folder, name="training_log.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluated(tiny_model, data, tmp_path_factory) -> Path:
    """The folder of a run of 4 steps that is evaluated after steps 2 and 4, with gradient checkpointing on."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    flags = (*LORA, *STEPS, "--gradient_checkpointing", "True", "--per_device_eval_batch_size", "3")
    assert run(arguments(tiny_model, data, folder, *flags)) == 0
    return folder


def test_evaluation_changes_no_bit_of_the_training(evaluated, tiny_model, data, tmp_path):
    flags = (*LORA, "--max_steps", "4", "--save_steps", "2", "--gradient_checkpointing", "True")
    assert run(arguments(tiny_model, data, tmp_path / "plain", *flags)) == 0
    assert_same_weights(tmp_path / "plain", evaluated)
    losses = [line["loss"] for line in lines_of(evaluated) if "loss" in line]
    assert losses == [line["loss"] for line in lines_of(tmp_path / "plain")]


def test_every_evaluation_is_a_line_of_the_learning_curve(evaluated):
    lines = [line for line in lines_of(evaluated) if "eval_loss" in line]
    assert [line["step"] for line in lines] == [2, 4]
    assert {"eval_rows": 4, "eval_answers": 4}.items() <= lines[0].items()
    assert lines[0]["eval_loss"] == read_evaluations(evaluated)[2]["metrics"]["eval_loss"]


def test_the_loss_is_that_of_plain_transformers_over_all_supervised_tokens(evaluated, data):
    expected = measure_plain_loss(evaluated, data / "val.json")
    assert read_evaluations(evaluated)[4]["metrics"]["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_answers_are_those_of_evaluation_after_training(evaluated, data):
    assert list_answers(read_evaluations(evaluated)[4]) == ask_plainly(evaluated, data / "val.json")


def test_fewer_samples_are_a_seeded_choice_and_none_answers_nothing(tiny_model, data, tmp_path):
    flags = (*STEPS, "--max_steps", "1", "--eval_steps", "1", "--eval_samples")
    assert run(arguments(tiny_model, data, tmp_path / "two", *flags, "2")) == 0
    answered = [answer["id"] for answer in read_evaluations(tmp_path / "two")[1]["answers"]]
    assert len({name[:6] for name in answered}) == 2  # one of each recording
    assert run(arguments(tiny_model, data, tmp_path / "none", *flags, "0")) == 0
    metrics = read_evaluations(tmp_path / "none")[1]["metrics"]
    assert (metrics["eval_answers"], metrics["eval_rows"]) == (0, 4) and "eval_exact_match" not in metrics


# The best checkpoint

BEST = (*FULL, *STEPS, "--max_steps", "6", "--eval_steps", "1", "--save_total_limit", "1")
BEST = (*BEST, "--load_best_model_at_end", "True", "--learning_rate", "0.1", "--lr_scheduler_type", "constant")


@pytest.fixture(scope="module")
def chosen(tiny_model, data, tmp_path_factory) -> Path:
    """The folder of a run of 6 steps that is evaluated after each and keeps its best."""
    folder = tmp_path_factory.mktemp("chosen") / "run"
    assert run(arguments(tiny_model, data, folder, *BEST)) == 0
    return folder


def lowest(folder) -> int:
    losses = {step: line["metrics"]["eval_loss"] for step, line in read_evaluations(folder).items()}
    return min(losses, key=losses.get)


def test_the_result_is_the_checkpoint_with_the_lowest_loss_which_is_kept(chosen):
    best = json.loads((chosen / "best.json").read_text())
    assert best["step"] == lowest(chosen)
    assert best["value"] == read_evaluations(chosen)[best["step"]]["metrics"]["eval_loss"]
    assert best["step"] < 6, "the test shows nothing where the last one is the best"
    assert_same_weights(chosen, chosen / best["checkpoint"])
    assert {path.name for path in chosen.glob("checkpoint-*")} == {best["checkpoint"], "checkpoint-6"}


def test_a_killed_run_chooses_the_same(chosen, tiny_model, data, tmp_path, capsys):
    command = arguments(tiny_model, data, tmp_path / "run", *BEST)
    for step in (lowest(chosen) + 1, 6):
        with pytest.raises(Killed):
            run(command, callbacks=[KillAt(step)])
    assert run(command) == 0
    assert "continuing from" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/best.json").read_text())["step"] == lowest(chosen)
    assert_same_weights(tmp_path / "run", chosen)
    assert [line["step"] for line in lines_of(tmp_path / "run", "eval_log.jsonl")] == [1, 2, 3, 4, 5, 6]


class AskToStop(transformers.TrainerCallback):
    """SIGTERM after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_who_asks_to_stop_does_not_wait_for_an_evaluation_the_next_start_makes_it(chosen, tiny_model, data, tmp_path):
    command = arguments(tiny_model, data, tmp_path / "run", *BEST)
    assert run(command, callbacks=[AskToStop(2)]) == 128 + signal.SIGTERM
    assert [line["step"] for line in lines_of(tmp_path / "run", "eval_log.jsonl")] == [1]
    assert run(command) == 0
    assert sorted(read_evaluations(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]
    assert json.loads((tmp_path / "run/best.json").read_text())["step"] == lowest(chosen)
    assert_same_weights(tmp_path / "run", chosen)


def test_an_epoch_of_which_the_evaluation_was_lost_is_evaluated_at_the_next_start(tiny_model, data, tmp_path):
    flags = (*FULL, "--num_train_epochs", "2", "--save_steps", "3", "--eval_strategy", "epoch")  # three steps an epoch
    command = arguments(tiny_model, data, tmp_path / "run", *flags)

    class KillBetween(transformers.TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            raise Killed

    with pytest.raises(Killed):
        run(command, callbacks=[KillBetween()])
    assert not (tmp_path / "run/eval_log.jsonl").exists()
    assert run(command) == 0
    assert sorted(read_evaluations(tmp_path / "run")) == [3, 6]


def test_sixteen_bit_weights_under_full_mergers_are_evaluated_in_the_precision_of_the_run(tiny_model, data, processor):
    """With LoRA the mergers learn in fp32; without autocast the frozen layers behind them refuse what they give."""
    from qwenvl.data.dataset import DrivingDataset
    from qwenvl.data.preprocessing import Preprocessing
    from qwenvl.train import loading
    from qwenvl.train.argument import ModelArguments
    from qwenvl.train.fast_vision import speed_up_vision
    from qwenvl.train.forward import use_driving_forward
    from qwenvl.train.tuning import apply_tuning
    from qwenvl.train.validation import Validator
    from qwenvl.train.validation_set import ValidationSet

    records = json.loads((data / "val.json").read_text())
    rows, prompts = (
        DrivingDataset(records, [[data]] * 4, processor, Preprocessing(video_fps=10), 999, with_answer=with_answer)
        for with_answer in (True, False)
    )
    held_out = ValidationSet(rows, prompts, ["x"] * 4, [None] * 4, 3, "identity", [], 0, 2)
    args = types.SimpleNamespace(
        per_device_eval_batch_size=2, seed=1, process_index=0, world_size=1, dataloader_num_workers=0,
        disable_tqdm=True, device=torch.device("cpu"),
    )  # fmt: skip
    model = loading.load_model(tiny_model, attention="sdpa", dtype=torch.bfloat16)
    speed_up_vision(model)
    use_driving_forward(model)
    model = apply_tuning(model, ModelArguments(model_name_or_path="m", lora_enable=True, lora_r=4))
    collate_rows = functools.partial(collate, pad_token_id=0)
    autocast = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    found = Validator(held_out, args, collate_rows, torch.bfloat16, autocast).evaluate(model)
    assert found.metrics["eval_rows"] == found.metrics["eval_answers"] == 4
    with pytest.raises(RuntimeError, match="same dtype"):
        Validator(held_out, args, collate_rows, torch.bfloat16, contextlib.nullcontext).evaluate(model)


def test_a_run_killed_after_its_last_checkpoint_takes_the_best_as_its_result(
    chosen, tiny_model, data, tmp_path, capsys
):
    copy = tmp_path / "copy"
    shutil.copytree(chosen, copy)
    for name in ("manifest.json", "model.safetensors"):
        (copy / name).unlink()
    assert run(arguments(tiny_model, data, copy, *BEST)) == 0
    said = capsys.readouterr().out
    assert f"already stands at the last step; the best one's, checkpoint-{lowest(chosen)}'s, weights are" in said
    assert_same_weights(copy, chosen)


@pytest.fixture
def with_format(data, tmp_path) -> Path:
    """The same rows as a dataset whose answers have a format: two pairs."""
    from driving.answer_format import AnswerFormat

    shutil.copytree(data, tmp_path / "formatted")
    facts = {"answer_format": AnswerFormat(**FORMAT).to_json()}
    (tmp_path / "formatted" / "dataset.json").write_text(json.dumps(facts))
    return tmp_path / "formatted"


def test_weights_that_do_not_keep_to_the_format_are_never_the_best(tiny_model, with_format, tmp_path, capsys):
    assert run(arguments(tiny_model, with_format, tmp_path / "run", *BEST, "--max_steps", "2")) == 0
    said = capsys.readouterr().out
    assert "cannot be the best checkpoint: 0.0% of the answers can be read strictly, 99% is the least" in said
    assert "no checkpoint can be called the best; the result is the last" in said
    assert not (tmp_path / "run/best.json").exists()
    assert_same_weights(tmp_path / "run", tmp_path / "run/checkpoint-2")
    assert read_evaluations(tmp_path / "run")[2]["metrics"]["eval_strict_rate"] == 0.0


def test_another_metric_chooses_and_one_that_the_rows_cannot_give_is_refused(tiny_model, data, tmp_path):
    flags = (*BEST, "--max_steps", "2", "--metric_for_best_model")
    assert run(arguments(tiny_model, data, tmp_path / "run", *flags, "exact_match")) == 0
    assert json.loads((tmp_path / "run/best.json").read_text())["metric"] == "eval_exact_match"
    message = "--metric_for_best_model eval_ade cannot be taken on .*val.json; there are eval_loss, eval_exact_match"
    with pytest.raises(DrivingError, match=message):
        run(arguments(tiny_model, data, tmp_path / "other", *flags, "eval_ade"))


# What is said


def test_a_line_of_numbers_and_two_answers_are_shown(tiny_model, with_format, tmp_path, capsys):
    flags = (*STEPS, "--max_steps", "1", "--eval_steps", "1")
    assert run(arguments(tiny_model, with_format, tmp_path / "run", *flags)) == 0
    said = capsys.readouterr().out
    assert "evaluation       every 1 steps: loss of 4 rows, 4 answers of at most " in said
    assert "evaluation at step 1: loss " in said and " over 4 rows; 4 answers: 0.0% strict, 0.0% lenient (" in said
    assert said.count("    true  [(") == said.count("    said  ") == 2


def test_one_answer_for_every_row_is_shouted_about(tiny_model, data, tmp_path, capsys, monkeypatch):
    from qwenvl.train import validation
    from qwenvl.train.generation import Generated

    monkeypatch.setattr(
        validation,
        "generate_answers",
        lambda model, processor, samples, **rest: [Generated("x", 1, False, 1)] * len(samples),
    )
    flags = (*STEPS, "--max_steps", "1", "--eval_steps", "1")
    assert run(arguments(tiny_model, data, tmp_path / "run", *flags)) == 0
    assert "WARNING at step 1, collapse: 1 different text in 4 answers, 4 in the labels" in capsys.readouterr().out
    assert lines_of(tmp_path / "run")[-1]["eval_collapse"] == 1.0


# Rows


def test_without_a_val_json_the_run_says_so_before_it_starts(tiny_model, training_json, tmp_path):
    with pytest.raises(
        DrivingError, match="there is no .*val.json to evaluate on beside train.json; .*--eval_dataset_use"
    ):
        run(arguments(tiny_model, training_json.parent, tmp_path / "run", *STEPS))


def test_test_rows_are_refused(tiny_model, data, tmp_path):
    shutil.copy(data / "val.json", tmp_path / "test.json")
    with pytest.raises(DrivingError, match="test.json is called test: what is chosen while training must not see test"):
        run(arguments(tiny_model, data, tmp_path / "run", *STEPS, "--eval_dataset_use", str(tmp_path / "test.json")))


def test_recordings_that_are_also_trained_on_are_warned_about(tiny_model, data, tmp_path, capsys):
    flags = (*STEPS, "--eval_dataset_use", str(data / "train.json"), "--dry_run", "True")
    assert run(arguments(tiny_model, data, tmp_path / "run", *flags)) == 0
    assert "WARNING          3 of 3 recordings evaluated on are also trained on" in capsys.readouterr().out


def test_rows_in_another_format_are_refused(tiny_model, with_format, data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(with_format, other)
    (other / "dataset.json").write_text((other / "dataset.json").read_text().replace('"signed"', '"signed2"'))
    with pytest.raises(DrivingError, match="val.json asks for answers as .*signed2.*, the training rows as"):
        run(arguments(tiny_model, with_format, tmp_path / "run", *STEPS, "--eval_dataset_use", str(other / "val.json")))


def test_rows_of_the_other_track_are_refused(tiny_model, with_format, tmp_path):
    from driving.answer_format import AnswerFormat
    from driving.ego_history import format_history
    from driving.trajectory import Trajectory

    other = tmp_path / "other"
    shutil.copytree(with_format, other)
    told = AnswerFormat(**FORMAT, history_pairs=FORMAT["num_pairs"])
    (other / "dataset.json").write_text(json.dumps({"answer_format": told.to_json()}))
    line = format_history(told, Trajectory.from_pairs([[8.0, 0.01]] * FORMAT["num_pairs"]))
    rows = (other / "val.json").read_text().replace("<video>\\n", "<video>\\n" + line.replace("\n", "\\n"))
    (other / "val.json").write_text(rows)
    flags = ("--eval_dataset_use", str(other / "val.json"))
    with pytest.raises(DrivingError, match="val.json tells the ego motion .*, training does not: these are two tracks"):
        run(arguments(tiny_model, with_format, tmp_path / "run", *STEPS, *flags))


def test_a_row_that_cannot_be_decoded_is_skipped_and_counted_beside_the_numbers(tiny_model, data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    broken = tmp_path / "data/videos/07.mp4"
    broken.write_bytes(broken.read_bytes()[:200])
    flags = (*STEPS, "--max_steps", "1", "--eval_steps", "1")
    assert run(arguments(tiny_model, tmp_path / "data", tmp_path / "run", *flags)) == 0
    line = read_evaluations(tmp_path / "run")[1]
    assert (line["metrics"]["eval_rows"], line["metrics"]["eval_answers"]) == (3, 3)
    assert [skip["id"] for skip in line["skips"]] == ["clip07_seg_00"]
    assert "; 1 rows skipped (" in capsys.readouterr().out
    assert (tmp_path / "run/skipped.jsonl").read_text() == ""


def test_rows_of_which_none_can_be_decoded_stop_the_run(tiny_model, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for index in range(6, 10):
        broken = tmp_path / f"data/videos/0{index}.mp4"
        broken.write_bytes(broken.read_bytes()[:200])
    flags = (*STEPS, "--max_steps", "1", "--eval_steps", "1")
    with pytest.raises((DrivingError, LedgerError), match="none of 4 rows can be evaluated: .*mp4"):
        run(arguments(tiny_model, tmp_path / "data", tmp_path / "run", *flags))


def test_a_batch_that_does_not_fit_into_memory_names_its_flag(tiny_model, data, tmp_path, monkeypatch):
    from qwenvl.train import validation

    def run_out(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(validation, "generate_answers", run_out)
    flags = (*STEPS, "--max_steps", "1", "--eval_steps", "1", "--per_device_eval_batch_size", "3")
    with pytest.raises(
        DrivingError, match="evaluating 3 rows at once .* cpu; use a smaller --per_device_eval_batch_size"
    ):
        run(arguments(tiny_model, data, tmp_path / "run", *flags))


def test_workers_and_a_prepared_cache_give_the_same_evaluation(evaluated, tiny_model, data, tmp_path):
    from qwenvl.prepare_cache import main

    uses = f"{data / 'train.json'},{data / 'val.json'}"
    prepare = ["--model_name_or_path", str(tiny_model), "--dataset_use", uses, "--output_dir", str(tmp_path / "cache")]
    assert main([*prepare, "--video_fps", "10", "--workers", "1"]) == 0
    flags = (*LORA, *STEPS, "--gradient_checkpointing", "True", "--per_device_eval_batch_size", "3")
    flags = (*flags, "--prepared_dir", str(tmp_path / "cache"), "--dataloader_num_workers", "2")
    assert run(arguments(tiny_model, data, tmp_path / "run", *flags)) == 0
    expected, found = (read_evaluations(folder) for folder in (evaluated, tmp_path / "run"))
    for step in (2, 4):
        assert found[step]["metrics"]["eval_loss"] == pytest.approx(expected[step]["metrics"]["eval_loss"], rel=1e-6)
        assert list_answers(found[step]) == list_answers(expected[step])
