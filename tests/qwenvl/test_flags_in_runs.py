"""Flags that show in a run's files, on the screen or in how it is refused; and no flag is without its case."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import test_mirrored_runs  # noqa: E402
from flag_moves import MOVES  # noqa: E402
from flag_names import list_own_flags  # noqa: E402
from tiny_runs import list_flags  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.argument import parse_plan  # noqa: E402
from qwenvl.train.checkpoints import hash_plan  # noqa: E402
from qwenvl.train.train_qwen import run, train  # noqa: E402
from qwenvl.train.translate import resolve_machine  # noqa: E402

pytestmark = pytest.mark.needs_torch

REFUSED = ("remove_unused_columns", "logging_nan_inf_filter")  # there for their defaults, which are not transformers'


@pytest.fixture(scope="module")
def finish(tiny_model, training_json, tmp_path_factory):
    """finish(*flags): the folder of a finished run of four steps."""

    def start(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("run") / "out"
        assert run(list_flags(tiny_model, training_json, folder, "--max_steps", "4", *flags)) == 0
        return folder

    return start


def logged_steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "training_log.jsonl").read_text().splitlines()]


def kept_checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_logging_and_saving_steps_and_the_number_kept_show_in_the_files(finish):
    seldom = finish("--logging_steps", "2", "--save_steps", "3")
    assert logged_steps(seldom) == [2, 4]
    assert kept_checkpoints(seldom) == ["checkpoint-3", "checkpoint-4"]  # the last step is always kept
    often = finish("--save_steps", "1", "--save_total_limit", "3")
    assert logged_steps(often) == [1, 2, 3, 4]
    assert kept_checkpoints(often) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]


def test_the_output_dir_is_where_everything_goes(tiny_model, training_json, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(list_flags(tiny_model, training_json, Path("here/and there"), "--max_steps", "1")) == 0
    assert (tmp_path / "here/and there/manifest.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_another_plan_replaces_a_run_only_when_asked(tiny_model, training_json, finish, capsys):
    folder = finish("--save_strategy", "no")
    other = list_flags(tiny_model, training_json, folder, "--max_steps", "4", "--seed", "7")
    assert train(argv=other) == 1
    assert "seed = 42, this run asks for 7" in capsys.readouterr().err
    assert train(argv=[*other, "--overwrite_output", "True"]) == 0
    assert json.loads((folder / "plan.json").read_text())["seed"] == 7


def test_more_bad_rows_than_allowed_stop_a_run(tiny_model, training_json, tmp_path, capsys):
    rows = json.loads(training_json.read_text())
    for row in rows[:4]:
        row["video"] = "gone.mp4"
    for row in rows[4:]:
        row["video"] = str(training_json.parent / row["video"])
    (tmp_path / "train.json").write_text(json.dumps(rows))
    command = list_flags(tiny_model, tmp_path / "train.json", tmp_path / "out", "--max_steps", "1")
    assert train(argv=command) == 1
    assert "4 of 10 samples are bad (at most 2.0% may be)" in capsys.readouterr().err
    assert train(argv=[*command, "--max_bad_fraction", "0.4"]) == 0


def test_a_dry_run_prints_the_plan_for_the_processes_asked_and_writes_nothing(
    tiny_model, training_json, tmp_path, capsys
):
    command = list_flags(tiny_model, training_json, tmp_path / "out", "--dry_run", "True")
    assert run(command) == 0
    assert "2 samples x 1 processes x 1 accumulation = 2 a step" in capsys.readouterr().out
    assert run([*command, "--dry_run_processes", "4"]) == 0
    assert "2 samples x 4 processes x 1 accumulation = 8 a step" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_what_a_deepspeed_config_shards(tiny_model, training_json, repository, tmp_path, capsys):
    flags = ("--dry_run", "True", "--dry_run_processes", "4")
    gradients = []
    for more in ((), ("--dry_run_deepspeed", str(repository / "qwen-vl-finetune/scripts/zero3.json"))):
        assert run(list_flags(tiny_model, training_json, tmp_path / "out", *flags, *more)) == 0
        gradients.append(float(re.search(r"gradients ([\d.]+)", capsys.readouterr().out)[1]))
    assert gradients[1] < gradients[0]


@pytest.mark.parametrize(
    ("precision", "halves"),
    [
        ("auto", ("True", "False")),
        ("bf16", ("True", "False")),
        ("fp16", ("False", "True")),
        ("fp32", ("False", "False")),
    ],
)
def test_precision_decides_how_a_gpu_computes(monkeypatch, precision, halves):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **kwargs: True)
    argv, _ = resolve_machine(["--precision", precision])
    assert (argv[argv.index("--bf16") + 1], argv[argv.index("--fp16") + 1]) == halves


def test_the_cache_dir_is_where_the_hub_is_told_to_keep_models(tiny_model, training_json, tmp_path, monkeypatch):
    asked = []

    def refuse(path: str, **settings: Any) -> None:
        asked.append(settings["cache_dir"])
        raise OSError("not now")

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", refuse)
    with pytest.raises(DrivingError, match="no processor can be loaded from .*: OSError: not now"):
        run(list_flags(tiny_model, training_json, tmp_path / "out", "--cache_dir", str(tmp_path / "kept")))
    assert asked == [str(tmp_path / "kept")]


@pytest.mark.parametrize("flag", REFUSED)
def test_a_flag_that_could_only_do_harm_is_refused(flag):
    with pytest.raises(DrivingError, match=f"--{flag} True .* leave it out"):
        parse_plan(["--model_name_or_path", "m", "--use_cpu", "True", f"--{flag}", "True"])


def test_elastic_lets_one_process_go_on_where_two_began(tiny_model, training_json, tmp_path, capsys):
    argv = list_flags(tiny_model, training_json, tmp_path / "out", "--max_steps", "1")
    assert run(argv) == 0
    (tmp_path / "out/manifest.json").unlink()
    pretend_that_two_began(tmp_path / "out", "checkpoint-1")
    more = [*argv, "--max_steps", "2"]
    with pytest.raises(DrivingError, match="was begun with 2 processes, this run has 1"):
        run(more)
    capsys.readouterr()
    assert run([*more, "--elastic", "True"]) == 0
    assert "accumulation, so that a step stays" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/checkpoint-2/complete.json").read_text())["processes"] == 1


def pretend_that_two_began(folder: Path, checkpoint: str) -> None:
    plan = {**json.loads((folder / "plan.json").read_text()), "world_size": 2}
    (folder / "plan.json").write_text(json.dumps(plan))
    marker = json.loads((folder / checkpoint / "complete.json").read_text())
    del plan["tool"]
    marker = {**marker, "plan_hash": hash_plan(plan), "processes": 2}
    (folder / checkpoint / "complete.json").write_text(json.dumps(marker))


ELSEWHERE = {
    "mirror": test_mirrored_runs.test_mirrored_rows_are_other_rows,
    "elastic": test_elastic_lets_one_process_go_on_where_two_began,
    "output_dir": test_the_output_dir_is_where_everything_goes,
    "logging_steps": test_logging_and_saving_steps_and_the_number_kept_show_in_the_files,
    "save_steps": test_logging_and_saving_steps_and_the_number_kept_show_in_the_files,
    "save_total_limit": test_logging_and_saving_steps_and_the_number_kept_show_in_the_files,
    "overwrite_output": test_another_plan_replaces_a_run_only_when_asked,
    "max_bad_fraction": test_more_bad_rows_than_allowed_stop_a_run,
    "dry_run": test_a_dry_run_prints_the_plan_for_the_processes_asked_and_writes_nothing,
    "dry_run_processes": test_a_dry_run_prints_the_plan_for_the_processes_asked_and_writes_nothing,
    "dry_run_deepspeed": test_a_dry_run_counts_what_a_deepspeed_config_shards,
    "precision": test_precision_decides_how_a_gpu_computes,
    "cache_dir": test_the_cache_dir_is_where_the_hub_is_told_to_keep_models,
    **dict.fromkeys(REFUSED, test_a_flag_that_could_only_do_harm_is_refused),
}


def test_no_flag_is_without_a_case():
    assert set(list_own_flags()) == {*MOVES, *ELSEWHERE}
