"""Several workers: the same answers as one, killed anywhere and continued, and deaths that are explained."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from driving.errors import DrivingError
from evaluation.asking import workers
from evaluation.asking.workers import list_devices, parse_devices
from evaluation.evaluate import EvaluateOptions, run
from qwenvl.train.generation import Generated

NUM_ROWS = 40


class SlowEngine:
    """Importable by a fresh process; says the row's number, its device's name is nobody's business."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    def read(self, record):
        return [type("Clip", (), {"frames": np.zeros((2, 4, 4, 3), np.uint8), "fps": 10.0})()]

    def prepare(self, record, clips):
        return record["id"]

    def generate(self, samples):
        time.sleep(self.pause_s)
        return [Generated(f"{name} is nowhere", 3, False, 7) for name in samples]

    def generate_constrained(self, samples):
        return self.generate(samples)

    def draw(self, samples, names, sampling, index):
        return [Generated(f"{name} {index}", 3, False, 7) for name in names]


def build_slow(planned, options):
    return SlowEngine(float(os.environ.get("PAUSE_S", "0"))), {"model": {"device": options.device}}


def build_refused(planned, options):
    raise DrivingError("the model of this worker is broken")


def build_killed(planned, options):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def many_rows(small_dataset, add_row):
    for index in range(NUM_ROWS - len(small_dataset.test_rows)):
        add_row(f"more_{index:02d}", f"clip{index // 3}", "test", (float(index), 0.0))
    return small_dataset


@pytest.fixture
def options(many_rows, tmp_path):
    return EvaluateOptions(
        model=str(many_rows.model),
        test_data=many_rows.test_data,
        output_dir=tmp_path / "results",
        bootstrap=20,
        batch_size=4,
        controls="none",
        device="cpu",
    )


@pytest.mark.parametrize("text", ["", "all", "cpu", "cuda:0,cuda:1", "cpux2", "cuda:0x2,cuda:1"])
def test_devices_that_can_be_asked_for(text):
    assert parse_devices(text) == text


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cpux0", "cuda:0;cuda:1", "cpu2", ","])
def test_devices_that_are_none_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is neither all nor a list such as cuda:0,cuda:1 or cpux2"):
        parse_devices(text)


def test_two_kinds_of_devices_are_refused():
    with pytest.raises(argparse.ArgumentTypeError, match="'cpu,cuda:0' mixes kinds"):
        parse_devices("cpu,cuda:0")


def test_a_number_behind_a_device_is_workers_on_it(monkeypatch):
    monkeypatch.setattr(workers, "_count_gpus", lambda: 2)
    assert list_devices("") == []
    assert list_devices("cpu x3") == ["cpu", "cpu", "cpu"]
    assert list_devices("cuda:0,cuda:1x2") == ["cuda:0", "cuda:1", "cuda:1"]
    assert list_devices("all") == ["cuda:0", "cuda:1"]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(workers, "_count_gpus", lambda: 1)
    with pytest.raises(DrivingError, match="--devices cuda:1: torch sees 1 GPUs here"):
        list_devices("cuda:0,cuda:1")
    monkeypatch.setattr(workers, "_count_gpus", lambda: 0)
    with pytest.raises(DrivingError, match="--devices all: torch sees no GPU here"):
        list_devices("all")


