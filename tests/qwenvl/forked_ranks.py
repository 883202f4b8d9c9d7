"""The ranks of one training run, forked from a process that has loaded torch, transformers, peft and DeepSpeed.

Starting two interpreters through a launcher costs half a minute of imports on two cores; a fork costs nothing. What a
rank then runs is the same command with the same environment that torchrun gives it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 900
PRELOAD = [
    "torch", "torch.utils.tensorboard", "transformers", "peft", "deepspeed", "accelerate", "torchvision",
    "qwenvl.train.train_qwen", "qwenvl.train.prepare", "qwenvl.train.trainer", "qwenvl.train.stopping",
    "qwenvl.train.result", "transformers.models.qwen3_vl.modeling_qwen3_vl",
    "transformers.models.qwen3_vl.processing_qwen3_vl",
]  # fmt: skip
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOAD)


@dataclass
class Ranks:
    """Processes of one run that are under way."""

    processes: list
    output_dir: Path
    log: Path

    def wait(self) -> list[int]:
        """The exit code of each rank."""
        end = time.monotonic() + LIMIT_S
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        if any(process.is_alive() for process in self.processes):
            self.kill()
            raise TimeoutError(f"ranks still run after {LIMIT_S} s: {self.log.read_text()[-4000:]}")
        return [process.exitcode for process in self.processes]

    def finish(self) -> Path:
        """Wait for an end without an error; returns the run's folder."""
        codes = self.wait()
        assert codes == [0] * len(codes), f"{codes} {self.log.read_text()[-6000:]}"
        return self.output_dir

    def kill(self) -> None:
        """kill -9, all at once."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def wait_for_step(self, step: int) -> None:
        """Return when the log holds the step; fail when a rank ends before."""
        end = time.monotonic() + LIMIT_S
        while step not in [line["step"] for line in read_log(self.output_dir)]:
            assert all(process.is_alive() for process in self.processes), self.log.read_text()[-6000:]
            assert time.monotonic() < end, self.log.read_text()[-6000:]
            time.sleep(0.005)


def start_ranks(argv: list[str], num_ranks: int) -> Ranks:
    """Start one command with so many ranks on this machine's CPU; one rank is a process without a group."""
    output_dir = Path(argv[argv.index("--output_dir") + 1])
    log = output_dir.with_suffix(".log")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        _context.Process(target=_run_rank, args=(argv, rank, num_ranks, port, str(log))) for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    return Ranks(processes, output_dir, log)


def train_with(argv: list[str], num_ranks: int = 2) -> Path:
    """Run one command to its end; returns its folder."""
    return start_ranks(argv, num_ranks).finish()


def read_log(output_dir: Path) -> list[dict]:
    """The whole lines of a run's log."""
    path = output_dir / "training_log.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _run_rank(argv: list[str], rank: int, num_ranks: int, port: int, log: str) -> None:
    with open(log, "ab", buffering=0) as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    if num_ranks > 1:
        here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
        os.environ.update({name: str(value) for name, value in here.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        error_file = Path(f"{log}.{port}") / str(rank) / "error.json"
        error_file.parent.mkdir(parents=True)
        os.environ["TORCHELASTIC_ERROR_FILE"] = str(error_file)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    torch.set_num_threads(1)
    from qwenvl.train.train_qwen import train

    sys.exit(train(argv=argv))
