"""Clocks, peak memory, children that measure one thing each, what a number was measured on, and how it is told."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.versions import read_versions

NUM_DROPPED = 3  # steps of a process on a GPU that are not counted: its kernels are chosen in them
PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "av", "numpy")
NUM_ERROR_LINES = 15


def build_parser(name: str, explanation: str | None) -> argparse.ArgumentParser:
    """The command line of benchmarks/`name`.py, whose docstring begins with what it measures; it has --json so far."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=(explanation or "").split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    return parser


def print_numbers(numbers: dict[str, Any], path: Path | None) -> None:
    """One JSON object as the last line of the output, and in the file that --json names."""
    line = json.dumps(numbers)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n", encoding="utf-8")
    print(line)


class StepClock:
    """Seconds of each step and its loss, between `start` and `stop`.

    Attributes:
        step_s: seconds of each step.
        cpu_s: processor seconds of each step, all threads of this process together; other work on the machine
            lengthens them less than `step_s`.
        losses: whatever each step's `stop` was given; a tensor is read at the end, not in the step.
        gap_s: seconds between the end of a step and the start of the next: what it waited for its batch.
    """

    def __init__(self, synchronize: Any = None) -> None:
        self.step_s: list[float] = []
        self.cpu_s: list[float] = []
        self.gap_s: list[float] = []
        self.losses: list[Any] = []
        self._synchronize = synchronize or (lambda: None)
        self._started_s = self._stopped_s = self._started_cpu_s = 0.0

    def start(self) -> None:
        self._started_s, self._started_cpu_s = time.perf_counter(), time.process_time()
        if self._stopped_s:
            self.gap_s.append(self._started_s - self._stopped_s)

    def stop(self, loss: Any = None) -> None:
        self._synchronize()
        self._stopped_s = time.perf_counter()
        self.step_s.append(self._stopped_s - self._started_s)
        self.cpu_s.append(time.process_time() - self._started_cpu_s)
        if loss is not None:
            self.losses.append(loss)


class EndsClock(StepClock):
    """A clock that waits for the device only where measuring begins and ends: after NUM_DROPPED steps, and the last."""

    def __init__(self, num_steps: int, synchronize: Any) -> None:
        self._ends = (NUM_DROPPED, num_steps)
        super().__init__(lambda: synchronize() if len(self.step_s) + 1 in self._ends else None)

    @property
    def wall_s(self) -> float:
        return sum(self.step_s[NUM_DROPPED:]) + self.waited_s

    @property
    def waited_s(self) -> float:
        return sum(self.gap_s[NUM_DROPPED - 1 :])

    def to_json(self) -> dict[str, Any]:
        """Seconds of the counted steps, and the most memory that this process used."""
        return {
            "wall_s": round(self.wall_s, 4),
            "waited_s": round(self.waited_s, 4),
            "num_steps": len(self.step_s) - NUM_DROPPED,
            **read_peak_memory(),
        }


def read_peak_memory() -> dict[str, int | None]:
    """The most that tensors and allocator held on the GPU; without one, the most resident memory."""
    import torch

    if not torch.cuda.is_available():
        return {"peak_memory_bytes": read_rss_bytes(peak=True), "peak_reserved_bytes": None}
    return {
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
    }


def read_rss_bytes(*, peak: bool = False) -> int:
    """Resident memory of this process now, or the most it ever was (Linux: VmRSS, VmHWM).

    Not `ru_maxrss`: that one survives an exec, so a child would begin with its parent's peak.
    """
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def run_child(
    arguments: Sequence[str],
    *,
    python: str = sys.executable,
    env: dict[str, str] | None = None,
    timeout_s: float | None = None,
) -> dict:
    """Run `python arguments` and return the JSON object on the last line of its output.

    Raises:
        RuntimeError: It failed; with the end of what it said.
        subprocess.TimeoutExpired: It took longer than `timeout_s`; it is killed.
    """
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=timeout_s
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-NUM_ERROR_LINES:])
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with {done.returncode}:\n{said}")
    return json.loads(done.stdout.splitlines()[-1])


def thread_settings(num_threads: int) -> dict[str, str]:
    """The environment that gives every child the same threads; waiting ones sleep, as other work shares the cores."""
    return {"OMP_NUM_THREADS": str(num_threads), "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}


def describe_processor() -> dict[str, Any]:
    """Processor, cores and memory of this machine: what needs no torch."""
    return {
        "processor": _read_value("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # Of the last minute: above the processes that were measured, other work shared the cores.
        "load_average": round(os.getloadavg()[0], 1),
    }


def describe_machine() -> dict[str, Any]:
    """The same, and the GPU."""
    import torch

    facts: dict[str, Any] = {**describe_processor(), "gpu": None}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    return facts


def describe_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Python's and the packages' versions, of those that are installed."""
    return {"python": platform.python_version(), **read_versions(packages)}


def _read_value(path: str, key: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []:
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return ""
