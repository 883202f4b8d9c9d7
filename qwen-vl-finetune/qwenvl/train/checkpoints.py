"""Checkpoints that can be trusted: complete or passed over, of this run or refused.

    checkpoint-40/  weights or adapter, optimizer, schedule, random states, processor,
                    preprocessing.json, training_groups.json, base.json, ..., complete.json (last)

`complete.json` lists every file with its size. A checkpoint without it was being written when the run died; one that
does not hold what it lists was damaged since. Both are passed over, by name: half a checkpoint would be continued from
with a fresh optimizer and nobody would know.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.ledger import PLAN_NAME
from driving.whole_files import write_json
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.train.base_model import BaseModel, check_base

MARKER_NAME = "complete.json"
GROUPS_NAME = "training_groups.json"
PREFIX = "checkpoint-"


def write_companions(
    folder: Path, processor: Any, preprocessing: Preprocessing, groups: Sequence[Iterable[str]], base: BaseModel
) -> None:
    """What evaluation and serving need beside the weights, all of it readable by others as any written file is."""
    base.write(folder)
    processor.save_pretrained(folder)
    preprocessing.write(folder)
    write_json(Path(folder) / GROUPS_NAME, sorted(set().union(*groups)), indent=None)
    for path in Path(folder).glob("*.safetensors"):
        path.chmod(0o644)  # safetensors leaves its temporary file's 0600


def mark_complete(folder: Path, step: int, plan: dict[str, Any], num_processes: int = 1) -> None:
    """Flush every file of a checkpoint to disk, then write its marker, which lists them.

    Args:
        num_processes: how many wrote it; with --elastic not always those that the plan names.
    """
    sizes = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.name != MARKER_NAME:
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    facts = {"step": step, "plan_hash": hash_plan(plan), "processes": num_processes, "files": sizes}
    write_json(Path(folder) / MARKER_NAME, facts)


def find_damage(folder: Path) -> str:
    """Why a checkpoint cannot be continued from; "" where it holds all that its marker lists."""
    marker_path = Path(folder) / MARKER_NAME
    if not marker_path.exists():
        return "was only half written"
    try:
        marker = json.loads(marker_path.read_text(encoding="utf-8"))
        sizes = dict(marker["files"])
        _ = marker["step"], marker["plan_hash"], marker["processes"]
    except (ValueError, KeyError, TypeError) as error:
        return f"is damaged: its {MARKER_NAME} cannot be read ({error!r})"
    for name, size in sizes.items():
        path = Path(folder) / name
        if not path.is_file():
            return f"is damaged: {name} is gone"
        if path.stat().st_size != size:
            return f"is damaged: {name} holds {path.stat().st_size:,} of its {size:,} bytes"
    return ""


def hash_plan(plan: dict[str, Any]) -> str:
    """Sixteen hex digits that change when anything does that must stay for a run to be continued."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]


def list_checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint folder, complete or not, newest first."""
    found = []
    for path in Path(output_dir).glob(f"{PREFIX}*"):
        step = path.name.removeprefix(PREFIX)
        if path.is_dir() and step.isdigit():
            found.append((int(step), path))
    return sorted(found, reverse=True)


def read_step(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint stands at, by its name."""
    return int(Path(checkpoint).name.removeprefix(PREFIX))


def read_num_processes(checkpoint: Path) -> int:
    """How many processes wrote a complete checkpoint."""
    return json.loads((Path(checkpoint) / MARKER_NAME).read_text(encoding="utf-8"))["processes"]


def find_newest_complete(output_dir: Path, plan: dict[str, Any]) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint, and why each newer one was passed over.

    Raises:
        DrivingError: A complete checkpoint belongs to another run.
    """
    passed_over = []
    for _, folder in list_checkpoints(output_dir):
        damage = find_damage(folder)
        if damage:
            passed_over.append(f"{folder.name} {damage}")
            continue
        check_owner(folder, plan)
        return folder, passed_over
    return None, passed_over


def check_newest_base(output_dir: Path, base: BaseModel) -> None:
    """Raise where the newest complete checkpoint of a run stands on other weights than those at hand."""
    for _, folder in list_checkpoints(output_dir):
        if not find_damage(folder):
            check_base(base, folder, "put them back to continue, or pass --overwrite_output to start afresh")
            return


def find_asked(folder: Path, plan: dict[str, Any], base: BaseModel) -> Path:
    """The checkpoint that --resume_from_checkpoint names.

    Raises:
        DrivingError: It is not there, not whole, of another run, or of other base weights.
    """
    if not folder.is_dir():
        raise DrivingError(f"--resume_from_checkpoint {folder} is no folder; name a checkpoint, or leave the flag out")
    damage = find_damage(folder)
    if damage:
        raise DrivingError(f"--resume_from_checkpoint {folder} {damage}; name another, or leave the flag out")
    check_base(base, folder, "put them back, or leave --resume_from_checkpoint out")
    check_owner(folder, plan)
    return folder


def give_up_unstarted(output_dir: Path) -> bool:
    """Whether a run never came to a complete checkpoint or a result; its plan, log and ledgers are removed then."""
    folders = [folder for _, folder in list_checkpoints(output_dir)]
    if any((folder / MARKER_NAME).exists() for folder in folders) or any(Path(output_dir).glob("*.safetensors")):
        return False
    for folder in folders:
        shutil.rmtree(folder)
    for pattern in (PLAN_NAME, "train_plan.json", "training_log.jsonl", "eval_log.jsonl", "skipped*.jsonl"):
        for path in Path(output_dir).glob(pattern):
            path.unlink()
    return True


def check_owner(folder: Path, plan: dict[str, Any]) -> None:
    """Raise where a complete checkpoint belongs to another run, or has been renamed."""
    marker = json.loads((folder / MARKER_NAME).read_text(encoding="utf-8"))
    if marker["plan_hash"] != hash_plan(plan) or folder.name != f"{PREFIX}{marker['step']}":
        raise DrivingError(
            f"{folder} belongs to another run; give another --output_dir, or --overwrite_output to start afresh"
        )


def remove_old(output_dir: Path, keep: int | None, best_step: int | None = None) -> None:
    """Delete all but the best and the newest `keep` complete checkpoints, and what was left half written before."""
    if keep is None or keep < 1:
        return
    complete = [step for step, folder in list_checkpoints(output_dir) if not find_damage(folder)]
    if len(complete) < keep:
        return
    oldest_kept = complete[keep - 1]
    for step, folder in list_checkpoints(output_dir):
        if step < oldest_kept and step != best_step:
            # The marker first: a folder that is being deleted must not look complete.
            (folder / MARKER_NAME).unlink(missing_ok=True)
            shutil.rmtree(folder)


def hash_file(path: Path) -> str:
    """Sixteen hex digits of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
