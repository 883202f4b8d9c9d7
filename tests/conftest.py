"""Fixtures and marks that every room's tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# A shell's background job (`./run_tests.sh &`, nohup) ignores Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before any test imports torch

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests belong to."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What programs keep between runs must not come from, or stay in, the home of whoever runs the tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real recordings; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("DRIVING_VLM_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test data is not at {folder}; set DRIVING_VLM_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def real_processor(shared_data: Path):
    """The real Qwen3-VL-4B tokenizer, template and processors."""
    pytest.importorskip("torch")
    from qwenvl.train.loading import load_processor

    return load_processor(shared_data / "qwen3vl_processor")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Qwen3-VL of 0.2 million parameters."""
    pytest.importorskip("torch")
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_model(
        TinyModelOptions(
            output_dir=folder, hidden=32, layers=3, heads=2, kv_heads=1, intermediate=64, vision_hidden=32,
            vision_heads=2, vision_intermediate=48,
        )
    )  # fmt: skip
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
