"""A DeepSpeed config decides where things are kept, never what is learnt nor how fast."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.engines import check_deepspeed_config, check_engine, name_engine  # noqa: E402

pytestmark = pytest.mark.needs_torch
OURS = ["zero2", "zero3", "zero3_offload"]
EVERY_CONFIG = pytest.mark.parametrize("name", OURS)


@pytest.fixture
def config_of(repository):
    return lambda name: repository / f"qwen-vl-finetune/scripts/{name}.json"


@EVERY_CONFIG
def test_our_configs_leave_optimizer_schedule_and_every_number_to_the_flags(config_of, name):
    config = json.loads(config_of(name).read_text())
    assert not {"optimizer", "scheduler"} & config.keys()
    numbers = {"train_micro_batch_size_per_gpu", "train_batch_size", "gradient_accumulation_steps", "gradient_clipping"}
    assert {config[key] for key in numbers} == {"auto"}
    assert config["bf16"]["enabled"] == config["fp16"]["enabled"] == "auto"
    check_deepspeed_config(["--deepspeed", str(config_of(name))])


@pytest.mark.parametrize("section", ["optimizer", "scheduler"])
def test_a_config_that_brings_its_own_learning_rate_is_refused(tmp_path, section):
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({section: {"type": "AdamW", "params": {"lr": 3e-5}}, "zero_optimization": {"stage": 2}}))
    with pytest.raises(DrivingError, match=f'has a section "{section}", which would overrule --learning_rate'):
        check_deepspeed_config(["--deepspeed", str(path)])


def test_a_config_under_which_only_shards_would_be_saved_is_refused(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(DrivingError, match='would save shards .* "stage3_gather_16bit_weights_on_model_save": true'):
        check_deepspeed_config(["--deepspeed", str(path)])


def run_with(path, **changes):
    flags = {
        "deepspeed": str(path), "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "world_size": 8,
        "max_grad_norm": 1.0, "bf16": True, "fp16": False,
    }  # fmt: skip
    return SimpleNamespace(**{**flags, **changes})


@EVERY_CONFIG
def test_our_configs_fit_every_batch_and_precision(config_of, name):
    check_engine(run_with(config_of(name)))
    check_engine(run_with(config_of(name), bf16=False, max_grad_norm=0.5, world_size=3))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train_batch_size": 32}, '"train_batch_size" is 32, the flags and this machine say 64'),
        ({"gradient_accumulation_steps": 1}, '"gradient_accumulation_steps" is 1, the flags and this machine say 4'),
        ({"bf16": {"enabled": False}}, '"bf16" is false, the flags and this machine say true'),
    ],
)
def test_a_number_that_contradicts_the_flags_is_refused_with_both(tmp_path, values, said):
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}, **values}))
    with pytest.raises(DrivingError, match=said):
        check_engine(run_with(path))


def test_a_number_that_the_flags_say_too_is_taken(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text('{"train_batch_size": 64, "gradient_clipping": 1.0, "zero_optimization": {"stage": 2}}')
    check_engine(run_with(path))


def test_an_engine_is_named_by_all_that_its_checkpoints_depend_on(config_of):
    assert [name_engine(str(config_of(name))) for name in OURS] == [
        "ZeRO-2", "ZeRO-3", "ZeRO-3 with optimizer on cpu, param on cpu",
    ]  # fmt: skip
    assert name_engine(None) == "data parallel"
