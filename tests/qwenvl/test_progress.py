"""What a run says while it trains, and what it keeps quiet about."""

from __future__ import annotations

import json
import logging
import warnings
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
from qwenvl.train.progress import LogFile, format_step, sum_train_seconds  # noqa: E402
from qwenvl.train.quiet import HARMLESS, bars_on_terminals_only, drop_harmless_messages  # noqa: E402

pytestmark = pytest.mark.needs_torch


def write_log(path, elapsed_s):
    path.write_text("".join(json.dumps({"step": 1, "loss": 1.0, "elapsed_s": value}) + "\n" for value in elapsed_s))
    return path


def test_a_step_is_a_line_of_plain_numbers():
    logs = {"loss": 1.23456, "grad_norm": 0.5, "learning_rate": 0.0001, "epoch": 0.1}
    assert format_step(12, 3000, logs, 8.46) == "step 12/3,000  loss 1.2346  gradient 0.5  rate 1.00e-04  8.5 s"


def test_seconds_of_a_run_in_one_go_are_those_of_its_last_line(tmp_path):
    assert sum_train_seconds(write_log(tmp_path / "log", [1.0, 2.5, 4.0])) == 4.0


def test_seconds_of_a_continued_run_are_those_of_both_parts(tmp_path):
    assert sum_train_seconds(write_log(tmp_path / "log", [1.0, 2.5, 0.5, 3.0])) == 2.5 + 3.0


def test_the_log_never_holds_nan(tmp_path):
    arguments, state = SimpleNamespace(output_dir=tmp_path), SimpleNamespace(is_world_process_zero=True, global_step=3)
    LogFile().on_log(arguments, state, None, {"loss": 1.5, "grad_norm": float("nan"), "rate": float("inf")})
    line = json.loads((tmp_path / "training_log.jsonl").read_text(), parse_constant=pytest.fail)
    assert (line["step"], line["loss"], line["grad_norm"], line["rate"]) == (3, 1.5, None, None)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_message_is_dropped_and_another_of_the_same_library_is_not(name, caplog):
    drop_harmless_messages()
    logger = logging.getLogger(name)
    caplog.set_level(logging.WARNING, logger=name)  # another test may have turned transformers down
    logger.addHandler(caplog.handler)
    logger.warning("%s and its details", HARMLESS[name])
    logger.warning("something else")
    logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"something else"}


def test_dropping_twice_adds_one_filter():
    drop_harmless_messages()
    before = [len(logging.getLogger(name).filters) for name in HARMLESS]
    drop_harmless_messages()
    assert [len(logging.getLogger(name).filters) for name in HARMLESS] == before


def test_only_the_one_future_warning_is_dropped():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        drop_harmless_messages()
        warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed", FutureWarning, stacklevel=1)
        warnings.warn("another thing is deprecated", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["another thing is deprecated"]


def test_without_a_terminal_no_bar_is_drawn_and_bars_come_back():
    from transformers.utils import logging as transformers_logging

    transformers_logging.enable_progress_bar()
    with bars_on_terminals_only():
        assert not transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled()
