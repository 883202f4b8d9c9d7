"""What an adapter computes, by the formula it is named after; what it touches; and what stays frozen for good.

x = input (N, I), W = frozen weight (O, I), A (R, I), B (O, R), s = scale
LoRA: x W' + s x A' B'     rsLoRA: the same with s = alpha / root of R     DoRA: x (m (W + s B A) / |W + s B A|)'
"""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.argument import ModelArguments, TrainingArguments  # noqa: E402
from qwenvl.train.loading import load_model, load_processor  # noqa: E402
from qwenvl.train.parts import LANGUAGE, MERGER, VISION, part_of  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402
from qwenvl.train.trainer import plan_parameter_groups  # noqa: E402
from qwenvl.train.tuning import apply_tuning, list_lora_targets  # noqa: E402

pytestmark = pytest.mark.needs_torch

RANK, ALPHA = 4, 6.0


@pytest.fixture
def model(tiny_model):
    return load_model(tiny_model, attention="sdpa", dtype=torch.float32)


@pytest.fixture
def adapted(model):
    """adapted(**flags) -> (an adapted layer, its weight W, A, B), with B drawn: a fresh one is zero."""

    def build(**flags):
        arguments = ModelArguments(lora_enable=True, lora_r=RANK, lora_alpha=ALPHA, **{"lora_dropout": 0.0, **flags})
        tuned = apply_tuning(model, arguments)
        layer = tuned.get_submodule("base_model.model.model.language_model.layers.1.mlp.up_proj")
        low, high = layer.lora_A.default.weight, layer.lora_B.default.weight
        torch.nn.init.normal_(high, generator=torch.Generator().manual_seed(1))
        return layer, layer.base_layer.weight, low, high

    return build


@pytest.fixture(scope="module")
def inputs():
    return torch.randn(5, 32, generator=torch.Generator().manual_seed(0))


def test_an_adapter_adds_alpha_over_rank_of_what_it_learnt(adapted, inputs):
    layer, weight, low, high = adapted()
    torch.testing.assert_close(layer(inputs), inputs @ weight.T + ALPHA / RANK * (inputs @ low.T @ high.T))


def test_rslora_divides_by_the_root_of_the_rank(adapted, inputs):
    layer, weight, low, high = adapted(use_rslora=True)
    expected = inputs @ weight.T + ALPHA / math.sqrt(RANK) * (inputs @ low.T @ high.T)
    torch.testing.assert_close(layer(inputs), expected)


def test_dora_keeps_the_length_of_each_row_and_turns_it(adapted, inputs):
    layer, weight, low, high = adapted(use_dora=True)
    magnitude = layer.lora_magnitude_vector.default.weight
    torch.testing.assert_close(magnitude, weight.norm(dim=1))
    turned = weight + ALPHA / RANK * (high @ low)
    expected = inputs @ (magnitude[:, None] * turned / turned.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(layer(inputs), expected)
    assert magnitude.requires_grad


@pytest.mark.parametrize(("dropout", "repeats"), [(0.0, True), (0.5, False)])
def test_a_dropout_of_zero_is_none(adapted, inputs, dropout, repeats):
    layer = adapted(lora_dropout=dropout)[0].train()
    assert torch.equal(layer(inputs), layer(inputs)) == repeats


def test_targets_are_names_and_no_expressions(model):
    found = {name.rsplit(".", 1)[-1] for name in list_lora_targets(model, "v_proj, down_proj", {LANGUAGE})}
    assert found == {"v_proj", "down_proj"}
    for wanted in ("v_pro.", "v_proj|q_proj", ".*", "proj"):
        with pytest.raises(DrivingError, match="is no linear layer of the tuned parts"):
            list_lora_targets(model, wanted, {LANGUAGE})


def test_a_name_in_two_parts_is_adapted_in_the_tuned_one_only(model):
    arguments = ModelArguments(lora_enable=True, tune_mm_vision=True, tune_mm_llm=False, tune_mm_mlp=False)
    arguments.lora_target_modules = "linear_fc1"  # in the blocks, in the merger and in the DeepStack mergers
    names = [name for name, p in apply_tuning(model, arguments).named_parameters() if p.requires_grad]
    assert len(names) == 4 * 2 and all(".visual.blocks." in name for name in names)


# Learning rates


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"mm_projector_lr": 3e-4}, {LANGUAGE: 1e-3, MERGER: 3e-4, VISION: 1e-3}),
        ({"vision_tower_lr": 2e-5}, {LANGUAGE: 1e-3, MERGER: 1e-3, VISION: 2e-5}),
        ({"mm_projector_lr": 3e-4, "vision_tower_lr": 2e-5}, {LANGUAGE: 1e-3, MERGER: 3e-4, VISION: 2e-5}),
        ({}, {LANGUAGE: 1e-3, MERGER: 1e-3, VISION: 1e-3}),
    ],
)
def test_every_part_learns_at_its_own_rate(model, tmp_path, lora, rates, expected):
    tuned = apply_tuning(model, ModelArguments(lora_enable=lora, tune_mm_vision=True))
    settings = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-3, use_cpu=True, **rates)
    part_by_id = {id(parameter): part_of(name) for name, parameter in tuned.named_parameters()}
    groups = plan_parameter_groups(tuned, settings, set())
    found = {(part_by_id[id(p)], group["lr"]) for group in groups for p in group["params"]}
    assert found == set(expected.items())


