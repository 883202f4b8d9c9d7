"""Rows that cannot be asked go to the ledger; papers of a model that are not of their shape are one line."""

from __future__ import annotations

import dataclasses
import json

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from driving.errors import DrivingError
from driving.ledger import read_ledger
from evaluation.agreement import check_papers, choose_answer_format
from evaluation.checkpoint import Checkpoint, read_checkpoint
from evaluation.evaluate import EvaluateOptions, run


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


def test_a_mistyped_folder_beside_other_models_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(DrivingError, match="the model folder checkpoints/lorra does not exist"):
        read_checkpoint("checkpoints/lorra")
    assert read_checkpoint("Qwen/Qwen3-VL-4B-Instruct").fingerprint == "not local"
    with pytest.raises(DrivingError, match="--model is empty; give a model folder or a hub name"):
        read_checkpoint("")


def test_a_training_log_that_is_no_text_costs_its_lines_only(tmp_path):
    (tmp_path / "training_log.jsonl").write_bytes(b'\xff\xfe{\n{"step": 1}\n')
    assert read_checkpoint(str(tmp_path)).log == [{"step": 1}]


def test_a_dataset_json_with_another_thing_for_an_answer_format_is_named():
    with pytest.raises(DrivingError, match="dataset.json holds 'x' for an answer format; run convert_to_training"):
        choose_answer_format({"answer_format": "x"}, Checkpoint("m", "f", None, None), EvaluateOptions())


def test_data_without_training_rows_is_refused_before_the_model_is_asked(small_dataset, tmp_path):
    path = small_dataset.test_data.with_name("truth.parquet")
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.not_equal(table["split"], "train")), path)
    options = EvaluateOptions(
        model=str(small_dataset.model), test_data=small_dataset.test_data, output_dir=tmp_path / "out"
    )
    with pytest.raises(DrivingError, match="holds no row of the train split.*--train-truth"):
        run(options, lambda planned, asked: pytest.fail("the model was loaded"))
    assert not (tmp_path / "out").exists()


def test_a_run_that_never_began_does_not_keep_its_folder_from_the_mended_command(
    small_dataset, seeing_engine, tmp_path
):
    options = EvaluateOptions(
        model=str(small_dataset.model), test_data=small_dataset.test_data, output_dir=tmp_path / "out", bootstrap=50
    )

    def refuse(planned, asked):
        raise DrivingError("no such device")

    with pytest.raises(DrivingError, match="no such device"):
        run(dataclasses.replace(options, batch_size=3), refuse)
    facts = {"model": {"num_parameters": 2_000_000, "model_type": "fake"}, "max_new_tokens": 99}
    assert run(options, lambda planned, asked: (seeing_engine(None), facts))["rows"]["num_scored"]
    with pytest.raises(DrivingError, match="was made with batch_size = 16, this run asks for 3"):
        run(dataclasses.replace(options, batch_size=3), refuse)


def test_the_last_line_says_how_many_rows_have_no_recorded_motion(small_dataset, seeing_engine, tmp_path):
    path, rows = small_dataset.test_data.with_name("truth.parquet"), json.loads(small_dataset.test_data.read_text())
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.not_equal(table["id"], rows[0]["id"])), path)
    options = EvaluateOptions(
        model=str(small_dataset.model), test_data=small_dataset.test_data, output_dir=tmp_path / "out", bootstrap=50
    )
    facts = {"model": {"num_parameters": 2_000_000, "model_type": "fake"}, "max_new_tokens": 99}
    said = run(options, lambda planned, asked: (seeing_engine(None), facts))["message"]
    assert "clips (1 more without recorded motion, not scored)" in said


def test_an_adapter_without_preprocessing_is_refused_unless_forced():
    adapter = Checkpoint("adapter", "f", None, None, base="b")
    with pytest.raises(DrivingError, match="adapter is an adapter without preprocessing.json.*--force"):
        check_papers(adapter, force=False)
    assert check_papers(adapter, force=True) is None
    assert check_papers(Checkpoint("whole", "f", None, None), force=False) is None
