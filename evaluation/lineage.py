"""How an evaluation came to be, as commands: its data, its model (and what that was trained on top of), itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.lineage import read_commands
from driving.options import format_command
from evaluation.checkpoint import Checkpoint, read_plan

if TYPE_CHECKING:
    from evaluation.evaluate import EvaluateOptions

HOW_NOT_WHAT = ("rescore", "overwrite_output", "require_beat", "devices")
MAX_GENERATIONS = 8  # of models trained on top of one another


def collect_commands(checkpoint: Checkpoint, options: EvaluateOptions) -> dict[str, list[str]]:
    """Commands of "data", "model" and "evaluation", each oldest first; [] where the papers do not say."""
    return {
        "data": read_commands(options.test_data.parent),
        "model": _collect_training(checkpoint.plan),
        "evaluation": [format_command("scripts/evaluate.py", options, HOW_NOT_WHAT)],
    }


def _collect_training(plan: dict[str, Any]) -> list[str]:
    commands: list[str] = []
    for _ in range(MAX_GENERATIONS):
        if isinstance(plan.get("command"), str):
            commands.insert(0, plan["command"])
        base = plan.get("model")
        if not isinstance(base, str) or not Path(base).is_dir():
            break
        plan = read_plan(Path(base))
    return commands
