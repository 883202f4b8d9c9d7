"""Two processes through the launcher, really: stopped in every way, on two "machines", and with a user's mistake.

One run is hit again and again and always started by the same command; its weights must be those of a run that nothing
disturbed. What the engines compute is in test_engines.py.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from forked_ranks import read_log  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from qwenvl.train.checkpoints import find_damage, list_checkpoints  # noqa: E402

pytestmark = [pytest.mark.needs_torch, pytest.mark.slow]
LIMIT_S = 900
NUM_STEPS = 40


@dataclass(frozen=True)
class Ended:
    """How a launcher ended."""

    code: int
    said: str
    complained: str


class Launcher:
    """One start of train_physical_ai_lora.sh, in a process group of its own."""

    def __init__(self, repository: Path, settings: dict[str, str]) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        self.process = subprocess.Popen(
            [str(repository / "train_physical_ai_lora.sh"), "--disable_tqdm", "True"],
            env={**kept, **settings}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait_for_step(self, output_dir: Path, step: int) -> None:
        end = time.monotonic() + LIMIT_S
        while not any(line["step"] >= step for line in read_log(output_dir)):
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)

    def list_ranks(self) -> list[int]:
        """Process ids of the ranks: the children that run the trainer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if "train_qwen" in Path(f"/proc/{child}/cmdline").read_text()]

    def end(self) -> Ended:
        said, complained = self.process.communicate(timeout=LIMIT_S)
        return Ended(self.process.returncode, said, complained)


@pytest.fixture(scope="module")
def launch(repository, tiny_model, training_json, tmp_path_factory):
    """launch(name, **environment): start two ranks on the CPU; gives the launcher and the run's folder."""
    folder = tmp_path_factory.mktemp("runs")
    launchers = []

    def start(name: str, **environment: str) -> tuple[Launcher, Path]:
        settings = {
            "NPROC_PER_NODE": "2", "MODEL_PATH": str(tiny_model), "DATASET": str(training_json),
            "OUTPUT_DIR": str(folder / name), "MAX_STEPS": str(NUM_STEPS), "SAVE_STEPS": "10", "BATCH_SIZE": "1",
            "GRAD_ACCUM_STEPS": "1", "VIDEO_FPS": "10", "LEARNING_RATE": "1e-2", "LORA_R": "4",
            "CUDA_VISIBLE_DEVICES": "", **environment,
        }  # fmt: skip
        launchers.append(Launcher(repository, settings))
        return launchers[-1], folder / name

    yield start
    for launcher in launchers:
        if launcher.process.poll() is None:
            os.killpg(launcher.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(launch) -> Path:
    launcher, folder = launch("whole")
    ended = launcher.end()
    assert ended.code == 0, ended.complained
    return folder


@pytest.fixture(scope="module")
def killed(launch):
    """A run of which one rank is killed: how it ended, and its folder."""
    launcher, folder = launch("hit")
    launcher.wait_for_step(folder, 11)
    os.kill(launcher.list_ranks()[1], signal.SIGKILL)
    return launcher.end(), folder


@pytest.fixture(scope="module")
def terminated(launch, killed):
    """The same run, started again and ended by SIGTERM to the launcher alone."""
    launcher, folder = launch("hit")
    launcher.wait_for_step(folder, 14)
    launcher.process.send_signal(signal.SIGTERM)
    return launcher.end(), folder, list_checkpoints(folder)


@pytest.fixture(scope="module")
def interrupted(launch, terminated):
    """The same run, started again and ended by Ctrl-C, which a terminal sends to the whole process group."""
    launcher, folder = launch("hit")
    launcher.wait_for_step(folder, terminated[2][0][0] + 2)
    os.killpg(launcher.process.pid, signal.SIGINT)
    return launcher.end(), folder


def test_the_launcher_says_which_rank_was_killed(killed):
    ended, _ = killed
    assert ended.code == 128 + signal.SIGKILL
    assert ended.complained.splitlines()[-1] == (
        "error: rank 1 was ended by SIGKILL; the machine may be out of memory (dmesg says so); "
        "run the same command again to continue"
    )


def test_sigterm_to_the_launcher_leaves_a_complete_checkpoint_at_the_step_it_came_in(terminated):
    ended, folder, checkpoints = terminated
    assert ended.code == 128 + signal.SIGTERM
    assert "continuing from" in ended.said
    assert f"stopped as asked; run the same command again to continue from {folder}" in ended.said
    assert ended.complained == ""
    step, newest = checkpoints[0]
    assert find_damage(newest) == ""
    assert read_log(folder)[-1]["step"] >= step >= 14
    assert step % 10 != 0  # not one that --save_steps wrote


def test_ctrl_c_ends_all_ranks_in_one_line(interrupted):
    ended, folder = interrupted
    assert ended.code == 128 + signal.SIGINT
    assert ended.complained.strip() == "interrupted; run the same command again to continue"
    assert not (folder / "manifest.json").exists()


def test_after_a_kill_a_stop_and_an_interrupt_the_same_command_ends_in_the_same_bits(launch, interrupted, whole):
    launcher, folder = launch("hit")
    ended = launcher.end()
    assert ended.code == 0, ended.complained
    expected, found = (load_file(run / "adapter_model.safetensors") for run in (whole, folder))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert [line["loss"] for line in read_log(folder)] == [line["loss"] for line in read_log(whole)]


def test_two_launchers_on_two_machines_train_as_one_with_two_processes_does(launch, whole):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    machines = {"NNODES": "2", "NPROC_PER_NODE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # One process a machine would take both cores; another thread count is another run.
    started = [launch("machines", NODE_RANK=str(rank), OMP_NUM_THREADS="1", **machines) for rank in (0, 1)]
    ends = [launcher.end() for launcher, _ in started]
    assert [ended.code for ended in ends] == [0, 0], ends
    expected, found = (load_file(run / "adapter_model.safetensors") for run in (whole, started[0][1]))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert "step 1/" not in ends[1].said  # the first machine alone reports


def test_a_mistake_is_said_once_and_without_the_report_of_torchrun(launch):
    launcher, _ = launch("mistaken", DATASET="nonsense")
    ended = launcher.end()
    assert ended.code == 1
    (line,) = ended.complained.splitlines()
    assert line.startswith("error: dataset 'nonsense' is not registered")


def test_a_port_that_is_taken_is_refused_before_anything_starts(launch):
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = str(taken.getsockname()[1])
        machines = {"NNODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        launcher, folder = launch("clash", **machines)
        ended = launcher.end()
    assert ended.code == 1
    assert ended.complained == (
        f"error: MASTER_PORT={port} cannot be opened on this machine (Address already in use); another run may hold "
        "it: give every machine of this run another one\n"
    )
    assert not folder.exists()