# Frozen is frozen, with a head of its own too


@pytest.fixture(scope="module")
def untied_model(tiny_model, tmp_path_factory):
    """The tiny model with a head that is not the embedding."""
    folder = tmp_path_factory.mktemp("models") / "untied"
    config = transformers.AutoConfig.from_pretrained(tiny_model)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    torch.manual_seed(0)
    model = transformers.Qwen3VLForConditionalGeneration(config)
    model.save_pretrained(folder)
    load_processor(tiny_model).save_pretrained(folder)
    assert "lm_head.weight" in load_file(folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("flags", "learning"),
    [
        (("--tune_mm_llm", "False"), {MERGER}),
        (("--tune_mm_mlp", "False"), {LANGUAGE}),
        (("--tune_mm_llm", "False", "--tune_mm_mlp", "False", "--tune_mm_vision", "True"), {VISION}),
    ],
    ids=["merger", "language", "vision"],
)
def test_what_is_not_tuned_keeps_its_bits_through_training(untied_model, training_json, tmp_path, flags, learning):
    command = [
        "--model_name_or_path", str(untied_model), "--dataset_use", str(training_json), "--output_dir", str(tmp_path),
        "--per_device_train_batch_size", "2", "--learning_rate", "1e-2", "--weight_decay", "0.1", "--video_fps", "10",
        "--report_to", "none", "--dataloader_num_workers", "0", "--use_cpu", "True", "--warmup_steps", "0",
        "--max_steps", "2", "--save_strategy", "no", *flags,
    ]  # fmt: skip
    assert run(command) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (untied_model, tmp_path))
    assert before.keys() == after.keys()
    changed = {part_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert changed == learning
    assert torch.equal(before["lm_head.weight"], after["lm_head.weight"]) == (LANGUAGE not in learning)


def test_a_head_of_its_own_is_never_adapted(untied_model):
    model = load_model(untied_model, attention="sdpa", dtype=torch.float32)
    tuned = apply_tuning(model, ModelArguments(lora_enable=True, tune_mm_vision=True))
    assert not any("lora_" in name for name, _ in tuned.named_parameters() if "lm_head" in name)
    assert not tuned.get_output_embeddings().weight.requires_grad
    with pytest.raises(DrivingError, match="lm_head is no linear layer of the tuned parts"):
        list_lora_targets(load_model(untied_model, attention="sdpa", dtype=torch.float32), "lm_head", {LANGUAGE})


@pytest.mark.parametrize("llm", [True, False])
def test_a_tied_head_follows_the_embedding(model, llm):
    tuned = apply_tuning(model, ModelArguments(tune_mm_llm=llm))
    assert tuned.lm_head.weight is tuned.get_input_embeddings().weight
    assert tuned.lm_head.weight.requires_grad == llm
