"""A model whose prompt is rendered differently now is not asked, unless that is what is wanted."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("torch")
from adapters import write_preprocessing  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from evaluation.asking.engine import load_engine  # noqa: E402

pytestmark = [pytest.mark.needs_torch, pytest.mark.filterwarnings("ignore:the prompt is not rendered")]


@pytest.fixture
def changed(tiny_model, tmp_path):
    """A model folder whose papers hold the hash of another prompt."""
    from qwenvl.train.loading import load_processor

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    write_preprocessing(folder, load_processor(folder), prompt_hash="0" * 16)
    return str(folder)


def test_another_prompt_than_in_training_is_refused_with_the_way_out(changed):
    with pytest.raises(DrivingError, match=r"not rendered as in training \(hash .*, or pass --force"):
        load_engine(changed, "cpu", [])


def test_another_prompt_than_in_training_is_asked_when_forced(changed):
    assert load_engine(changed, "cpu", [], force=True).device == "cpu"
