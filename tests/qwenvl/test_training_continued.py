"""A run of train() that is killed, finished or changed and started again: the same bits, what it leaves and refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from tiny_runs import KillAt, Killed, assert_same_weights, list_flags, read_losses, read_weights  # noqa: E402

from driving.errors import LedgerError  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.data.preview import find_prompt_change  # noqa: E402
from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.loading import load_processor  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch

FULL = ("--tune_mm_vision", "True")
LORA = ("--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1")
FLAT = (*LORA, "--data_flatten", "True")
PACKED = (*FULL, "--data_packing", "True", "--model_max_length", "250")


@pytest.fixture(scope="module", params=[FULL, LORA, FLAT, PACKED], ids=["full", "lora", "flat", "packed"])
def two_ways(request, tiny_model, training_json, tmp_path_factory):
    """(uninterrupted run of 7 steps, the same killed after step 3 and run again, its flags)."""
    folder = tmp_path_factory.mktemp("runs")
    flags = [*request.param, "--max_steps", "7", "--save_steps", "2", "--gradient_accumulation_steps", "1"]
    assert run(list_flags(tiny_model, training_json, folder / "whole", *flags)) == 0
    broken = list_flags(tiny_model, training_json, folder / "broken", *flags)
    with pytest.raises(Killed):
        run(broken, callbacks=[KillAt(3)])
    assert run(broken) == 0
    return folder / "whole", folder / "broken", broken


def test_a_killed_run_ends_in_the_same_bits(two_ways):
    whole, broken, _ = two_ways
    assert_same_weights(broken, whole)


def test_a_killed_run_logs_every_step_once_with_the_same_loss(two_ways):
    whole, broken, _ = two_ways
    assert [step for step, _ in read_losses(broken)] == [1, 2, 3, 4, 5, 6, 7]
    assert read_losses(broken) == read_losses(whole)


def test_something_was_learnt(two_ways):
    losses = [loss for _, loss in read_losses(two_ways[0])]
    assert losses[-1] < losses[0] - 0.1


def test_a_finished_run_says_so_and_touches_nothing(two_ways, capsys):
    _, broken, command = two_ways
    before = {path: path.stat().st_mtime_ns for path in broken.rglob("*") if path.is_file()}
    assert run(command) == 0
    assert "already finished (7 steps)" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in broken.rglob("*") if path.is_file()} == before


def test_a_checkpoint_holds_all_that_evaluation_needs(two_ways):
    whole = two_ways[0]
    newest = whole / "checkpoint-7"
    for folder in (whole, newest):
        preprocessing = Preprocessing.read(folder)
        assert (preprocessing.video_fps, preprocessing.scaler, preprocessing.factor_px) == (10.0, "area", 32)
        assert len(preprocessing.prompt_hash) == 16
        assert json.loads((folder / "training_groups.json").read_text()) == [f"clip0{i}" for i in range(5)]
        assert (folder / "tokenizer.json").exists() and (folder / "processor_config.json").exists()
    assert json.loads((newest / "complete.json").read_text())["step"] == 7


def test_a_prompt_that_is_rendered_differently_now_is_noticed(two_ways, monkeypatch):
    from qwenvl.data import dataset

    processor, preprocessing = load_processor(two_ways[0]), Preprocessing.read(two_ways[0])
    assert preprocessing.prompt_example["videos"] == [[10, 64, 96, 10.0]]
    assert find_prompt_change(preprocessing, processor) == ""

    def render_without_outer_start(*clip):  # as transformers 4.57 does
        block = render(*clip)
        return dataclasses.replace(block, input_ids=block.input_ids[1:], mm_token_type_ids=block.mm_token_type_ids[1:])

    render = dataset.render_video_block
    monkeypatch.setattr(dataset, "render_video_block", render_without_outer_start)
    change = find_prompt_change(dataclasses.replace(preprocessing, transformers_version="4.57.0"), processor)
    assert "the prompt is not rendered as in training" in change
    assert f"trained under transformers 4.57.0, this is {transformers.__version__}" in change
    with pytest.warns(UserWarning, match="not rendered as in training"):
        load_for_inference(two_ways[0])


def test_every_file_of_a_result_can_be_read_by_others(two_ways):
    for folder in (two_ways[0], two_ways[0] / "checkpoint-7"):
        (weights,) = folder.glob("*model.safetensors")
        assert weights.stat().st_mode & 0o777 == 0o644


def test_the_log_and_the_manifest_tell_the_seconds_of_training(two_ways):
    whole = two_ways[0]
    elapsed = [json.loads(line)["elapsed_s"] for line in (whole / "training_log.jsonl").read_text().splitlines()]
    assert elapsed == sorted(elapsed) and elapsed[0] > 0
    assert json.loads((whole / "manifest.json").read_text())["summary"]["train_s"] == elapsed[-1]


def test_two_complete_checkpoints_are_kept(two_ways):
    assert sorted(path.name for path in two_ways[0].glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-7"]


def test_the_plan_is_kept_beside_the_weights(two_ways):
    facts = json.loads((two_ways[0] / "train_plan.json").read_text())
    assert facts["effective_batch"]["samples_a_step"] == 2
    assert facts["first_sample"]["videos"] == [[10, 64, 96]]
    assert (facts["total_steps"], facts["steps_an_epoch"]) == (7, 5)


def test_plain_transformers_and_peft_load_the_result(two_ways, tiny_model):
    whole = two_ways[0]
    if (whole / "adapter_config.json").exists():
        from peft import PeftModel

        base = transformers.Qwen3VLForConditionalGeneration.from_pretrained(tiny_model)
        model = PeftModel.from_pretrained(base, whole)
    else:
        model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(whole)
    loaded = [(name.replace(".modules_to_save.default", ""), value) for name, value in model.state_dict().items()]
    saved = {name: value for name, value in read_weights(whole).items() if "merger" in name}
    # peft and transformers put prefixes before a name; the last four parts of a merger's tell it apart.
    for name, value in saved.items():
        ending = name.split("visual.")[-1]
        ending = ending.replace(".modules_to_save.default", "")
        same = [
            v for n, v in loaded if n.replace(".modules_to_save.default", "").endswith(ending) and "original" not in n
        ]
        assert len(same) == 1 and torch.equal(same[0], value), name
    assert len(saved) == 4 * 6


def test_more_steps_continue_a_finished_run(two_ways, tmp_path, capsys):
    _, broken, command = two_ways
    copy = tmp_path / "copy"
    shutil.copytree(broken, copy)
    longer = [str(copy) if part == str(broken) else part for part in command]
    longer[longer.index("--max_steps") + 1] = "8"
    assert run(longer) == 0
    said = capsys.readouterr().out
    assert f"continuing from {copy / 'checkpoint-7'}" in said
    assert f"{copy} was planned for 7 steps and now goes to 8; the learning rate follows the new schedule" in said
    assert read_losses(copy)[-1][0] == 8


def test_a_run_killed_after_its_last_checkpoint_takes_no_further_step(two_ways, tmp_path, capsys):
    _, broken, command = two_ways
    copy = tmp_path / "copy"
    shutil.copytree(broken, copy)
    for path in copy.iterdir():
        if path.is_file() and path.name not in ("plan.json", "training_log.jsonl", "train_plan.json", "skipped.jsonl"):
            path.unlink()
    assert run([str(copy) if part == str(broken) else part for part in command]) == 0
    assert "already stands at the last step; its weights are the result" in capsys.readouterr().out
    assert {path.name for path in copy.iterdir()} == {path.name for path in broken.iterdir()}
    expected, found = read_weights(broken), read_weights(copy)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert (copy / "manifest.json").read_text() == (broken / "manifest.json").read_text()
    assert read_losses(copy) == read_losses(broken)


def test_a_half_written_checkpoint_is_passed_over_by_name(two_ways, tmp_path, capsys):
    _, broken, command = two_ways
    copy = tmp_path / "copy"
    shutil.copytree(broken, copy)
    (copy / "manifest.json").unlink()
    (copy / "checkpoint-7" / "complete.json").unlink()
    assert run([str(copy) if part == str(broken) else part for part in command]) == 0
    said = capsys.readouterr().out
    assert "checkpoint-7 was only half written; passed over" in said
    assert "checkpoint-6" in said
    assert read_weights(copy).keys() == read_weights(broken).keys()


def test_another_plan_in_the_same_folder_is_refused_by_name(two_ways):
    _, _, command = two_ways
    with pytest.raises(LedgerError, match="was made with learning_rate = 0.01, this run asks for 0.02"):
        run([*command, "--learning_rate", "2e-2"])


def test_a_checkpoint_that_is_named_is_continued_from(two_ways, tmp_path, capsys):
    whole, broken, command = two_ways
    copy = tmp_path / "copy"
    shutil.copytree(broken, copy)
    (copy / "manifest.json").unlink()
    command = [str(copy) if part == str(broken) else part for part in command]
    assert run([*command, "--resume_from_checkpoint", str(copy / "checkpoint-6")]) == 0
    assert f"continuing from {copy / 'checkpoint-6'}" in capsys.readouterr().out
    assert_same_weights(copy, whole)


def test_a_run_that_took_no_step_leaves_its_folder_to_a_corrected_command(tiny_model, training_json, tmp_path):
    command = list_flags(tiny_model, training_json, tmp_path / "run", *LORA, "--max_steps", "1")
    with pytest.raises(Killed):
        run([*command, "--learning_rate", "1e2"], callbacks=[KillAt(1)])
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["learning_rate"] == 100.0
    assert run(command) == 0
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["learning_rate"] == 0.01


def test_a_change_of_the_pixels_is_refused_by_its_own_name(two_ways):
    _, _, command = two_ways
    with pytest.raises(LedgerError, match="made with preprocessing.video_max_frames = 32, this run asks for 20;"):
        run([*command, "--video_max_frames", "20"])


def test_another_number_of_threads_is_refused_by_name(two_ways):
    _, _, command = two_ways
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with pytest.raises(LedgerError, match=f"OMP_NUM_THREADS = {before}, this run asks for {before + 1}"):
            run(command)
    finally:
        torch.set_num_threads(before)


def test_workers_and_a_frame_cache_change_nothing(two_ways, tiny_model, training_json, tmp_path):
    whole, _, command = two_ways
    with_workers = [str(tmp_path / "run") if part.endswith("broken") else part for part in command]
    assert run([*with_workers, "--dataloader_num_workers", "2", "--cache_frames", "True"]) == 0
    assert_same_weights(tmp_path / "run", whole)


def test_a_tokenizer_that_changed_under_a_run_is_refused(tiny_model, training_json, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    flags = list_flags(model, training_json, tmp_path / "run", "--max_steps", "1", *LORA)
    assert run(flags) == 0
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(LedgerError, match=r"run was made with rendering.tokenizer = .*, this run asks for"):
        run([*flags, "--max_steps", "2"])


def test_a_plan_that_a_crash_damaged_is_named(tiny_model, training_json, tmp_path):
    flags = list_flags(tiny_model, training_json, tmp_path / "run", "--max_steps", "1", *LORA)
    assert run(flags) == 0
    (tmp_path / "run/plan.json").write_text("{")
    with pytest.raises(LedgerError, match="plan.json is not JSON"):
        run(flags)
