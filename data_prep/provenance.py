"""Where data came from and what made it: the revision of a downloaded dataset, and the hash of our own code."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from driving.ledger import MANIFEST_NAME, PLAN_NAME

ROOMS = ("data_prep", "driving", "video_io")  # the code that decides what a dataset holds


def read_origin(folder: Path) -> dict[str, str]:
    """Repository and commit of recordings that download_dataset.py fetched; {} where the folder does not say."""
    try:
        plan = json.loads((folder / PLAN_NAME).read_text(encoding="utf-8"))
        return {"repo_id": str(plan["repo_id"]), "commit": str(plan["commit"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def read_summary_origin(folder: Path) -> dict[str, str]:
    """The same, as a folder of segments keeps it in its manifest."""
    try:
        found = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))["summary"]["origin"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


@cache
def hash_code() -> str:
    """One hash over the source files of the rooms that make datasets: names and bytes, in order."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def describe_origin(origin: dict[str, Any]) -> str:
    """ "nvidia/... at 0123456789ab", or that it is not known."""
    if not origin:
        return "not recorded"
    return f"{origin.get('repo_id', 'unknown')} at {origin.get('commit', 'unknown')}"
