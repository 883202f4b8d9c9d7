"""A run of train() in a new folder: its first loss, rows and numbers that it cannot use, and what a dry run says."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")
import transformers  # noqa: E402
from judging import measure_plain_loss  # noqa: E402
from tiny_runs import list_flags, read_losses  # noqa: E402

from driving.errors import DrivingError, LedgerError, RecordError  # noqa: E402
from driving.ledger import read_ledger  # noqa: E402
from qwenvl.train.train_qwen import run, train  # noqa: E402

pytestmark = pytest.mark.needs_torch

LORA = ("--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1")


def test_the_groups_of_the_base_model_stay_with_what_is_trained_from_it(tiny_model, training_json, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "training_groups.json").write_text('["clip02", "earlier"]')
    assert run(list_flags(base, training_json, tmp_path / "run", "--max_steps", "1", *LORA)) == 0
    groups = json.loads((tmp_path / "run/training_groups.json").read_text())
    assert groups == ["clip00", "clip01", "clip02", "clip03", "clip04", "earlier"]


@pytest.mark.parametrize("flags", [(), ("--data_flatten", "True"), LORA], ids=["padded", "flat", "lora"])
def test_the_loss_of_the_first_step_is_that_of_plain_transformers(tiny_model, training_json, tmp_path, flags):
    """All ten rows, in two micro-batches that hold different numbers of supervised tokens."""
    one_step = ("--per_device_train_batch_size", "6", "--gradient_accumulation_steps", "2", "--max_steps", "1")
    pixels = ("--video_fps", "30", "--lora_dropout", "0") if flags == LORA else ("--video_fps", "30")
    assert run(list_flags(tiny_model, training_json, tmp_path / "run", *one_step, *flags, *pixels)) == 0
    ((step, loss),) = read_losses(tmp_path / "run")
    assert (step, loss) == (1, pytest.approx(measure_plain_loss(tiny_model, training_json), rel=1e-5))


@pytest.fixture
def breakable(training_json, tmp_path):
    """A copy of the training folder that a test may damage."""
    shutil.copytree(training_json.parent, tmp_path / "data")
    return tmp_path / "data" / "train.json"


def test_a_missing_and_a_broken_video_are_in_the_ledger_and_the_run_goes_on(tiny_model, breakable, tmp_path):
    (breakable.parent / "videos/03.mp4").unlink()
    broken = breakable.parent / "videos/06.mp4"
    broken.write_bytes(broken.read_bytes()[:200])
    assert run(list_flags(tiny_model, breakable, tmp_path / "run", "--num_train_epochs", "1")) == 0
    skips = {skip.id: skip for skip in read_ledger(tmp_path / "run/skipped.jsonl")}
    assert sorted(skips) == ["clip03_seg_00", "clip06_seg_00"]
    assert "03.mp4 is not there" in skips["clip03_seg_00"].reason
    assert "06.mp4" in skips["clip06_seg_00"].reason


def test_too_many_bad_samples_stop_the_run(tiny_model, breakable, tmp_path):
    for index in range(4):
        (breakable.parent / f"videos/0{index}.mp4").unlink()
    with pytest.raises(LedgerError, match="4 of 10 samples are bad"):
        run(list_flags(tiny_model, breakable, tmp_path / "run"))


def test_bad_rows_at_the_beginning_are_passed_where_as_many_may_be_bad(tiny_model, breakable, tmp_path):
    for index in range(6):
        broken = breakable.parent / f"videos/0{index}.mp4"
        broken.write_bytes(broken.read_bytes()[:200])
    flags = ("--max_bad_fraction", "0.6", "--num_train_epochs", "1")
    assert run(list_flags(tiny_model, breakable, tmp_path / "run", *flags)) == 0
    assert len(read_ledger(tmp_path / "run/skipped.jsonl")) == 6
    with pytest.raises(
        DrivingError, match=r"none of the first 4 rows can be used; the last: clip03_seg_00: (?!clip03_seg_00)"
    ):
        run(list_flags(tiny_model, breakable, tmp_path / "strict"))


def test_a_wrong_count_of_video_marks_is_in_the_ledger(tiny_model, breakable, tmp_path):
    rows = json.loads(breakable.read_text())
    rows[2]["conversations"][1]["value"] = "<video>\n<video>\nWhere?"
    breakable.write_text(json.dumps(rows))
    assert run(list_flags(tiny_model, breakable, tmp_path / "run", "--max_steps", "1")) == 0
    (skip,) = read_ledger(tmp_path / "run/skipped.jsonl")
    assert skip.id == "clip02_seg_00"
    assert "2 <video> in the questions, 1 video paths" in skip.reason


def test_a_sample_that_is_too_long_is_in_the_ledger_and_never_cut(tiny_model, breakable, tmp_path):
    rows = json.loads(breakable.read_text())
    rows[4]["conversations"][2]["value"] = "(1.0, 0.1)" * 40
    breakable.write_text(json.dumps(rows))
    flags = ("--num_train_epochs", "1", "--model_max_length", "300")
    assert run(list_flags(tiny_model, breakable, tmp_path / "run", *flags)) == 0
    (skip,) = read_ledger(tmp_path / "run/skipped.jsonl")
    assert skip.id == "clip04_seg_00"
    assert "do not fit --model_max_length 300" in skip.reason


def test_a_train_json_that_is_no_json_is_named(tiny_model, breakable, tmp_path):
    breakable.write_text('[{"video": ')
    with pytest.raises(RecordError, match="train.json is not JSON"):
        run(list_flags(tiny_model, breakable, tmp_path / "run"))


def test_a_loss_that_is_not_finite_stops_the_run_with_the_sample_ids(tiny_model, training_json, tmp_path):
    poisoned = tmp_path / "model"
    shutil.copytree(tiny_model, poisoned)
    from safetensors.torch import load_file, save_file

    weights = load_file(poisoned / "model.safetensors")
    weights["model.language_model.norm.weight"].fill_(float("nan"))
    save_file(weights, poisoned / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DrivingError, match=r"the loss is nan at step 1 on the samples clip\d\d_seg_00, clip"):
        run(list_flags(poisoned, training_json, tmp_path / "run"))


def test_weights_that_are_no_numbers_are_never_saved(tiny_model, training_json, tmp_path):
    class BreakWeights(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 2:  # as a gradient that overflowed does, behind a loss that is finite
                model.model.language_model.norm.weight.data[0] = float("inf")

    flags = list_flags(tiny_model, training_json, tmp_path / "run", "--max_steps", "2", "--save_steps", "1")
    with pytest.raises(DrivingError, match=r"norm.weight holds values that are no numbers after step 2; lower"):
        run(flags, callbacks=[BreakWeights()])
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]
    assert not list((tmp_path / "run").glob("*.safetensors"))


class PoisonGradients(transformers.TrainerCallback):
    """Makes a gradient NaN under a loss that is a number, as an overflow in the backward pass does."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.model.language_model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))


