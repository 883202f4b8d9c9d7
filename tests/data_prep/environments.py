"""An environment of its own for a library that conflicts with our lock, and a script run in it. Not a test itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OUTSIDE = dict(os.environ)  # before the tests' own XDG_CACHE_HOME, which would hide what uv has downloaded
NO_NEWER = "2026-11-22"  # of what the libraries themselves need: a later release is no news of our exports
READERS = Path(__file__).parent / "read_back"


def make_environment(folder: Path, requirements: list[str]) -> Path:
    """Install into `folder` with this Python's version; returns its interpreter, or skips saying why it cannot be."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on the PATH, which makes the environment of this test")
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    commands = (
        [uv, "venv", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--python", str(python), "--exclude-newer", NO_NEWER, *requirements],
    )
    for command in commands:  # outside our checkout, whose pyproject.toml overrides versions
        done = subprocess.run(command, cwd=folder.parent, env=OUTSIDE, capture_output=True, text=True)
        if done.returncode:
            reason = " ".join(done.stderr.split())  # uv breaks its lines where a name is long
            pytest.skip(f"{requirements[0]} cannot be installed here: {reason[-300:]}")
    return python


def run_reader(python: Path, name: str, *arguments: Path) -> Any:
    """What a script of read_back/ prints as its last line, read as JSON; nothing of ours and no hub is in its reach."""
    home = python.parents[1] / "home"
    hidden = {"HF_HOME": str(home / "hf"), "MODELSCOPE_CACHE": str(home / "ms"), "XDG_CACHE_HOME": str(home)}
    quiet = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    outside = {key: value for key, value in OUTSIDE.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [python, READERS / name, *arguments], cwd=home.parent, env={**outside, **hidden, **quiet}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
