"""What a model folder says about itself, read without loading it: lineage, learning curve, what it was trained on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.whole_files import read_json

GROUPS_NAME = "training_groups.json"
PREPROCESSING_NAME = "preprocessing.json"
LOG_NAME = "training_log.jsonl"
PLAN_NAME = "train_plan.json"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
NOT_LOCAL = "not local"
_EDGE_BYTES = 1 << 20
_TAKE_AGAIN = "take the file from the training run again"


@dataclass(frozen=True)
class Checkpoint:
    """A model folder's own papers.

    Attributes:
        name: the path or hub id as the user gave it.
        fingerprint: 16 hex digits that change with the weights and their configuration.
        groups: what it was trained on; None where the folder does not say.
        preprocessing: as stored; None where the folder has none.
        base: of an adapter, the fingerprint of the base model that it will be put on, or its hub name; else "".
        log: lines of the training log, oldest first.
        plan: the resolved training plan, {} where unknown.
    """

    name: str
    fingerprint: str
    groups: frozenset[str] | None
    preprocessing: dict[str, Any] | None
    base: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder here; else a hub name, which has no papers."""
        return self.fingerprint != NOT_LOCAL


def read_checkpoint(model: str, base_model: str = "") -> Checkpoint:
    """Read a checkpoint's papers; the log and plan of a checkpoint-N folder stand in the run folder above it.

    Args:
        base_model: where an adapter's base model is now, if it has moved.

    Raises:
        DrivingError: The folder is not there, or a paper in it is not JSON of its shape.
    """
    folder = Path(model)
    if not model:
        raise DrivingError("--model is empty; give a model folder or a hub name")
    if not folder.is_dir():
        is_path = folder.is_absolute() or model.startswith((".", "~")) or len(folder.parts) > 2
        if is_path or (len(folder.parts) == 2 and folder.parent.is_dir()):
            raise DrivingError(f"the model folder {model} does not exist; give a model folder or a hub name")
        return Checkpoint(model, NOT_LOCAL, None, None)
    groups = _read_json(folder / GROUPS_NAME)
    if isinstance(groups, dict):
        groups = groups.get("groups")
    if groups is not None and not isinstance(groups, list):
        raise DrivingError(f"{folder / GROUPS_NAME} holds no list of recordings; {_TAKE_AGAIN}")
    preprocessing = _read_json(folder / PREPROCESSING_NAME)
    if preprocessing is not None and not isinstance(preprocessing, dict):
        raise DrivingError(f"{folder / PREPROCESSING_NAME} holds no JSON object; {_TAKE_AGAIN}")
    run = _find_run(folder)
    return Checkpoint(
        name=model,
        fingerprint=fingerprint_folder(folder),
        groups=None if groups is None else frozenset(str(group) for group in groups),
        preprocessing=preprocessing,
        base=_identify_base(folder, base_model),
        log=_read_log(run / LOG_NAME),
        plan=read_plan(folder),
    )


def read_plan(folder: Path) -> dict[str, Any]:
    """The training plan behind a model folder; {} where there is none.

    Raises:
        DrivingError: It is not JSON.
    """
    plan = _read_json(_find_run(folder) / PLAN_NAME)
    return plan if isinstance(plan, dict) else {}


def _find_run(folder: Path) -> Path:
    """The run that a model folder belongs to: itself, or the one above a checkpoint-N."""
    return folder if (folder / LOG_NAME).exists() or (folder / PLAN_NAME).exists() else folder.parent


def _identify_base(folder: Path, base_model: str) -> str:
    config = _read_json(folder / "adapter_config.json")
    if not isinstance(config, dict):
        return ""
    base = base_model or str(config.get("base_model_name_or_path"))
    return fingerprint_folder(Path(base)) if Path(base).is_dir() else base


def fingerprint_folder(folder: Path) -> str:
    """Hash of the small JSON files, and of size and first and last MiB of each weight file."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_WEIGHT_SUFFIXES):
            size = path.stat().st_size
            digest.update(f"{path.name}:{size}".encode())
            with path.open("rb") as handle:
                digest.update(handle.read(_EDGE_BYTES))
                handle.seek(max(0, size - _EDGE_BYTES))
                digest.update(handle.read(_EDGE_BYTES))
        elif path.name in (PREPROCESSING_NAME, "config.json", "adapter_config.json", "tokenizer.json"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _read_json(path: Path) -> Any:
    return read_json(path, _TAKE_AGAIN) if path.exists() else None


def _read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a training log; a last line cut short by a killed run is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            lines.append(entry)
    return lines
