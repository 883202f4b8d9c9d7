"""A model whose prompt is rendered differently now is not asked, unless that is what is wanted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
from driving.errors import DrivingError  # noqa: E402
from evaluation.evaluate import EvaluateOptions, load_model  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture
def planned(monkeypatch):
    """A planned run whose model was trained on another prompt than is rendered now."""
    engine = SimpleNamespace(preprocessing=None, processor=None, describe=dict, max_new_tokens=0)
    monkeypatch.setattr("evaluation.asking.engine.load_engine", lambda *a, **k: engine)
    monkeypatch.setattr(
        "qwenvl.data.preview.find_prompt_change", lambda *a: "the prompt is not rendered as in training"
    )
    return SimpleNamespace(checkpoint=SimpleNamespace(preprocessing={}), dataset={}, true_answers=[])


def test_another_prompt_than_in_training_is_refused_with_the_way_out(planned):
    with pytest.raises(DrivingError, match="not rendered as in training, or pass --force"):
        load_model(planned, EvaluateOptions(device="cpu", max_new_tokens=8))


def test_another_prompt_than_in_training_is_asked_when_forced(planned):
    engine, _ = load_model(planned, EvaluateOptions(device="cpu", max_new_tokens=8, force=True))
    assert engine.max_new_tokens == 8
