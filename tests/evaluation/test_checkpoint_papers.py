"""What a model folder says about itself, and which rows of a test file are asked about."""

from __future__ import annotations

import json

import pytest

from driving.errors import DrivingError
from evaluation.agreement import check_leakage, read_dataset_facts
from evaluation.checkpoint import fingerprint_folder, read_checkpoint


def test_the_fingerprint_changes_with_the_weights_and_not_with_the_log(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"a" * 100)
    before = fingerprint_folder(tmp_path)
    (tmp_path / "training_log.jsonl").write_text("{}")
    assert fingerprint_folder(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"a" * 99 + b"b")
    assert fingerprint_folder(tmp_path) != before


def test_a_checkpoint_inside_a_run_takes_the_log_of_the_run_and_drops_a_torn_line(tmp_path):
    folder = tmp_path / "checkpoint-10"
    folder.mkdir()
    (tmp_path / "training_log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_checkpoint(str(folder)).log == [{"step": 1, "loss": 2.0}]


def test_a_hub_name_has_no_papers():
    checkpoint = read_checkpoint("Qwen/Qwen3-VL-4B-Instruct")
    assert checkpoint.groups is None
    assert checkpoint.preprocessing is None


def test_without_training_groups_leakage_is_called_unknown(tmp_path):
    stamps = check_leakage(read_checkpoint(str(tmp_path)), {"a"}, force=False, is_one_recording=False)
    assert stamps == ["the checkpoint does not say what it was trained on: leakage could not be checked"]


def test_held_out_groups_carry_no_stamp(tmp_path):
    (tmp_path / "training_groups.json").write_text(json.dumps(["a", "b"]))
    assert check_leakage(read_checkpoint(str(tmp_path)), {"c"}, force=False, is_one_recording=False) == []


def test_a_paper_that_is_no_json_is_named(tmp_path):
    (tmp_path / "training_groups.json").write_text("[")
    with pytest.raises(DrivingError, match="training_groups.json is not JSON"):
        read_checkpoint(str(tmp_path))
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DrivingError, match="dataset.json is not JSON"):
        read_dataset_facts(tmp_path / "dataset.json")
