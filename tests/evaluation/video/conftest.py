"""predict.py with a stub in place of a model."""

from __future__ import annotations

import json

import pytest
from stub_model import PREPROCESSING, StubModel

from evaluation.video.tool import PredictOptions, run


@pytest.fixture
def model(tmp_path):
    """A folder with a model's papers."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
    return folder


@pytest.fixture
def predict(tmp_path, model):
    """predict(video, stub=None, **options) -> (its result, the stub); OUT is tmp_path/out.mp4."""

    def ask(video, stub=None, **options):
        stub = stub or StubModel()
        values = {"model": str(model), "out": tmp_path / "out.mp4", "device": "cpu"} | options
        return run(PredictOptions(video=video, **values), lambda *_: stub), stub

    return ask
