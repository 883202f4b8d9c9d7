"""A trained model without its preprocessing: refused by every door, with what to do."""

from __future__ import annotations

import json

import pytest

from driving.errors import DrivingError
from evaluation.agreement import check_papers
from evaluation.checkpoint import read_checkpoint
from evaluation.serving.merge import MergeOptions, run


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "base")})
    )
    return folder


def test_an_adapter_without_preprocessing_is_not_merged(adapter, tmp_path):
    options = MergeOptions(model=str(adapter), output_dir=tmp_path / "merged")
    with pytest.raises(DrivingError, match="adapter holds no preprocessing.json, .* copy the file .* or pass --force"):
        run(options)
    assert not (tmp_path / "merged").exists()


def test_with_force_the_merge_goes_on_to_the_next_thing_that_is_missing(adapter, tmp_path):
    options = MergeOptions(model=str(adapter), output_dir=tmp_path / "merged", force=True)
    with pytest.raises(DrivingError, match="the base model of .* which is gone; pass --base-model"):
        run(options)


def test_a_merged_model_that_lost_its_preprocessing_is_refused_as_an_adapter_is(tmp_path):
    (tmp_path / "training_groups.json").write_text('["ride"]')
    with pytest.raises(DrivingError, match="is a trained model without preprocessing.json: .* or pass --force"):
        check_papers(read_checkpoint(str(tmp_path)), force=False)
    check_papers(read_checkpoint(str(tmp_path)), force=True)


def test_a_model_as_it_comes_from_the_hub_has_no_such_paper(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    check_papers(read_checkpoint(str(tmp_path)), force=False)


def test_a_hub_name_that_cannot_be_had_is_named_before_anything_is_loaded(monkeypatch):
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DrivingError, match="maker/none is no folder here and not in the cache of Hugging Face"):
        check_papers(read_checkpoint("maker/none"), force=False)
