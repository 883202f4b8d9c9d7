"""The doors: help at once, both spellings of every flag, errors in one line, and a bare Python for the converter."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOORS = [
    "download_dataset.py",
    "prepare_video_segments.py",
    "prepare_huggingface_dataset.py",
    "convert_to_training_format.py",
]
TOOLS = sorted(f"scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py"))
PRESS_AT_IMPORT = """
import sys

class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == "driving.options":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Pressed())
"""
HEAVY = ("torch", "datasets", "pandas", "pyarrow", "av", "transformers", "huggingface_hub")


def open_door(*words: str, python: tuple[str, ...] = (sys.executable,), **options) -> subprocess.CompletedProcess:
    return subprocess.run([*python, *words], cwd=ROOT, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("door", DOORS + TOOLS)
def test_help_answers_within_half_a_second_of_cpu(door):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = open_door(door, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0 and "usage: " in result.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # wall time is others' too


@pytest.mark.parametrize("door", DOORS)
def test_help_says_whether_running_twice_is_safe(door):
    assert "Running twice is safe" in open_door(door, "--help").stdout


@pytest.mark.parametrize("door", DOORS + TOOLS)
def test_help_imports_nothing_heavy(door):
    result = open_door("-X", "importtime", door, "--help")
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if "|" in line}
    assert imported.isdisjoint(HEAVY) and "driving.options" in imported


@pytest.mark.parametrize("door", DOORS)
def test_help_shows_both_spellings(door):
    assert "--output-dir OUTPUT_DIR, --output_dir OUTPUT_DIR" in open_door(door, "--help").stdout


@pytest.mark.parametrize("door", DOORS)
def test_a_door_can_be_run_by_its_name(door):
    assert os.access(ROOT / door, os.X_OK)
    assert (ROOT / door).read_text().startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize("door", DOORS)
def test_an_unknown_flag_is_a_usage_mistake(door):
    result = open_door(door, "--no-such-flag")
    assert result.returncode == 2 and "--no-such-flag" in result.stderr


@pytest.mark.parametrize(
    "door, flag, complaint",
    [
        ("prepare_huggingface_dataset.py", "--segments-path", "there is no index of segments"),
        ("convert_to_training_format.py", "--dataset-dir", "there is no dataset"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_1(door, flag, complaint, tmp_path):
    result = open_door(door, flag, str(tmp_path / "nothing"), "--output-dir", str(tmp_path / "out"))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and complaint in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("door", DOORS + TOOLS)
def test_a_ctrl_c_while_the_tool_is_imported_is_one_line(door, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(PRESS_AT_IMPORT)
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = open_door(door, "--help", env={**os.environ, "PYTHONPATH": paths})
    assert result.returncode == 130
    assert result.stderr == "\ninterrupted; run the same command again to continue\n"


def find_bare_python() -> tuple[str, ...]:
    """A Python without packages: the one the .venv was made from, told to see no site-packages."""
    base = getattr(sys, "_base_executable", sys.executable)
    return (base, "-S", "-E")


def test_the_converter_goes_on_in_the_venv_when_started_by_a_bare_python(tmp_path):
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("no .venv beside the door")
    result = open_door(
        "./convert_to_training_format.py", "--dataset-dir", str(tmp_path / "x"), python=find_bare_python()
    )
    assert result.returncode == 1 and "error: there is no dataset at" in result.stderr


def test_the_converter_without_any_venv_says_what_to_run(tmp_path):
    shutil.copy(ROOT / "convert_to_training_format.py", tmp_path)
    result = open_door(str(tmp_path / "convert_to_training_format.py"), python=find_bare_python())
    assert result.returncode == 1
    assert "error: this Python lacks datasets, pyarrow, tqdm" in result.stderr and "run uv sync" in result.stderr
