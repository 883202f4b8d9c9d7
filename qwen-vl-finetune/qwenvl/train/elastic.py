"""Going on with another number of processes (--elastic): the same rows at every step, not the same bits.

    samples a step G = batch x accumulation x processes          8 GPUs: 2 x 4 x 8 = 64
    G stays, accumulation follows                                4 GPUs: 2 x 8 x 4 = 64

Step k of an epoch learns from rows [k G, (k + 1) G) of the epoch's order (bins of rows with --data_packing), whoever
computes them. As G stays, whatever is counted in steps (schedule, checkpoints, epochs) goes on unchanged. Random states
belong to a rank: they are drawn anew from (seed, step, rank).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import DrivingError
from driving.ledger import PLAN_NAME
from qwenvl.train import checkpoints
from qwenvl.train.engines import DATA_PARALLEL

# How a step's rows are shared out; what else the plan holds must match with --elastic too.
SHARES = ("batch_size", "gradient_accumulation_steps", "world_size", "OMP_NUM_THREADS")


def read_begun_plan(plan: Any) -> dict[str, Any] | None:
    """The plan of the run that would be continued; None where there is no complete checkpoint to continue from."""
    run = plan.run
    if run.overwrite_output:
        return None
    folder = Path(run.resume_from_checkpoint).parent if run.resume_from_checkpoint else Path(run.output_dir)
    path = folder / PLAN_NAME
    if not path.exists() or not any(
        not checkpoints.find_damage(one) for _, one in checkpoints.list_checkpoints(folder)
    ):
        return None
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None  # the claim of the folder says so
    return begun if isinstance(begun, dict) and all(name in begun for name in SHARES[:3]) else None


def share_out(plan: Any, begun: dict[str, Any]) -> str:
    """Set --gradient_accumulation_steps so that a step learns from as many rows as in the run that is continued.

    Returns:
        What was changed, for the plan that is printed; "" where nothing was.

    Raises:
        DrivingError: The batch of this many processes is no part of a step.
    """
    run = plan.run
    samples = begun["batch_size"] * begun["gradient_accumulation_steps"] * begun["world_size"]
    at_once = run.per_device_train_batch_size * plan.num_processes
    if samples % at_once:
        raise DrivingError(
            f"--elastic: {run.output_dir} learns from {samples} samples a step, which "
            f"{plan.num_processes} processes with {run.per_device_train_batch_size} at once cannot share; "
            "choose --per_device_train_batch_size so that it divides"
        )
    if samples // at_once == run.gradient_accumulation_steps:
        return ""
    run.gradient_accumulation_steps = samples // at_once
    return f"--elastic: {run.gradient_accumulation_steps} accumulation, so that a step stays {samples} samples"


def keep_shares(identity: dict[str, Any], begun: dict[str, Any]) -> dict[str, Any]:
    """The plan of this run, with the shares that the continued one began with: to its checkpoints it is the same."""
    kept = {name: value for name, value in identity.items() if name not in SHARES}
    return {**kept, **{name: begun[name] for name in SHARES if name in begun}}


def refuse_other_shares(identity: dict[str, Any], begun: dict[str, Any], output_dir: str) -> None:
    """Raise, without --elastic, where another number of processes is all that keeps a run from being continued."""
    if begun["world_size"] != identity["world_size"] and {"tool": "train", **keep_shares(identity, begun)} == begun:
        raise DrivingError(
            f"{output_dir} was begun with {begun['world_size']} processes, this run has {identity['world_size']}; "
            "train on with as many, or pass --elastic True: the same rows at every step, but not the same bits"
        )


def check_processes(checkpoint: Path, plan: Any, engine: str) -> None:
    """Raise where a checkpoint was written by another number of processes, unless --elastic may take it.

    DeepSpeed cuts its optimizer states for the processes that are there; no other number can read them.
    """
    found, now = checkpoints.read_num_processes(checkpoint), plan.num_processes
    if found == now:
        return
    if not plan.run.elastic:
        raise DrivingError(
            f"{checkpoint} was written by {found} processes, this run has {now}; train on with as many, or pass "
            "--elastic True: the same rows at every step, but not the same bits"
        )
    if engine != DATA_PARALLEL:
        raise DrivingError(
            f"--elastic: {checkpoint} holds optimizer states that {engine} cut for {found} processes, {now} cannot "
            f"read them; train on with {found} processes, or begin a run with these weights in another --output_dir"
        )


def draw_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a rank that goes on from a checkpoint which holds no random state for it."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
