"""Whole runs with weighted and mirrored rows: killed and continued to the same bits, and refused with another share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
from tiny_runs import KillAt, Killed, assert_same_weights, list_flags, read_losses  # noqa: E402

from driving.errors import LedgerError  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch
MIRROR = ("--mirror", "True")
FLAGS = ("--max_steps", "7", "--save_steps", "2", "--gradient_accumulation_steps", "1", "--num_train_epochs", "2")


@pytest.fixture(scope="module")
def weighted_json(training_json, tmp_path_factory) -> Path:
    """The drawn clips, answered in words; the first two are used three times an epoch."""
    records = json.loads(training_json.read_text())
    for index, record in enumerate(records):
        record["video"] = str(training_json.parent / record["video"])
        record["conversations"][-1]["value"] = ("Turn left.", "Go straight on.")[index % 2]
        record["sampling_weight"] = 3.0 if index < 2 else 1.0
    path = tmp_path_factory.mktemp("weighted") / "train.json"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture(scope="module")
def runs(tiny_model, weighted_json, tmp_path_factory):
    """(uninterrupted run, the same killed after step 3 and run again, its flags without --mirror)."""
    folder = tmp_path_factory.mktemp("runs")
    assert run([*list_flags(tiny_model, weighted_json, folder / "whole", *FLAGS), *MIRROR]) == 0
    broken = list_flags(tiny_model, weighted_json, folder / "broken", *FLAGS)
    with pytest.raises(Killed):
        run([*broken, *MIRROR], callbacks=[KillAt(3)])
    assert run([*broken, *MIRROR]) == 0
    return folder / "whole", folder / "broken", broken


def test_a_killed_run_sees_the_same_rows_the_same_way_round(runs):
    whole, broken, _ = runs
    assert read_losses(broken) == read_losses(whole)
    assert_same_weights(broken, whole)


@pytest.mark.parametrize("share", ["False", "0.3"])
def test_a_run_is_not_continued_with_another_share(runs, share):
    with pytest.raises(LedgerError, match="mirror"):
        run([*runs[2], "--mirror", share])


def test_mirrored_rows_are_other_rows(runs, tiny_model, weighted_json, tmp_path):
    assert run(list_flags(tiny_model, weighted_json, tmp_path / "plain", *FLAGS)) == 0
    assert read_losses(tmp_path / "plain") != read_losses(runs[0])
    plan = json.loads((runs[0] / "train_plan.json").read_text())
    assert plan["rows"] == 10 + 2 * 2
