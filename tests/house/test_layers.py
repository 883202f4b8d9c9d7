"""Imports run one way, and one file owns each heavy library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "driving": ROOT / "driving",
    "video_io": ROOT / "video_io",
    "data_prep": ROOT / "data_prep",
    "qwenvl.data": ROOT / "qwen-vl-finetune/qwenvl/data",
    "qwenvl.train": ROOT / "qwen-vl-finetune/qwenvl/train",
    "evaluation": ROOT / "evaluation",
}
MAY_IMPORT = {
    "driving": set(),
    "video_io": {"driving"},
    "data_prep": {"driving", "video_io"},
    "qwenvl.data": {"driving", "video_io"},
    "qwenvl.train": {"driving", "video_io", "qwenvl.data"},
    "evaluation": {"driving", "video_io", "qwenvl.data", "qwenvl.train"},
}
ALL_ROOMS = {*ROOMS, "systems", "qwenvl"}


def imported_modules(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "qwenvl" and len(parts) > 1 and parts[1] in ("data", "train"):
        return f"qwenvl.{parts[1]}"
    return parts[0] if parts[0] in ALL_ROOMS else ""


def files_of(room: str) -> list[Path]:
    return sorted(ROOMS[room].rglob("*.py"))


@pytest.mark.parametrize("room", list(ROOMS))
def test_a_room_imports_only_what_stands_below_it(room):
    strangers = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files_of(room)
        for name in imported_modules(path)
        if room_of(name) and room_of(name) != room and room_of(name) not in MAY_IMPORT[room]
    ]
    assert strangers == []


def test_no_system_imports_another_system():
    strangers = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "systems").rglob("*.py"))
        for name in imported_modules(path)
        if name.startswith("systems.") and name.split(".")[1] != path.relative_to(ROOT / "systems").parts[0]
    ]
    assert strangers == []


def test_the_spine_needs_the_standard_library_and_numpy_only():
    allowed = {*sys.stdlib_module_names, "numpy", "driving"}
    strangers = [
        f"{path.name} imports {name}"
        for path in files_of("driving")
        for name in imported_modules(path)
        if name.split(".")[0] not in allowed
    ]
    assert strangers == []


@pytest.mark.parametrize(
    "library, owners",
    [
        ("av", ("video_io/",)),
        ("torch", ("qwen-vl-finetune/", "evaluation/", "systems/")),
        ("datasets", ("data_prep/", "systems/")),
        ("physical_ai_av", ("data_prep/download/",)),
        ("peft", ("qwen-vl-finetune/qwenvl/train/", "evaluation/serving/merge.py")),
        ("deepspeed", ("qwen-vl-finetune/qwenvl/train/",)),
        ("gradio", ("evaluation/demo/page.py",)),
        ("ray", ("data_prep/executors/ray_tasks.py",)),
    ],
)
def test_a_heavy_library_has_one_owner(library, owners):
    users = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in files_of(room)
        if any(name.split(".")[0] == library for name in imported_modules(path))
    }
    assert {user for user in users if not user.startswith(owners)} == set()
