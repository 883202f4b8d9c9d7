"""What a run says while it trains, and what it keeps quiet about."""

from __future__ import annotations

import json
import logging
import warnings
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
from qwenvl.train.progress import (  # noqa: E402
    LogFile,
    StepLines,
    format_duration,
    format_header,
    format_number,
    format_step,
    sum_train_seconds,
)
from qwenvl.train.quiet import HARMLESS, bars_on_terminals_only, drop_harmless_messages  # noqa: E402

pytestmark = pytest.mark.needs_torch


def write_log(path, elapsed_s):
    path.write_text("".join(json.dumps({"step": 1, "loss": 1.0, "elapsed_s": value}) + "\n" for value in elapsed_s))
    return path


LOGS = {
    "loss": 1.23456, "grad_norm": 0.5, "learning_rate": 0.0001, "epoch": 0.1, "samples_per_s": 4.2139,
    "supervised_tokens_per_s": 842.0, "visual_tokens_per_s": 7056.4, "data_wait_percent": 0.42,
    "peak_memory_gib": 18.26, "time_left_s": 3 * 86_400 + 4.2 * 3_600,
}  # fmt: skip
HEADER = "         step     loss       lr  gradient  samples/s  supervised/s  visual/s   wait    GiB     left"
LINE = " 1,200/30,000   1.2346  1.0e-04       0.5       4.21           842     7,056   0.4%   18.3    3d 4h"


def test_a_step_is_a_line_of_named_numbers_in_100_columns():
    assert [format_header(30_000), format_step(1_200, 30_000, LOGS)] == [HEADER, LINE]
    assert len(HEADER) == len(LINE) == 99


def test_the_warm_up_step_tells_no_time_left_and_what_is_unknown_is_a_dash():
    line = format_step(1, 9, {"loss": float("nan"), "samples_per_s": 0.0})
    assert line.split() == ["1/9", "nan", "-", "-", "0", "-", "-", "-", "-", "warm-up"]


def test_the_columns_of_a_very_short_run_stand_under_their_names():
    assert len(format_header(4)) == len(format_step(3, 4, LOGS)) == 4 + 86


def test_the_largest_numbers_keep_their_columns():
    logs = {**LOGS, "loss": 12_345.6, "grad_norm": 123_456.0, "data_wait_percent": 100.0, "peak_memory_gib": 139.0}
    assert len(format_step(1_200, 30_000, logs)) == 99


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0s"), (45.4, "45s"), (59.6, "1m 0s"), (750, "12m 30s"), (86_399, "23h 59m"), (86_400, "1d 0h"),
     (12.6 * 86_400, "12d 14h")],
)  # fmt: skip
def test_a_duration_is_said_in_two_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    "value, text", [(0, "0"), (0.0421, "0.042"), (0.42, "0.420"), (4.206, "4.21"), (42.06, "42.1"), (4206.4, "4,206")]
)
def test_a_rate_has_three_digits_that_count(value, text):
    assert format_number(value) == text


def test_the_header_comes_again_after_twenty_lines(capsys):
    lines, arguments = StepLines(), SimpleNamespace(disable_tqdm=True)
    for step in range(1, 42):
        state = SimpleNamespace(is_world_process_zero=True, global_step=step, max_steps=30_000)
        lines.on_log(arguments, state, None, LOGS)
    printed = capsys.readouterr().out.splitlines()
    assert [index for index, line in enumerate(printed) if line == HEADER] == [0, 21, 42]
    assert len(printed) == 41 + 3


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
