"""When a finished evaluation may be served again, and which rows may be scored at all."""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driving.errors import DrivingError, LedgerError
from evaluation.evaluate import run


@pytest.fixture
def evaluate(evaluate_options, seeing_engine):
    def call(**changes):
        return run(dataclasses.replace(evaluate_options, **changes), lambda planned, asked: (seeing_engine(), {}))

    return call


@pytest.fixture
def bases(small_dataset, tmp_path):
    """The model is an adapter on folder `base`; `copy` holds the same weights, `other` does not."""
    folders = {name: tmp_path / name for name in ("base", "copy", "other")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"other weights" if name == "other" else b"weights")
    config = {"base_model_name_or_path": str(folders["base"])}
    (small_dataset.model / "adapter_config.json").write_text(json.dumps(config))
    return folders


def test_another_base_under_an_adapter_is_another_run(evaluate, bases):
    evaluate()
    with pytest.raises(LedgerError, match="was made with base_model = "):
        evaluate(base_model=str(bases["other"]))


def test_a_retrained_base_is_another_run(evaluate, bases):
    evaluate()
    (bases["base"] / "model.safetensors").write_bytes(b"retrained")
    with pytest.raises(LedgerError, match="was made with base_model = "):
        evaluate()


def test_a_base_that_only_moved_is_the_same_run(evaluate, bases):
    evaluate()
    assert evaluate(base_model=str(bases["copy"]))["message"].startswith("already complete")


@pytest.mark.parametrize("key, value", [("force", True), ("device", "cuda")])
def test_force_and_the_device_are_part_of_the_plan(evaluate, key, value):
    evaluate()
    with pytest.raises(LedgerError, match=f"was made with {key} = "):
        evaluate(**{key: value})


def test_other_facts_about_the_data_are_another_run(evaluate, small_dataset):
    evaluate()
    small_dataset.write(one_recording=True)
    with pytest.raises(LedgerError, match="was made with dataset = "):
        evaluate()


@pytest.mark.needs_torch
def test_the_machine_is_told_by_kind_and_number_format():
    pytest.importorskip("torch")
    from evaluation.asking.engine import describe_device

    assert describe_device("cpu") == "cpu float32"


def move_row(dataset, name, split):
    """Put one row of truth.parquet into another split."""
    path = dataset.folder / "truth.parquet"
    table = pq.read_table(path)
    pairs = zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True)
    splits = [split if row == name else of_row for row, of_row in pairs]
    pq.write_table(table.set_column(table.column_names.index("split"), "split", pa.array(splits)), path)


@pytest.mark.parametrize("facts", [{}, {"one_recording": True}])
def test_training_rows_are_refused_unless_forced(evaluate, small_dataset, facts):
    small_dataset.write(**facts)
    move_row(small_dataset, "left_1", "train")
    with pytest.raises(DrivingError, match=r"1 of 6 rows are of the train split \(left_1, ...\).*--force"):
        evaluate()
    assert "LEAKAGE: 1 of 6 rows are training rows of their dataset (--force)" in evaluate(force=True)["stamps"]


def test_rows_that_a_checkpoint_may_have_been_chosen_by_are_stamped(evaluate, small_dataset):
    move_row(small_dataset, "left_1", "val")
    stamp = "1 of 6 rows are of the val split, by which a checkpoint may have been chosen"
    assert stamp in evaluate()["stamps"]
