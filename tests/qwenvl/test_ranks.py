"""How ranks and their launcher end: one line for each mistake, one exit code for all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
from torch.distributed.run import parse_args  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.ranks import ERROR_FILE_VARIABLE, run_rank  # noqa: E402
from qwenvl.train.torchrun import check_port, report_failures  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture
def as_rank(tmp_path, monkeypatch):
    """as_rank(n): be that rank of a machine on which torchrun has started several."""
    before = signal.getsignal(signal.SIGINT)

    def become(rank: int):
        error_file = tmp_path / str(rank) / "error.json"
        error_file.parent.mkdir(exist_ok=True)
        monkeypatch.setenv(ERROR_FILE_VARIABLE, str(error_file))
        return error_file

    yield become
    signal.signal(signal.SIGINT, before)


def mistaken() -> int:
    raise DrivingError("no such dataset")


def cut_off() -> int:
    raise RuntimeError("Connection closed by peer")


def test_two_ranks_with_one_mistake_say_it_once_and_both_tell_torchrun(as_rank, capsys):
    files = []
    for rank in (1, 0):
        files.append(as_rank(rank))
        assert run_rank(mistaken) == 1
    assert capsys.readouterr().err == "error: no such dataset\n"
    assert [json.loads(path.read_text())["message"] for path in files] == ["error: no such dataset"] * 2


def test_a_rank_that_loses_one_which_has_spoken_is_silent(as_rank, capsys):
    as_rank(1)
    run_rank(mistaken)
    as_rank(0)
    assert run_rank(cut_off) == 1
    assert capsys.readouterr().err == "error: no such dataset\n"


def test_a_rank_that_nobody_has_warned_keeps_its_traceback(as_rank):
    as_rank(0)
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        run_rank(cut_off)


def test_ctrl_c_ends_a_rank_at_once_as_it_waits_for_no_other(as_rank):
    as_rank(0)
    assert run_rank(lambda: 0) == 0
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def failure(exit_code: int, timestamp: int = 0):
    name = signal.Signals(-exit_code).name if exit_code < 0 else "<N/A>"
    return SimpleNamespace(exitcode=exit_code, timestamp=timestamp, signal_name=lambda: name)


def test_the_exit_code_is_that_of_the_first_rank_that_failed(capsys):
    assert report_failures({0: failure(1, timestamp=9), 1: failure(2, timestamp=8)}) == 2
    assert capsys.readouterr().err == ""  # both have said why


def test_a_rank_that_the_agent_ended_after_another_failed_is_no_cause(capsys):
    assert report_failures({0: failure(-15), 1: failure(-9, timestamp=1)}) == 137
    assert capsys.readouterr().err == (
        "error: rank 1 was ended by SIGKILL; the machine may be out of memory (dmesg says so); "
        "run the same command again to continue\n"
    )


def test_ranks_that_someone_else_ended_by_sigterm_say_so(capsys):
    assert report_failures({0: failure(-15)}) == 143
    assert capsys.readouterr().err == "error: rank 0 was ended by SIGTERM; run the same command again to continue\n"


def options(*words: str):
    return parse_args([*words, "--nproc_per_node", "1", "-m", "x"])


@pytest.fixture
def taken_port():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        yield str(taken.getsockname()[1])


def test_a_port_that_is_taken_is_refused_on_the_machine_that_opens_it(taken_port):
    with pytest.raises(DrivingError, match=f"MASTER_PORT={taken_port} cannot be opened on this machine"):
        check_port(options("--nnodes", "2", "--node_rank", "0", "--master_port", taken_port))


def test_the_other_machines_look_for_the_port_and_do_not_open_it(taken_port):
    check_port(options("--nnodes", "2", "--node_rank", "1", "--master_port", taken_port))


def test_one_machine_alone_needs_no_port(taken_port):
    check_port(options("--standalone", "--master_port", taken_port))


def test_a_launcher_leaves_nothing_in_the_folder_for_temporary_files(tmp_path):
    command = [sys.executable, "-m", "qwenvl.train.torchrun", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*command, "--no-python", "true"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, "", [])
