"""Models are loaded by what they are; what is no model is refused by name."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.loading import (  # noqa: E402
    check_model_folder,
    choose_attention,
    load_model,
    load_processor,
)

pytestmark = pytest.mark.needs_torch


@pytest.fixture
def copy_of_model(tiny_model, tmp_path):
    folder = tmp_path / "qwen_a3b_physical"  # a name that fools readers of names
    shutil.copytree(tiny_model, folder)
    return folder


def test_the_class_comes_from_the_config_and_not_from_the_name(copy_of_model):
    check_model_folder(copy_of_model)
    model = load_model(copy_of_model, attention="sdpa", dtype=torch.float32)
    assert type(model).__name__ == "Qwen3VLForConditionalGeneration"


def test_a_folder_without_vocabulary_is_refused_by_name(copy_of_model):
    (copy_of_model / "tokenizer.json").unlink()
    with pytest.raises(DrivingError, match="qwen_a3b_physical has no vocabulary"):
        check_model_folder(copy_of_model)
    with pytest.raises(DrivingError, match="has no vocabulary"):
        load_processor(copy_of_model)


def test_a_tokenizer_of_another_family_is_refused(copy_of_model):
    tokenizer = json.loads((copy_of_model / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "<|video_pad|>"]
    (copy_of_model / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((copy_of_model / "tokenizer_config.json").read_text())
    config.pop("added_tokens_decoder", None)
    (copy_of_model / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(DrivingError, match=r"not <\|video_pad\|>"):
        load_processor(copy_of_model)


@pytest.mark.parametrize(
    ("config", "message"),
    [('{"model_type": "llama"}', "is a 'llama' model; this version trains qwen3_vl"), ("{", "is not a model config")],
)
def test_another_kind_of_model_is_refused(copy_of_model, config, message):
    (copy_of_model / "config.json").write_text(config)
    with pytest.raises(DrivingError, match=message):
        check_model_folder(copy_of_model)


def test_a_folder_that_is_not_there_is_refused_without_asking_the_hub(tmp_path):
    with pytest.raises(DrivingError, match="does not exist"):
        check_model_folder(tmp_path / "nothing")


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(DrivingError, match="holds no config.json"):
        check_model_folder(tmp_path)


def test_an_adapter_is_no_base_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(DrivingError, match="is an adapter, not a model"):
        check_model_folder(tmp_path)


def test_an_adapter_whose_base_has_gone_says_where_it_was(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/gone/base"}')
    with pytest.raises(DrivingError, match="was /gone/base, which is gone; pass --base-model"):
        load_for_inference(tmp_path)


@pytest.mark.parametrize("num_bytes", [0, 5000])
def test_weights_that_are_cut_short_are_one_line(copy_of_model, num_bytes):
    weights = copy_of_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:num_bytes])
    with pytest.raises(DrivingError, match="no model can be loaded from .*header.*; copy or download its files again"):
        load_model(copy_of_model, attention="sdpa", dtype=torch.float32)


def test_an_empty_tokenizer_file_is_one_line(copy_of_model):
    (copy_of_model / "tokenizer.json").write_text("{}")
    with pytest.raises(DrivingError, match="no processor can be loaded from .*; copy the processor's files again"):
        load_processor(copy_of_model)


def test_a_model_without_a_chat_template_is_refused(copy_of_model):
    (copy_of_model / "chat_template.jinja").unlink()
    with pytest.raises(DrivingError, match="has no chat template"):
        load_processor(copy_of_model)


@pytest.fixture
def adapter(tiny_model, tmp_path):
    """A LoRA adapter of the tiny model, as peft saves it."""
    from peft import LoraConfig, get_peft_model

    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    folder = tmp_path / "adapter"
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])).save_pretrained(folder)
    return folder


def cut_short(weights):
    weights.write_bytes(weights.read_bytes()[:-30])


def remove(weights):
    weights.unlink()


def drop_one(weights):
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, weights)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "adapter_model.safetensors cannot be loaded: .*; copy it again"),
        (remove, "adapter holds no adapter_model.safetensors"),
        (drop_one, "adapter_model.safetensors lacks 1 weights of its adapter .*layers.0.self_attn.q_proj.lora_A"),
    ],
)
def test_an_adapter_without_all_its_weights_is_refused(adapter, tiny_model, damage, message):
    load_for_inference(adapter, base_model=str(tiny_model))  # whole, it loads
    damage(adapter / "adapter_model.safetensors")
    with pytest.raises(DrivingError, match=message):
        load_for_inference(adapter, base_model=str(tiny_model))


def test_auto_takes_flash_attention_only_where_its_kernels_run(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert choose_attention("auto", torch.bfloat16) == "flash_attention_2"
    assert choose_attention("auto", torch.float32) == "sdpa"
    with pytest.raises(DrivingError, match="needs the flash-attn package, a GPU .* and 16 bits"):
        choose_attention("flash_attention_2", torch.float32)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert choose_attention("auto", torch.float16) == "sdpa"


def test_flash_attention_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_attention("auto") == "sdpa"
    with pytest.raises(DrivingError, match="a GPU of compute capability 8"):
        choose_attention("flash_attention_2")
    with pytest.raises(DrivingError, match="'fast' is none of auto"):
        choose_attention("fast")
