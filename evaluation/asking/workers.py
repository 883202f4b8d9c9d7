"""Several devices: one process each, taking the next missing part until none is left.

    missing parts ──shared counter──▶ worker on cuda:0 ──▶ parts/00000.jsonl, 00002.jsonl, ...
                                  └─▶ worker on cuda:1 ──▶ parts/00001.jsonl, ...

A part holds the same rows whoever answers it, so the answers are those of one worker. A worker that dies takes the
others along with a message; what is whole stays, and the same command goes on. A parent that is killed takes its
workers along.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from driving.errors import DrivingError
from driving.executors import count_cores

if TYPE_CHECKING:
    from evaluation.evaluate import EvaluateOptions
    from evaluation.planning import Run

_DEVICE = re.compile(r"(cpu|cuda(?::[0-9]{1,3})?)(?:\s*x\s*([1-9][0-9]{0,2}))?")


def parse_devices(text: str) -> str:
    """`all`, or a list of cpu, cuda, cuda:N, each alone or with a number of workers (`cpux2`); all of one kind."""
    parts = [part.strip() for part in text.split(",")]
    if text in ("", "all"):
        return text
    if not all(_DEVICE.fullmatch(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor a list such as cuda:0,cuda:1 or cpux2")
    if len({part[:3] for part in parts}) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} mixes kinds: an answer would depend on which of them gave it")
    return ",".join(parts)


def list_devices(text: str) -> list[str]:
    """One entry a worker; [] where nothing is asked for.

    Raises:
        DrivingError: A GPU is asked for that is not there.
    """
    if not text:
        return []
    num_gpus = _count_gpus() if text == "all" or "cuda" in text else 0
    if text == "all":
        if not num_gpus:
            raise DrivingError("--devices all: torch sees no GPU here; use --devices cpux2 for two workers on the CPU")
        return [f"cuda:{index}" for index in range(num_gpus)]
    found = []
    for part in text.split(","):
        device, count = _DEVICE.fullmatch(part).groups()
        if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= num_gpus:
            raise DrivingError(f"--devices {part}: torch sees {num_gpus} GPUs here; name cuda:0 up to that, or cpu")
        found += [device] * int(count or 1)
    return found


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def predict_on(
    devices: Sequence[str], planned: Run, options: EvaluateOptions, folder: Path, build_engine: Callable[..., Any]
) -> dict[str, Any]:
    """Write the missing parts with one worker a device; returns the facts that a worker reports of its model.

    Args:
        build_engine: importable by name, as processes are started afresh.

    Raises:
        DrivingError: A worker's, or a worker died.
    """
    from evaluation.asking.predict import list_missing, open_bar

    missing = list_missing(planned.job, folder)
    context = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork
    counter = context.Value("q", 0)
    slim = dataclasses.replace(planned, truth=planned.truth.take(np.zeros(0, np.int64)))  # truth is 6 kB a row
    workers = {}
    with open_bar(planned.job, missing) as bar, contextlib.ExitStack() as ending:
        for device in devices[: max(1, len(missing))]:
            ours, theirs = context.Pipe(duplex=False)
            asked = dataclasses.replace(options, device=device)
            task = (slim, asked, folder, build_engine, missing, counter, len(devices), os.getpid(), theirs)
            process = context.Process(target=_work, args=task, name=device)
            with _stop_signals_held():
                process.start()
            theirs.close()  # its end is then the worker's end
            ending.callback(_end, process)
            workers[ours] = process
        return _follow(workers, bar)


def _follow(workers: dict[connection.Connection, Any], bar: Any) -> dict[str, Any]:
    """Listen until every worker has said that it is through."""
    facts: dict[str, Any] = {}
    while workers:
        for pipe in connection.wait(list(workers)):
            try:
                kind, value = pipe.recv()
            except EOFError:
                process = workers.pop(pipe)
                process.join()
                if process.exitcode:
                    raise DrivingError(
                        f"the worker on {process.name} died (exit code {process.exitcode}; out of memory?); run the "
                        "same command again to continue, with a smaller --batch-size or fewer --devices if it does "
                        "so again"
                    ) from None
                continue
            if kind == "error":
                raise DrivingError(value)
            if kind == "facts":
                facts = value
            else:
                bar.update(value)
    return facts


@contextlib.contextmanager
def _stop_signals_held() -> Iterator[None]:
    """A process started here is born deaf to Ctrl-C, until it ignores it by itself."""
    from qwenvl.data.child_process import hold_stop_signals

    resource_tracker.ensure_running()  # its first start would open the signals again
    with hold_stop_signals():
        yield


def _end(process: Any) -> None:
    process.terminate()
    process.join()


def _work(
    planned: Run,
    options: EvaluateOptions,
    folder: Path,
    build_engine: Callable[..., Any],
    missing: list[int],
    counter: Any,
    num_workers: int,
    parent: int,
    pipe: connection.Connection,
) -> None:
    """One worker: load, then answer part after part, telling the rows of each."""
    from evaluation.asking.predict import answer_parts
    from qwenvl.data.child_process import STOP_SIGNALS, die_with_parent

    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the parent too, which ends us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    with pipe:
        try:
            _take_share(options.device, num_workers)
            engine, facts = build_engine(planned, options)
            pipe.send(("facts", facts))
            for num_rows in answer_parts(planned.job, engine, folder, _claim(missing, counter)):
                pipe.send(("rows", num_rows))
        except DrivingError as error:
            pipe.send(("error", str(error)))


def _claim(missing: Sequence[int], counter: Any) -> Iterator[int]:
    """Parts that no other worker has taken."""
    while True:
        with counter.get_lock():
            place = counter.value
            counter.value += 1
        if place >= len(missing):
            return
        yield missing[place]


def _take_share(device: str, num_workers: int) -> None:
    """A worker's part of the machine: its GPU, or its share of the cores; before torch is imported."""
    if not device.startswith("cuda"):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // num_workers)))
        return
    import torch

    torch.cuda.set_device(device if ":" in device else "cuda:0")
