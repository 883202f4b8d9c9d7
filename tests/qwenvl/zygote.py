"""A process that has loaded the libraries once and forks a training command whenever it is asked. Not a test itself.

Importing them takes longer than the tiny runs that are killed here, and a fork of the test runner is no clean start:
it has used threads. Requests and answers are one JSON value a line: {"argv", "output"} -> pid, {"wait": pid} -> code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Zygote:
    """The test's end."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, argv: list[str], output: Path) -> Run:
        """Begin a run in a process group of its own; `output`.out and .err take what it says."""
        return Run(self, self._ask({"argv": argv, "output": str(output)}), output)

    def wait(self, pid: int) -> int:
        return self._ask({"wait": pid})

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, request: dict) -> int:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class Run:
    """One training command on its way."""

    def __init__(self, zygote: Zygote, pid: int, output: Path) -> None:
        self.pid = pid
        self._zygote, self._output = zygote, output

    def wait(self) -> int:
        """Its exit code, negative where a signal ended it."""
        return self._zygote.wait(self.pid)

    def read(self, stream: str) -> str:
        """What it said on "out" or "err"."""
        return self._output.with_suffix(f".{stream}").read_text()

    def wait_for_step(self, folder: Path, step: int, limit_s: float = 120.0) -> None:
        """Return when the log of the run in `folder` holds the step."""
        log, until_s = folder / "training_log.jsonl", time.monotonic() + limit_s
        while not log.exists() or f'"step": {step},' not in log.read_text():
            assert time.monotonic() < until_s, self.read("out") + self.read("err")
            time.sleep(0.002)


def serve() -> None:
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers

    # Classes that transformers loads when they are first asked for.
    _ = transformers.Trainer, transformers.Qwen3VLForConditionalGeneration, transformers.AutoProcessor
    from qwenvl.train import prepare, stopping, train_qwen, trainer  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            run_forked(request["argv"], request["output"])
        print(pid, flush=True)


def run_forked(argv: list[str], output: str) -> None:
    from qwenvl.train.train_qwen import train

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((0, "/dev/null"), (1, f"{output}.out"), (2, f"{output}.err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
    sys.exit(train(argv=argv))


if __name__ == "__main__":
    serve()