def test_a_gradient_that_is_not_finite_stops_the_run_before_its_weights_are_saved(tiny_model, training_json, tmp_path):
    command = list_flags(tiny_model, training_json, tmp_path / "run", "--save_steps", "1", "--max_steps", "1")
    with pytest.raises(DrivingError, match=r"the gradient is nan at step 1 on the samples clip\d\d_seg_\d\d, clip"):
        run(command, callbacks=[PoisonGradients()])
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_dry_run_prints_the_plan_and_writes_nothing(tiny_model, training_json, tmp_path, capsys):
    assert run(list_flags(tiny_model, training_json, tmp_path / "run", "--dry_run", "True")) == 0
    said = capsys.readouterr().out
    assert "10 frames of 64x96 px" in said
    assert "2 samples x 1 processes x 1 accumulation = 2 a step" in said
    assert "[[[(0.0, -0.0000)]<|im_end|>]]" in said
    assert not (tmp_path / "run").exists()


def test_a_dry_run_plans_for_the_processes_of_the_real_run(tiny_model, training_json, tmp_path, capsys):
    flags = ("--dry_run", "True", "--dry_run_processes", "3", "--num_train_epochs", "4")
    assert run(list_flags(tiny_model, training_json, tmp_path / "run", *flags)) == 0
    said = capsys.readouterr().out
    assert "2 samples x 3 processes x 1 accumulation = 6 a step" in said
    assert "steps            8 (2 an epoch, 4 epochs)" in said  # 10 rows, 6 a step


def test_train_turns_a_users_mistake_into_one_line_and_exit_code_1(tmp_path, capsys):
    argv = ["--model_name_or_path", str(tmp_path), "--dataset_use", "no_such_dataset", "--use_cpu", "True"]
    assert train(argv=argv) == 1
    assert "error: dataset 'no_such_dataset' is not registered" in capsys.readouterr().err
