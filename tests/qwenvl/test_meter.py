"""What a log line says of the work since the last one, by a clock that the test turns."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
from tiny_runs import list_flags  # noqa: E402

from qwenvl.train.meter import StepMeter, read_peak_memory_gib  # noqa: E402

pytestmark = pytest.mark.needs_torch


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def batch_of(samples: int, supervised: int, visual: int) -> dict:
    return {"num_samples": samples, "num_supervised": supervised, "num_visual": visual}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def meter(clock):
    meter = StepMeter(lambda: 1.5, clock)
    meter.on_train_begin(None, None, None)
    return meter


def slow(clock, batches, wait_s):
    for batch in batches:
        clock.now_s += wait_s
        yield batch


def take_step(meter, clock, batches, *, wait_s, compute_s, logs):
    """One step: its batches from a loader that takes `wait_s` each, then `compute_s` of work."""
    assert list(meter.watch(slow(clock, batches, wait_s))) == batches
    clock.now_s += compute_s
    meter.on_step_end(None, None, SimpleNamespace(should_log=logs))


def alone(row):
    return [row]


def test_rates_are_counts_over_the_seconds_since_the_last_line(meter, clock):
    take_step(meter, clock, [batch_of(2, 50, 400)], wait_s=5, compute_s=5, logs=True)
    meter.close_window(alone, 9)
    take_step(meter, clock, [batch_of(2, 60, 400), batch_of(1, 20, 200)], wait_s=0.5, compute_s=3, logs=True)
    assert meter.close_window(alone, 8) == {
        "samples_per_s": 0.75,  # 3 in 2 * 0.5 + 3 = 4 s
        "supervised_tokens_per_s": 20.0,
        "visual_tokens_per_s": 150.0,
        "data_wait_percent": 25.0,
        "peak_memory_gib": 1.5,
        "time_left_s": 32.0,  # 8 steps like the one after the warm-up step
    }


def test_the_warm_up_step_is_logged_alone_and_foretells_nothing(meter, clock):
    take_step(meter, clock, [batch_of(4, 10, 10)], wait_s=18, compute_s=2, logs=True)
    logs = meter.close_window(alone, 9)
    assert (logs["samples_per_s"], logs["data_wait_percent"]) == (0.2, 90.0)
    assert "time_left_s" not in logs


def test_a_line_of_several_steps_leaves_the_warm_up_step_out(meter, clock):
    take_step(meter, clock, [batch_of(4, 10, 10)], wait_s=90, compute_s=10, logs=False)
    take_step(meter, clock, [batch_of(4, 10, 10)], wait_s=0, compute_s=2, logs=False)
    take_step(meter, clock, [batch_of(4, 10, 10)], wait_s=0, compute_s=2, logs=True)
    logs = meter.close_window(alone, 100)
    assert (logs["samples_per_s"], logs["data_wait_percent"], logs["time_left_s"]) == (2.0, 0.0, 200.0)


def test_ranks_are_summed_and_the_slowest_and_fullest_rank_counts(meter, clock):
    take_step(meter, clock, [batch_of(2, 30, 100)], wait_s=1, compute_s=9, logs=True)

    def two_ranks(row):
        return [row, [1, 10, 50, 60.0, 0.5]]

    logs = meter.close_window(two_ranks, 1)
    assert (logs["samples_per_s"], logs["supervised_tokens_per_s"], logs["visual_tokens_per_s"]) == (0.3, 4.0, 15.0)
    assert (logs["data_wait_percent"], logs["peak_memory_gib"]) == (60.0, 1.5)


def test_a_process_that_continues_begins_with_a_warm_up_step_again(meter, clock):
    for _ in range(3):
        take_step(meter, clock, [batch_of(1, 1, 1)], wait_s=0, compute_s=1, logs=True)
        meter.close_window(alone, 1)
    meter.on_train_begin(None, None, None)
    take_step(meter, clock, [batch_of(1, 1, 1)], wait_s=0, compute_s=1, logs=True)
    assert "time_left_s" not in meter.close_window(alone, 1)


def test_memory_on_a_cpu_is_the_peak_that_the_process_has_held():
    import resource

    block = torch.ones(2**25)  # 0.125 GiB, touched
    peak = read_peak_memory_gib(torch.device("cpu"))
    assert block.nbytes / 2**30 < peak <= 1.01 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def test_the_numbers_of_the_screen_are_in_the_log_and_in_tensorboard(tiny_model, training_json, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from qwenvl.train.train_qwen import run

    flags = ("--max_steps", "3", "--report_to", "tensorboard", "--logging_dir", str(tmp_path / "events"))
    assert run(list_flags(tiny_model, training_json, tmp_path / "run", *flags)) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/training_log.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    names = {
        "loss", "grad_norm", "learning_rate", "samples_per_s", "supervised_tokens_per_s", "visual_tokens_per_s",
        "data_wait_percent", "peak_memory_gib",
    }  # fmt: skip
    for name in names:
        found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert found == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines], name
    assert [event.step for event in events.Scalars("train/time_left_s")] == [2, 3]
    assert 0 < lines[-1]["data_wait_percent"] < 100  # no workers: decoding and collation are waited for
    printed = capsys.readouterr().out.splitlines()
    (header,) = [index for index, line in enumerate(printed) if line.split()[:2] == ["step", "loss"]]
    assert [line.split()[0] for line in printed[header + 1 : header + 4]] == ["1/3", "2/3", "3/3"]
    assert printed[header + 1].endswith("warm-up")