@pytest.mark.slow
@pytest.mark.needs_torch
def test_three_workers_write_what_one_writes(options, tmp_path):
    ways = {"num_samples": 2, "constrained": True}
    alone = run(dataclasses.replace(options, output_dir=tmp_path / "alone", **ways), build_slow)
    shared = run(dataclasses.replace(options, devices="cpux3", **ways), build_slow)
    for name in ("predictions.jsonl", "control_predictions.jsonl", "skipped.jsonl"):
        assert (tmp_path / "results" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert shared["speed"]["num_workers"] == 3
    free = ("speed", "message", "commands", "options")  # the folder's name is among the options
    assert {key: shared[key] for key in shared if key not in free} == {
        key: alone[key] for key in alone if key not in free
    }


@pytest.mark.slow
@pytest.mark.needs_torch
def test_a_workers_refusal_is_the_runs_refusal(options):
    with pytest.raises(DrivingError, match="^the model of this worker is broken$"):
        run(dataclasses.replace(options, devices="cpux2"), build_refused)


@pytest.mark.slow
@pytest.mark.needs_torch
def test_a_worker_that_is_killed_ends_the_run_with_a_line_that_helps(options):
    with pytest.raises(DrivingError, match=r"the worker on cpu died \(exit code -9; out of memory\?\); run the same"):
        run(dataclasses.replace(options, devices="cpux2"), build_killed)


STARTER = """
import sys
sys.path.insert(0, sys.argv[1])
from driving.errors import run_main
from evaluation.evaluate import EvaluateOptions, run
from driving.options import parse_options
from test_workers import build_slow
if __name__ == "__main__":
    sys.exit(run_main(lambda: print(run(parse_options(EvaluateOptions, sys.argv[2:]), build_slow)["message"]) or 0))
"""


def find_children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_takes_its_workers_along_and_goes_on(number, options, many_rows, tmp_path):
    starter = tmp_path / "starter.py"
    starter.write_text(STARTER)
    flags = ["--model", str(many_rows.model), "--test-data", str(many_rows.test_data), "--batch-size", "4"]
    flags += ["--output-dir", str(tmp_path / "results"), "--controls", "none", "--bootstrap", "20", "--device", "cpu"]
    command = [sys.executable, str(starter), str(Path(__file__).parent), *flags, "--devices", "cpux2"]
    parts = tmp_path / "results" / "parts"
    process = subprocess.Popen(command, env={**os.environ, "PAUSE_S": "0.5"}, stderr=subprocess.PIPE, text=True)
    while len(list(parts.glob("0*.jsonl"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    children = find_children(process.pid)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=300)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in complaint
    for child in children:
        for _ in range(500):
            if not Path(f"/proc/{child}").exists():
                break
            time.sleep(0.01)
        assert not Path(f"/proc/{child}").exists()
    num_done = len(list(parts.glob("0*.jsonl")))
    assert 2 <= num_done < NUM_ROWS / 4
    result = subprocess.run(command, env={**os.environ, "PAUSE_S": "0"}, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{NUM_ROWS} answers of ")
    run(dataclasses.replace(options, output_dir=tmp_path / "alone"), build_slow)
    assert (tmp_path / "results" / "predictions.jsonl").read_bytes() == (
        tmp_path / "alone" / "predictions.jsonl"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.needs_torch
def test_a_real_model_on_two_workers_answers_as_on_one(tiny_model, many_rows, tmp_path):
    from evaluation.evaluate import main
    from video_io.encode import write_video

    (many_rows.folder / "videos").mkdir()
    for index, row in enumerate(many_rows.test_rows):
        frames = np.random.default_rng(index).integers(0, 255, (10, 64, 96, 3)).astype(np.uint8)
        write_video(many_rows.folder / "videos" / f"{row.id}.mp4", frames, 10.0)

    def ask(name, *more):
        argv = [
            "--model",
            str(tiny_model),
            "--test-data",
            str(many_rows.test_data),
            "--output-dir",
            str(tmp_path / name),
        ]
        argv += ["--max-new-tokens", "8", "--bootstrap", "20", "--device", "cpu", "--controls", "frozen"]
        assert main([*argv, "--constrained", "--num-samples", "2", "--batch-size", "4", *more]) == 0
        return [(tmp_path / name / file).read_bytes() for file in ("predictions.jsonl", "control_predictions.jsonl")]

    assert ask("two", "--devices", "cpu x2") == ask("one")
    first = json.loads((tmp_path / "two" / "run.json").read_text())
    assert first["model"]["device"] == "cpu"
