"""Whether a finished folder still holds what it was finished with: names and sizes, nothing is read.

finish ──measure_files──▶ manifest "files" ──find_damage, on the next run──▶ names that are gone or of another size
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_LISTED = 1000  # files of one folder whose sizes are kept; of a larger one only their number


def measure_files(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """What the named files and folders under `folder` hold.

    Returns:
        "a/b.txt" -> bytes; of a folder with more than a thousand files "a" -> {"num_files": n}. Names that are not
        there are left out.
    """
    found: dict[str, Any] = {}
    for name in names:
        path = folder / name
        if path.is_dir():
            found |= _measure_folder(folder, path)
        elif path.is_file():
            found[name] = path.stat().st_size
    return dict(sorted(found.items()))


def find_damage(folder: Path, files: dict[str, Any]) -> list[str]:
    """The names of `measure_files` that are gone, of another size, or hold fewer files now; others do not matter."""
    damaged = []
    for name, measured in files.items():
        path = folder / name
        if isinstance(measured, dict):
            is_whole = path.is_dir() and len(_list_files(path)) >= measured["num_files"]
        else:
            is_whole = path.is_file() and path.stat().st_size == measured
        if not is_whole:
            damaged.append(name)
    return damaged


def _measure_folder(folder: Path, inner: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, subfolders, _ in os.walk(inner):
        subfolders.sort()
        entries = _list_files(Path(place))
        where = Path(place).relative_to(folder)
        if len(entries) > MAX_LISTED:
            found[where.as_posix()] = {"num_files": len(entries)}
        else:
            found |= {(where / entry.name).as_posix(): entry.stat().st_size for entry in entries}
    return found


def _list_files(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and entry.is_file()]
