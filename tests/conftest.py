"""Fixtures and marks that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests belong to."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real recordings; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("DRIVING_VLM_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test data is not at {folder}; set DRIVING_VLM_SHARED_DATA")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, or with REQUIRE_GPU=1 fail, what this machine cannot run."""
    has_gpu: bool | None = None
    for item in items:
        if item.get_closest_marker("needs_gpu") and not os.environ.get("REQUIRE_GPU"):
            if has_gpu is None:
                import torch

                has_gpu = torch.cuda.is_available()
            if not has_gpu:
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
