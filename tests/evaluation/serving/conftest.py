"""A model folder to serve, a clip to ask about, and a server that plays answers back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapters import draw_frames, write_preprocessing
from recorded_server import RecordedServer


@pytest.fixture(scope="session")
def served(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with the papers of a run on 10 frames of 64x96."""
    from qwenvl.train.loading import load_processor

    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("served") / "merged")
    write_preprocessing(folder, load_processor(folder))
    return folder


@pytest.fixture
def own_served(served: Path, tmp_path: Path) -> Path:
    """The same to be changed."""
    return shutil.copytree(served, tmp_path / "merged")


@pytest.fixture(scope="session")
def processor(served: Path) -> Any:
    from evaluation.serving.vllm_command import load_papers

    return load_papers(served)[0]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 3 s at 10 frames a second, twice as large as the model sees it."""
    from video_io import write_video

    path = tmp_path_factory.mktemp("clips") / "drive.mp4"
    write_video(path, draw_frames(30, 128, 192), 10.0)
    return path


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that met a busy server is asked again at once."""
    monkeypatch.setattr("evaluation.serving.engine.PAUSES_S", (0.0, 0.0))


@pytest.fixture
def recorded() -> Iterator[RecordedServer]:
    """A server on this machine, told by `play` what to answer."""
    server = RecordedServer()
    yield server
    server.close()
