"""What a plan says about cost, by hand; and a dry run that says it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from qwenvl.data.lengths import Lengths  # noqa: E402
from qwenvl.train.argument import parse_plan  # noqa: E402
from qwenvl.train.estimate import list_grids, plan_batch, plan_memory, read_engine, sum_epoch  # noqa: E402
from qwenvl.train.estimate_report import estimate_seconds, format_hours, format_memory  # noqa: E402
from qwenvl.train.flops import Flops, Learning, Work  # noqa: E402
from qwenvl.train.memory import Engine, MicroBatch  # noqa: E402
from qwenvl.train.speed import Speed, Trial, measure_speed  # noqa: E402

pytestmark = pytest.mark.needs_torch

SAMPLE = {
    "input_ids": torch.zeros(100),
    "labels": torch.cat([torch.full((90,), -100), torch.zeros(10)]),
    "mm_token_type_ids": torch.cat([torch.full((60,), 2), torch.zeros(40)]),
    "videos": [torch.zeros(9, 64, 96, 3, dtype=torch.uint8)],
    "images": [],
}
LENGTHS = Lengths(np.array([100, 300, 200]), np.array([60, 100, 150]), np.array([10, 5, 20]))


def plan_of(*flags: str):
    return parse_plan(["--model_name_or_path", "m", "--use_cpu", "True", *flags])


def test_padded_rows_are_all_as_long_as_the_longest():
    plan = plan_of("--per_device_train_batch_size", "2")
    assert plan_batch(plan, SAMPLE, LENGTHS, merge=2) == MicroBatch(600, 300, supervised=30, patches=250 * 4)


def test_flattened_rows_hold_the_longest_samples_side_by_side():
    plan = plan_of("--per_device_train_batch_size", "2", "--data_flatten", "True")
    assert plan_batch(plan, SAMPLE, LENGTHS, merge=2).tokens == 300 + 200


def test_packed_rows_are_full_of_what_there_is():
    flags = ("--per_device_train_batch_size", "1", "--data_packing", "True", "--model_max_length", "400")
    # the densest in frames is 3 visual tokens of 4, in answers 1 of 10
    assert plan_batch(plan_of(*flags), SAMPLE, LENGTHS, merge=2) == MicroBatch(400, 300, 40, 300 * 4)


def test_without_lengths_every_row_is_like_the_first():
    plan = plan_of("--per_device_train_batch_size", "3")
    assert plan_batch(plan, SAMPLE, None, merge=2) == MicroBatch(300, 100, supervised=30, patches=180 * 4)
    epoch = sum_epoch(10, SAMPLE, [(5, 4, 6)], None, merge=2)
    assert epoch == Work(1000, 10 * 100**2 / 2, 100, 2400, 2400 * 24)


def test_an_epoch_is_the_sum_of_its_rows():
    epoch = sum_epoch(3, SAMPLE, [(5, 4, 6)], LENGTHS, merge=2)
    assert epoch == Work(600, (100**2 + 300**2 + 200**2) / 2, 35, 310 * 4, 310 * 4 * 24)


def test_nine_frames_are_five_pairs_of_patches():
    assert list_grids(SAMPLE, patch_px=16, frames_a_patch=2) == [(5, 4, 6)]


@pytest.mark.parametrize(
    "name, engine",
    [
        ("", Engine(4)),
        ("zero2", Engine(4, 2)),
        ("zero3", Engine(4, 3)),
        ("zero3_offload", Engine(4, 3, offloads_optimizer=True, offloads_weights=True)),
    ],
)
def test_our_deepspeed_configs_are_understood(repository, name, engine):
    path = str(repository / f"qwen-vl-finetune/scripts/{name}.json") if name else ""
    assert read_engine(path, 4) == engine


FLOPS = Flops(
    forward={"text": 4e12, "head": 1e12, "vision": 6e12, "mergers": 1e12},
    backward={"text": 4e12, "head": 1e12, "vision": 0.0, "mergers": 1e12},
    again={"text": 4e12, "head": 0.0, "vision": 0.0, "mergers": 0.0},
)


def test_seconds_are_operations_by_measured_speed_and_processes():
    # 16e12 of the language model's side at 2e12, 6e12 of the tower at 3e12: 10 s, by two processes 5 s
    assert estimate_seconds(FLOPS, Speed(2e12, 3e12), num_parallel=2) == 5.0


def test_the_hours_say_that_they_are_an_estimate_and_what_is_not_in_them():
    said = "\n".join(format_hours(FLOPS, Speed(2e12, 3e12), 1, total_steps=11))
    assert "about 10s for 11 steps (an estimate): 2 TFLOP a step of all processes, 18% of it by computing" in said
    assert "2 and 3 TFLOP/s timed here" in said and "waiting for data, saving and network not counted" in said


def test_no_hours_are_invented_where_nothing_could_be_timed():
    (line,) = format_hours(FLOPS, "one layer does not fit", 1, total_steps=11)
    assert line.startswith("time             not estimated: one layer does not fit; 2 TFLOP a step")


@pytest.fixture(scope="module")
def shapes(tiny_model):
    """The tiny model with LoRA, without weights."""
    from qwenvl.train.fast_vision import speed_up_vision
    from qwenvl.train.forward import use_driving_forward
    from qwenvl.train.loading import load_model
    from qwenvl.train.tuning import apply_tuning

    plan = plan_of("--lora_enable", "True", "--lora_r", "4")
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32, without_weights=True)
    speed_up_vision(model)
    use_driving_forward(model)
    return plan, apply_tuning(model, plan.model)


def trial_of(model, shape, learning) -> Trial:
    return Trial(
        model=model, shape=shape, learning=learning, device=torch.device("cpu"), dtype=torch.float32,
        num_samples=2, tokens=100, grid=(5, 4, 6),
    )  # fmt: skip


def test_a_layer_and_a_block_are_timed_and_the_model_is_left_as_it_was(shapes):
    plan, model = shapes
    memory = plan_memory(plan, model, SAMPLE, None)
    before = [(name, parameter.device.type, tuple(parameter.shape)) for name, parameter in model.named_parameters()]
    learning = Learning(frozenset({"merger"}), {"language": memory.parameters["language"][0]})
    speed = measure_speed(trial_of(model, memory.shape, learning))
    assert 1e6 < speed.text_flops_per_s < 1e13 and 1e6 < speed.vision_flops_per_s < 1e13
    assert before == [(name, p.device.type, tuple(p.shape)) for name, p in model.named_parameters()]


def test_a_layer_that_does_not_fit_is_the_reason_why_nothing_is_timed(shapes, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.nn.Module, "to_empty", refuse)
    plan, model = shapes
    memory = plan_memory(plan, model, SAMPLE, None)
    reason = measure_speed(trial_of(model, memory.shape, Learning()))
    assert reason == "one layer does not fit into the memory of this machine"


def test_four_bit_layers_are_not_timed_without_weights(shapes):
    class Params4bit(torch.nn.Parameter):
        pass

    fake = SimpleNamespace(parameters=lambda: iter([Params4bit(torch.zeros(1))]))
    reason = measure_speed(trial_of(fake, None, Learning()))
    assert reason == "4-bit layers cannot be timed without their weights"


def test_memory_that_is_not_there_is_a_warning(shapes):
    plan, model = shapes
    lines = format_memory(plan_memory(plan, model, SAMPLE, None), available_bytes=1)
    assert "(an estimate)" in lines[0] and "not counted" in lines[1]
    assert lines[2] == "warning          that is more than the 0.0000 GiB that this CPU has"


def test_a_dry_run_estimates_memory_and_time_of_the_engine_that_the_run_will_have(
    repository, tiny_model, training_json, tmp_path, capsys
):
    from qwenvl.train.train_qwen import run

    command = [
        "--model_name_or_path", str(tiny_model), "--dataset_use", str(training_json), "--output_dir",
        str(tmp_path / "run"), "--video_fps", "10", "--use_cpu", "True", "--report_to", "none", "--dry_run", "True",
        "--dry_run_processes", "2", "--data_packing", "True", "--model_max_length", "400",
    ]  # fmt: skip
    assert run([*command, "--dry_run_deepspeed", str(repository / "qwen-vl-finetune/scripts/zero3_offload.json")]) == 0
    said = capsys.readouterr().out
    assert "(an estimate): weights" in said and "GiB a process offloaded to the host" in said
    assert "all samples      tokens: median" in said and "0 rows left out (0.0%)" in said
    assert "rows of 400 tokens an epoch" in said and "% full" in said
    assert "TFLOP/s timed here" in said


@pytest.mark.parametrize("model_type", ["qwen3_vl_moe", "qwen2_5_vl"])
def test_other_families_are_counted_and_timed_too(model_type, training_json, tmp_path, capsys):
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model
    from qwenvl.train.train_qwen import run

    make_tiny_model(
        TinyModelOptions(
            output_dir=tmp_path / "model", model_type=model_type, hidden=32, layers=3, heads=2, kv_heads=1,
            intermediate=64, vision_hidden=32, vision_heads=2, vision_intermediate=48,
        )
    )  # fmt: skip
    command = [
        "--model_name_or_path", str(tmp_path / "model"), "--dataset_use", str(training_json), "--output_dir",
        str(tmp_path / "run"), "--video_fps", "10", "--use_cpu", "True", "--report_to", "none", "--dry_run", "True",
    ]  # fmt: skip
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "(an estimate): weights" in said and "TFLOP/s timed here" in said
