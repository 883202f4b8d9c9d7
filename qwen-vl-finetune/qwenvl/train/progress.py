"""What a run says while it trains: a line a logged step on the screen, and training_log.jsonl for programs.

on_log ──▶ a line under named columns                            screen, above the bar
       ──▶ {"step": 12, "loss": 1.234, ..., "elapsed_s": 8.5}    training_log.jsonl

The numbers come from transformers (loss, learning rate, gradient) and from qwenvl.train.meter (all others).
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

from driving.whole_files import dump_json, write_text

LOG_NAME = "training_log.jsonl"
LINES_A_HEADER = 20
WIDTHS = {
    "loss": 7, "lr": 7, "gradient": 8, "samples/s": 9, "supervised/s": 12, "visual/s": 8, "wait": 5, "GiB": 5,
    "left": 7,
}  # fmt: skip


class StepLines(ProgressCallback):
    """The bar (not with --disable_tqdm True), and a readable line for each logged step."""

    def __init__(self) -> None:
        super().__init__()
        self.num_lines = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
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
            if self.num_lines % LINES_A_HEADER == 0:
                tqdm.write(format_header(state.max_steps))
            self.num_lines += 1
            tqdm.write(format_step(state.global_step, state.max_steps, logs))


def format_header(num_steps: int) -> str:
    """The names of the columns, with their units; they repeat, so that the end of a long log can be read."""
    return "  ".join([f"{'step':>{_step_width(num_steps)}}", *(f"{name:>{width}}" for name, width in WIDTHS.items())])


def format_step(step: int, num_steps: int, logs: dict[str, Any]) -> str:
    """One logged step as a person reads it, in at most 100 columns for runs of up to 99,999 steps.

    The first line of a process says "warm-up" where the others say the time that is left: its rates hold what is
    done once only.
    """
    wait, left = logs.get("data_wait_percent"), logs.get("time_left_s")
    words = {
        "loss": _or_dash(logs["loss"], format_loss),
        "lr": _or_dash(logs.get("learning_rate"), "{:.1e}".format),
        "gradient": _or_dash(logs.get("grad_norm"), "{:.3g}".format),
        "samples/s": _or_dash(logs.get("samples_per_s"), format_number),
        "supervised/s": _or_dash(logs.get("supervised_tokens_per_s"), format_number),
        "visual/s": _or_dash(logs.get("visual_tokens_per_s"), format_number),
        "wait": _or_dash(wait, lambda percent: f"{percent:.1f}%" if percent < 99.95 else "100%"),
        "GiB": _or_dash(logs.get("peak_memory_gib"), "{:.1f}".format),
        "left": "warm-up" if left is None else format_duration(left),
    }
    first = f"{f'{step:,}/{num_steps:,}':>{_step_width(num_steps)}}"
    return "  ".join([first, *(f"{words[name]:>{width}}" for name, width in WIDTHS.items())])


def _step_width(num_steps: int) -> int:
    return max(len("step"), len(f"{num_steps:,}/{num_steps:,}"))


def _or_dash(value: float | None, format_value: Any) -> str:
    return "-" if value is None else format_value(value)


def format_loss(loss: float) -> str:
    return f"{loss:.4f}" if abs(loss) < 100 else f"{loss:.1f}"


def format_number(value: float) -> str:
    """Three digits that count: 0.042, 4.21, 42.1, 421, 4,210."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if math.isfinite(value) else 0
    return f"{value:,.{min(decimals, 3)}f}"


def format_duration(seconds: float) -> str:
    """Two units, as people say it: 45s, 12m 30s, 23h 59m, 3d 4h."""
    total = max(0, round(seconds))
    for unit_s, unit, part_s, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if total >= unit_s:
            return f"{total // unit_s}{unit} {total % unit_s // part_s}{part}"
    return f"{total}s"


class LogFile(transformers.TrainerCallback):
    """training_log.jsonl: one line a logged step, and one an evaluation.

    A resumed run continues it where its checkpoint stood.
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
        if state.is_world_process_zero and logs and ("loss" in logs or "eval_loss" in logs):
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
