"""Rows that cannot be asked go to the ledger; papers of a model that are not of their shape are one line."""

from __future__ import annotations

import json

import pytest

from driving.errors import DrivingError
from driving.ledger import read_ledger
from evaluation.checkpoint import Checkpoint, read_checkpoint
from evaluation.evaluate import EvaluateOptions, run
from evaluation.planning import check_papers


@pytest.mark.parametrize("turns", [[], None])
def test_a_row_without_turns_goes_to_the_ledger(small_dataset, seeing_engine, tmp_path, turns):
    rows = json.loads(small_dataset.test_data.read_text())
    rows[1]["conversations"] = turns
    small_dataset.test_data.write_text(json.dumps(rows))
    options = EvaluateOptions(
        model=str(small_dataset.model), test_data=small_dataset.test_data, output_dir=tmp_path / "out", bootstrap=50
    )
    facts = {"model": {"num_parameters": 2_000_000, "model_type": "fake"}, "max_new_tokens": 99}
    run(options, lambda planned, asked: (seeing_engine(None), facts))
    reasons = {skip.id: skip.reason for skip in read_ledger(tmp_path / "out" / "skipped.jsonl") if skip.stage == "read"}
    assert reasons == {rows[1]["id"]: f"{rows[1]['id']} has no conversations"}


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("preprocessing.json", "[1]", "preprocessing.json holds no JSON object"),
        ("training_groups.json", "5", "training_groups.json holds no list of recordings"),
    ],
)
def test_a_paper_of_another_shape_is_named(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(DrivingError, match=f"{complaint}; take the file from the training run again"):
        read_checkpoint(str(tmp_path))


def test_a_model_folder_that_is_not_there_is_named():
    with pytest.raises(DrivingError, match="the model folder /nope does not exist; give a model folder or a hub name"):
        read_checkpoint("/nope")


def test_an_adapter_without_preprocessing_is_refused_unless_forced():
    adapter = Checkpoint("adapter", "f", None, None, base="b")
    with pytest.raises(DrivingError, match="adapter is an adapter without preprocessing.json.*--force"):
        check_papers(adapter, force=False)
    assert check_papers(adapter, force=True) is None
    assert check_papers(Checkpoint("whole", "f", None, None), force=False) is None
