"""A dataset on a hub of our own, for the tests of the download."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_hub import GOOD_TOKEN, LocalHub

SPLITS = ("train", "val", "test", "train")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings of 3 s in two chunks, as on the Hub, with splits/default.parquet and splits/other.parquet."""
    import pandas as pd

    from data_prep.synthetic import constant_motion, write_dataset

    root = tmp_path_factory.mktemp("hub") / "dataset"
    motions = [constant_motion(8.0 + number, 0.01) for number in range(4)]
    summary = write_dataset(root, motions, seconds=3, height=64, width=112, clips_per_chunk=2)
    (root / "splits").mkdir()
    clips = pd.Index(summary.clip_ids, name="clip_id")
    for name, splits in (("default", SPLITS), ("other", SPLITS[::-1])):
        pd.DataFrame({"split": list(splits)}, index=clips).to_parquet(root / "splits" / f"{name}.parquet")
    return root


@pytest.fixture
def hub(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A running hub that serves a copy of the recordings, and this process set up to talk to it at once and briefly."""
    from huggingface_hub import constants

    from data_prep.download import patience

    shutil.copytree(recordings, tmp_path / "served")
    server = LocalHub(tmp_path / "served")
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 5)
    monkeypatch.setattr(patience, "WAIT_S", 0.01)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    yield server
    server.shutdown()
    server.server_close()
