"""Which checkpoint is best: decided from what lies on the disk, so that a run that is killed decides the same.

    eval_log.jsonl (a line an evaluation) + complete checkpoints ──find_best──▶ the line of the best ──▶ best.json

An evaluation counts where a complete checkpoint stands at its step, where its numbers were taken on the rows that are
asked about now, and where at least 99 % of the answers can be read strictly (if they have a format).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from driving.whole_files import dump_json, write_json, write_text
from qwenvl.train import checkpoints
from qwenvl.train.answer_scores import EVAL_METRICS
from qwenvl.train.progress import replace_nonfinite

if TYPE_CHECKING:
    from qwenvl.train.validation import Evaluation

EVAL_LOG_NAME = "eval_log.jsonl"
BEST_NAME = "best.json"
MIN_STRICT_RATE = 0.99

Line = dict[str, Any]


def add_line(output_dir: Path, step: int, identity: str, evaluation: Evaluation) -> Line:
    """Write an evaluation to eval_log.jsonl: its numbers, and every answer beside the true one.

    Args:
        identity: of the ValidationSet.
    """
    answers = [
        {"id": row.id, "true": row.true, "generated": row.generated, "is_cut": row.is_cut}
        for row in evaluation.answered
    ]
    line = {
        "step": step,
        "set": identity,
        "metrics": replace_nonfinite(evaluation.metrics),
        "collapses": evaluation.collapses,
        "skips": [dataclasses.asdict(skip) for skip in evaluation.skips],
        "answers": answers,
    }
    path = Path(output_dir) / EVAL_LOG_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(dump_json(line) + "\n")
        handle.flush()
        os.fsync(handle.fileno())  # the checkpoint that is chosen by it is flushed too
    return line


def read_lines(output_dir: Path) -> dict[int, Line]:
    """The last evaluation of each step; a line that a kill tore is left out."""
    path = Path(output_dir) / EVAL_LOG_NAME
    if not path.exists():
        return {}
    lines = {}
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            line = json.loads(text)
            lines[line["step"]] = line
        except (ValueError, KeyError, TypeError):
            continue
    return lines


def drop_lines_after(output_dir: Path, step: int) -> None:
    """Forget the evaluations of weights that a kill has taken: they are made again."""
    path = Path(output_dir) / EVAL_LOG_NAME
    if path.exists():
        kept = [line for line in read_lines(output_dir).values() if line["step"] <= step]
        write_text(path, "".join(dump_json(line) + "\n" for line in kept))


def lacks_line(output_dir: Path, step: int, args: Any, steps_an_epoch: int, total_steps: int) -> bool:
    """Whether the weights of a step were due to be evaluated and were not: the run was stopped between.

    Args:
        args: the TrainingArguments.
    """
    if str(args.eval_strategy.value) == "epoch":
        every = steps_an_epoch
    else:
        every = math.ceil(args.eval_steps * total_steps) if args.eval_steps < 1 else args.eval_steps
    return step > 0 and step % every == 0 and step not in read_lines(output_dir)


def find_best(output_dir: Path, metric: str, identity: str) -> Line | None:
    """The evaluation of the best complete checkpoint; the earlier of two that are alike, None where none counts."""
    complete = {
        step for step, folder in checkpoints.list_checkpoints(output_dir) if not checkpoints.find_damage(folder)
    }
    best = None
    for step, line in sorted(read_lines(output_dir).items()):
        if step in complete and line["set"] == identity and is_better(line, best, metric):
            best = line
    return best


def is_better(line: Line, best: Line | None, metric: str) -> bool:
    """Whether an evaluation counts, and is better than the best so far."""
    if explain_unfit(line["metrics"], metric):
        return False
    if best is None:
        return True
    value, bar = line["metrics"][metric], best["metrics"][metric]
    return value > bar if EVAL_METRICS[metric] else value < bar


def explain_unfit(metrics: dict[str, Any], metric: str) -> str:
    """Why weights with these numbers can never be the best; "" where they can."""
    strict_rate = metrics.get("eval_strict_rate")
    if strict_rate is not None and strict_rate < MIN_STRICT_RATE:
        return f"{strict_rate:.1%} of the answers can be read strictly, {MIN_STRICT_RATE:.0%} is the least"
    value = metrics.get(metric)
    if value is None or not math.isfinite(value):
        return f"{metric} could not be taken"
    return ""


class BestCheckpoint:
    """The best checkpoint of a run, looked up on the disk whenever it is asked for; used by rank 0."""

    def __init__(self, output_dir: Path, metric: str, identity: str) -> None:
        self.output_dir = Path(output_dir)
        self.metric = metric
        self.identity = identity

    def find(self) -> Line | None:
        """The evaluation of the best complete checkpoint; None where none counts."""
        return find_best(self.output_dir, self.metric, self.identity)

    def find_folder(self) -> Path | None:
        """The best checkpoint; None where none counts."""
        line = self.find()
        return None if line is None else self.output_dir / f"{checkpoints.PREFIX}{line['step']}"

    def is_new(self, step: int) -> bool:
        """Whether the weights evaluated at a step are better than every complete checkpoint."""
        return is_better(read_lines(self.output_dir)[step], self.find(), self.metric)

    def record(self) -> Line | None:
        """Write best.json (none where no checkpoint counts), and say when it is another one; returns its evaluation."""
        line = self.find()
        path = self.output_dir / BEST_NAME
        before = json.loads(path.read_text(encoding="utf-8"))["step"] if path.exists() else None
        if line is None:
            path.unlink(missing_ok=True)
            return None
        value = line["metrics"][self.metric]
        facts = {
            "step": line["step"],
            "checkpoint": f"{checkpoints.PREFIX}{line['step']}",
            "metric": self.metric,
            "value": value,
            "metrics": line["metrics"],
        }
        write_json(path, facts)
        if line["step"] != before:
            tqdm.write(f"best so far: {facts['checkpoint']}, {self.metric} {value:.4g}")
        return line
