"""What a run does a second: samples, tokens, waiting for data, memory and the time that is left, over all ranks.

loader ──watch──▶ batches, counted and timed ──close_window──▶ this rank's row ──gather──▶ all ranks' rows ──▶ logs

Counts are host integers of the batch: nothing is read from the device between two log lines. A window reaches from one
log line to the next; the first step of a process (compile, caches, the workers' start) is left out of every window but
its own.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

GIB = 2**30
# One rank's row, in the order in which the ranks exchange it.
COUNTS = ("samples", "supervised_tokens", "visual_tokens")
Row = list[float]


class StepMeter(transformers.TrainerCallback):
    """Times the loader and counts batches, and turns both into the numbers of a log line.

    Args:
        read_memory_gib: peak memory of this process so far.
        clock: seconds, never going back.
    """

    def __init__(self, read_memory_gib: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._read_memory_gib = read_memory_gib
        self._clock = clock
        self._num_steps = 0
        self._warm_from_s = 0.0
        self._open_window()

    def _open_window(self) -> None:
        self._opened_s = self._clock()
        self._waited_s = 0.0
        self._counts = dict.fromkeys(COUNTS, 0)

    def watch(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The same batches; the time until each is there is waiting, collation in this process included."""
        while True:
            asked_s = self._clock()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self._waited_s += self._clock() - asked_s
            for name, count in count_batch(batch).items():
                self._counts[name] += count
            yield batch

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._num_steps = 0
        self._open_window()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._num_steps += 1
        if self._num_steps == 1:
            self._warm_from_s = self._clock()
            if not control.should_log:
                self._open_window()

    def close_window(self, gather: Callable[[Row], Sequence[Row]], num_steps_left: int) -> dict[str, float]:
        """The numbers of a log line; the next window begins.

        Rates are sums over the ranks. Waiting and memory are those of the rank that has most of it: the others wait
        for the slowest, and the fullest one runs out first. `time_left_s` is missing after the warm-up step alone.

        Args:
            gather: one row -> the rows of all ranks; called by all ranks at once.
        """
        now_s = self._clock()
        wall_s = max(now_s - self._opened_s, 1e-9)
        rows = gather([*self._counts.values(), 100 * self._waited_s / wall_s, self._read_memory_gib()])
        sums = [sum(column) for column in zip(*rows, strict=True)]
        logs = {f"{name}_per_s": round(total / wall_s, 3) for name, total in zip(COUNTS, sums, strict=False)}
        logs["data_wait_percent"] = round(min(100.0, max(row[-2] for row in rows)), 2)
        logs["peak_memory_gib"] = round(max(row[-1] for row in rows), 3)
        if self._num_steps > 1:
            seconds_a_step = (now_s - self._warm_from_s) / (self._num_steps - 1)
            logs["time_left_s"] = round(num_steps_left * seconds_a_step, 1)
        self._open_window()
        return logs


def count_batch(batch: dict[str, Any]) -> dict[str, int]:
    """Samples, supervised and visual tokens of a batch that still lies on the host."""
    return {
        "samples": batch["num_samples"],
        "supervised_tokens": batch["num_supervised"],
        "visual_tokens": batch["num_visual"],
    }


def read_peak_memory_gib(device: torch.device) -> float:
    """Most memory held by tensors on the GPU so far; on a CPU the process's peak resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage's peak survives an exec: it would be the launcher's.
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
