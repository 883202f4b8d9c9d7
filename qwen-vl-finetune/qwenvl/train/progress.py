"""What a run says while it trains: a line a logged step on the screen, and training_log.jsonl for programs.

on_log ──▶ "step 12/300  loss 1.234  lr 1.0e-04  8.5 s"     screen, above the bar
       ──▶ {"step": 12, "loss": 1.234, ..., "elapsed_s": 8.5}    training_log.jsonl
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import transformers
from tqdm import tqdm
from transformers.trainer_callback import ProgressCallback

from driving.ledger import dump_json, write_text

LOG_NAME = "training_log.jsonl"


class StepLines(ProgressCallback):
    """The bar (not with --disable_tqdm True), and a readable line for each logged step."""

    def __init__(self) -> None:
        super().__init__()
        self.started_s = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started_s = time.monotonic()
        if not args.disable_tqdm:
            super().on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.training_bar is not None:
            super().on_step_end(args, state, control, **kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.training_bar is not None:
            super().on_train_end(args, state, control, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            tqdm.write(format_step(state.global_step, state.max_steps, logs, time.monotonic() - self.started_s))


def format_step(step: int, num_steps: int, logs: dict[str, Any], elapsed_s: float) -> str:
    """One logged step as a person reads it."""
    words = [f"step {step:,}/{num_steps:,}", f"loss {logs['loss']:.4f}"]
    if "grad_norm" in logs:
        words.append(f"gradient {logs['grad_norm']:.3g}")
    if "learning_rate" in logs:
        words.append(f"rate {logs['learning_rate']:.2e}")
    return "  ".join([*words, f"{elapsed_s:,.1f} s"])


class LogFile(transformers.TrainerCallback):
    """training_log.jsonl: one line a logged step. A resumed run continues it where its checkpoint stood.

    `elapsed_s` counts from where this process began to train, so it starts again after every resume.
    """

    def __init__(self) -> None:
        self.started_s = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started_s = time.monotonic()
        path = Path(args.output_dir) / LOG_NAME
        if state.is_world_process_zero and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _read_step(line) <= state.global_step]
            write_text(path, "".join(f"{line}\n" for line in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            path = Path(args.output_dir) / LOG_NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            elapsed_s = round(time.monotonic() - self.started_s, 3)
            with path.open("a", encoding="utf-8") as handle:
                line = {"step": state.global_step, **replace_nonfinite(logs), "elapsed_s": elapsed_s}
                handle.write(dump_json(line) + "\n")


def replace_nonfinite(logs: dict[str, Any]) -> dict[str, Any]:
    """None for NaN and infinities, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in logs.items()
    }


def _read_step(line: str) -> float:
    """The step of a log line; infinity for a line that a kill tore."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


def sum_train_seconds(log_path: Path) -> float:
    """Seconds of training behind a run's weights, over all its processes; work lost to a kill is not in it."""
    elapsed_s = [json.loads(line).get("elapsed_s", 0.0) for line in log_path.read_text(encoding="utf-8").splitlines()]
    # A process's last line is where the next one's clock starts again, or where the log ends.
    ends_s = [now for now, then in zip(elapsed_s, [*elapsed_s[1:], 0.0], strict=True) if then <= now]
    return round(sum(ends_s), 3)
