"""A training run one of whose files hangs the decoder, or crashes it."""

from __future__ import annotations

import ctypes
import json
import time

import pytest

pytest.importorskip("torch")
from tiny_runs import list_flags  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from driving.ledger import read_ledger  # noqa: E402
from qwenvl.data.clips import read_clips  # noqa: E402
from qwenvl.train import prepare  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch


def arguments(tiny_model, training_json, output_dir, *extra: str) -> list[str]:
    flags = ("--lora_enable", "True", "--lora_r", "4", "--num_train_epochs", "1", "--dataloader_num_workers", "2")
    return list_flags(tiny_model, training_json, output_dir, *flags, *extra)


def fail_on(name: str, fail):
    """`read_clips`, but for one file."""

    def read(record, *args, **kwargs):
        if record["video"].endswith(name):
            fail()
        return read_clips(record, *args, **kwargs)

    return read


@pytest.mark.parametrize("num_workers", ["0", "1"])
def test_a_file_that_hangs_the_decoder_stops_the_run_with_its_row_in_one_line(
    num_workers, tiny_model, training_json, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepare, "read_clips", fail_on("06.mp4", lambda: ctypes.PyDLL(None).sleep(60)))
    flags = ("--decode_limit_s", "0.5", "--dataloader_num_workers", num_workers)
    with pytest.raises(DrivingError, match=r"^clip06_seg_00: decoding videos/06.mp4 took longer than 0.5 s, 3 times;"):
        run(arguments(tiny_model, training_json, tmp_path / "run", *flags))


def test_a_first_row_that_hangs_the_decoder_stops_the_run_before_the_model_is_loaded(
    tiny_model, training_json, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepare, "read_clips", fail_on("00.mp4", lambda: time.sleep(60)))
    monkeypatch.delattr(prepare.loading, "load_model")
    with pytest.raises(DrivingError, match=r"^clip00_seg_00: decoding videos/00.mp4 took longer than 0.5 s, 3 times;"):
        run(arguments(tiny_model, training_json, tmp_path / "run", "--decode_limit_s", "0.5"))


def test_a_file_that_crashes_the_decoder_goes_to_the_ledger_and_the_run_goes_on(
    tiny_model, training_json, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepare, "read_clips", fail_on("06.mp4", lambda: ctypes.string_at(0)))
    assert run(arguments(tiny_model, training_json, tmp_path / "run", "--dataloader_num_workers", "1")) == 0
    (skip,) = read_ledger(tmp_path / "run/skipped.jsonl")
    assert skip.id == "clip06_seg_00"
    assert "decoding videos/06.mp4 was ended by SIGSEGV, twice" in skip.reason


@pytest.mark.parametrize("limit_s", ["nan", "-1", "inf"])
def test_a_limit_that_is_none_is_refused(limit_s, tiny_model, training_json, tmp_path):
    with pytest.raises(DrivingError, match=r"--decode_limit_s .* must be a number of seconds, or 0 for no limit"):
        run(arguments(tiny_model, training_json, tmp_path / "run", "--decode_limit_s", limit_s))


def test_without_a_limit_the_same_losses_are_computed(tiny_model, training_json, tmp_path):
    def losses(name: str, limit_s: str) -> list[float]:
        assert run(arguments(tiny_model, training_json, tmp_path / name, "--decode_limit_s", limit_s)) == 0
        lines = (tmp_path / name / "training_log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    assert losses("with", "30") == losses("without", "0")
