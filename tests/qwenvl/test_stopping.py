"""A run that is asked to stop, or whose disk fills up, is continued as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from tiny_runs import assert_same_weights, list_flags  # noqa: E402

from driving.errors import LedgerError  # noqa: E402
from qwenvl.train.disk import explain_failed_save  # noqa: E402
from qwenvl.train.stopping import outlive_foreign_stop  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch


def command(tiny_model, training_json, output_dir) -> list[str]:
    flags = ("--lora_enable", "True", "--lora_r", "4", "--max_steps", "4", "--save_steps", "2")
    return list_flags(tiny_model, training_json, output_dir, *flags)


class AskToStop(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:  # the third step begins
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def whole(tiny_model, training_json, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(command(tiny_model, training_json, folder)) == 0
    return folder


def test_sigterm_ends_the_step_writes_a_checkpoint_and_the_run_goes_on_to_the_same_bits(
    whole, tiny_model, training_json, tmp_path, capsys
):
    argv = command(tiny_model, training_json, tmp_path / "run")
    before = signal.getsignal(signal.SIGTERM)
    assert run(argv, callbacks=[AskToStop()]) == 143
    assert "stopped as asked; run the same command again to continue from" in capsys.readouterr().out
    assert (tmp_path / "run/checkpoint-3/complete.json").exists()
    assert not (tmp_path / "run/manifest.json").exists()
    assert signal.getsignal(signal.SIGTERM) == before
    assert run(argv) == 0
    assert "continuing from" in capsys.readouterr().out
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.parametrize(("is_parent", "has_ended"), [(True, True), (False, False)], ids=["parent", "group"])
def test_a_worker_ends_when_its_own_process_says_so_and_not_with_the_group(is_parent, has_ended):
    worker = multiprocessing.get_context("fork").Process(target=_work, daemon=True)
    worker.start()
    try:
        time.sleep(0.3)
        if is_parent:
            worker.terminate()
        else:
            subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        worker.join(timeout=0.5)
        assert (worker.exitcode == 0) == has_ended
    finally:
        worker.kill()


def _work() -> None:
    outlive_foreign_stop()
    time.sleep(30)


def test_a_disk_that_fills_up_in_a_checkpoint_is_one_line_and_the_run_goes_on_to_the_same_bits(
    whole, tiny_model, training_json, tmp_path, monkeypatch
):
    argv = command(tiny_model, training_json, tmp_path / "run")
    save = torch.save
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda value, path, *a, **k: save(value, "/dev/full"))
        with pytest.raises(LedgerError, match="the disk is full while writing .*checkpoint-2; make room and run"):
            run(argv)
    assert run(argv) == 0
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.parametrize("num_values", [10, 1_000_000])
def test_torch_on_a_full_disk_is_one_line(num_values, tmp_path):
    with pytest.raises(LedgerError, match="the disk is full"), explain_failed_save(tmp_path):
        torch.save({"a": torch.zeros(num_values)}, "/dev/full")


def test_another_error_while_saving_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="shape"), explain_failed_save(tmp_path):
        raise RuntimeError("shape")


@pytest.mark.parametrize(("error", "is_said"), [(ConnectionResetError, False), (EOFError, False), (ValueError, True)])
def test_a_worker_that_is_cut_off_while_it_hands_a_batch_over_says_nothing(error, is_said, tmp_path):
    def work() -> None:
        os.dup2(os.open(tmp_path / "err", os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = os.fdopen(2, "w")
        outlive_foreign_stop()
        try:
            raise error("cut off")
        except error:
            sys.excepthook(*sys.exc_info())  # as multiprocessing's resource_sharer does
        sys.stderr.flush()

    worker = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    worker.start()
    worker.join()
    assert ("cut off" in (tmp_path / "err").read_text()) == is_said
