"""Frozen is frozen, tuned is tuned, and each part has its own learning rate."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.argument import ModelArguments, TrainingArguments  # noqa: E402
from qwenvl.train.loading import load_model  # noqa: E402
from qwenvl.train.parts import LANGUAGE, MERGER, VISION, count_parameters, part_of  # noqa: E402
from qwenvl.train.trainer import plan_parameter_groups  # noqa: E402
from qwenvl.train.tuning import apply_tuning, list_lora_targets  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture
def model(tiny_model):
    return load_model(tiny_model, attention="sdpa", dtype=torch.float32)


def trainable_parts(model) -> set[str]:
    return {part for part, (trainable, _) in count_parameters(model).items() if trainable}


@pytest.mark.parametrize("llm", [True, False])
@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize("vision", [True, False])
def test_full_fine_tuning_trains_all_of_the_asked_parts_and_nothing_else(model, llm, mlp, vision):
    arguments = ModelArguments(tune_mm_llm=llm, tune_mm_mlp=mlp, tune_mm_vision=vision)
    for part, (trainable, total) in count_parameters(apply_tuning(model, arguments)).items():
        asked = {LANGUAGE: llm, MERGER: mlp, VISION: vision}[part]
        assert trainable == (total if asked else 0)


def test_a_deepstack_merger_is_a_merger_and_the_head_is_language():
    assert part_of("model.visual.deepstack_merger_list.2.norm.weight") == MERGER
    assert part_of("base_model.model.model.visual.merger.linear_fc1.bias") == MERGER
    assert part_of("model.visual.blocks.0.attn.qkv.weight") == VISION
    assert part_of("lm_head.weight") == LANGUAGE


def test_lora_trains_adapters_of_the_language_model_and_the_mergers_in_full(model):
    wrapped = apply_tuning(model, ModelArguments(lora_enable=True, lora_r=4))
    names = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
    assert trainable_parts(wrapped) == {LANGUAGE, MERGER}
    assert all("lora_" in name for name in names if part_of(name) == LANGUAGE)
    # 3 layers x 7 linear layers x 2 matrices; a merger and 3 DeepStack mergers x (norm and 2 linear) x 2
    assert sum("lora_" in name for name in names) == 3 * 7 * 2
    assert sum(part_of(name) == MERGER for name in names) == 4 * 3 * 2


def test_lora_without_the_mergers_leaves_them_alone(model):
    wrapped = apply_tuning(model, ModelArguments(lora_enable=True, tune_mm_mlp=False))
    assert trainable_parts(wrapped) == {LANGUAGE}


def test_lora_on_the_vision_tower_adapts_its_blocks_only(model):
    arguments = ModelArguments(lora_enable=True, tune_mm_llm=False, tune_mm_mlp=False, tune_mm_vision=True)
    names = [name for name, p in apply_tuning(model, arguments).named_parameters() if p.requires_grad]
    assert names and all(".visual.blocks." in name and "lora_" in name for name in names)


def test_attention_targets_are_upstreams_four(model):
    last_names = {name.rsplit(".", 1)[-1] for name in list_lora_targets(model, "attention", {LANGUAGE})}
    assert last_names == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_a_target_that_is_no_layer_is_refused_with_those_that_are(model):
    with pytest.raises(DrivingError, match="'query': query is no linear layer .* gate_proj"):
        list_lora_targets(model, "query", {LANGUAGE})


def test_dora_and_dropout_zero_reach_the_adapter(model):
    wrapped = apply_tuning(model, ModelArguments(lora_enable=True, lora_dropout=0.0, use_dora=True, use_rslora=True))
    config = wrapped.peft_config["default"]
    assert (config.lora_dropout, config.use_dora, config.use_rslora) == (0.0, True, True)


def test_each_part_has_its_own_learning_rate_and_needs_no_other(model, tmp_path):
    arguments = ModelArguments(tune_mm_vision=True)
    tuned = apply_tuning(model, arguments)
    run = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-3, vision_tower_lr=1e-5, use_cpu=True)
    groups = plan_parameter_groups(tuned, run, set())
    assert sorted({group["lr"] for group in groups}) == [1e-5, 1e-3]
    vision = {id(p) for name, p in tuned.named_parameters() if part_of(name) == VISION}
    slow = {id(p) for group in groups if group["lr"] == 1e-5 for p in group["params"]}
    assert slow == vision


def test_a_learning_rate_of_zero_is_zero(model, tmp_path):
    run = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-3, mm_projector_lr=0.0, use_cpu=True)
    groups = plan_parameter_groups(apply_tuning(model, ModelArguments()), run, set())
    assert {group["lr"] for group in groups} == {0.0, 1e-3}


def test_sixteen_bit_weights_get_fp32_masters_where_they_learn(tiny_model):
    model = load_model(tiny_model, attention="sdpa", dtype=torch.bfloat16)
    tuned = apply_tuning(model, ModelArguments(tune_mm_llm=False))
    for name, parameter in tuned.named_parameters():
        assert parameter.dtype == (torch.float32 if part_of(name) == MERGER else torch.bfloat16), name
