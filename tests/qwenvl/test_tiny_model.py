"""The tiny model is the real architecture, made offline, the same every time."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from driving.errors import DrivingError  # noqa: E402
from qwenvl.tiny_config import plan_mrope_section  # noqa: E402
from qwenvl.tiny_model import TinyModelOptions, check_sizes, make_tiny_model  # noqa: E402

pytestmark = pytest.mark.needs_torch
SMALL = {"hidden": 32, "layers": 3, "heads": 2, "kv_heads": 1, "intermediate": 64, "vision_hidden": 32,
         "vision_heads": 2, "vision_intermediate": 48}  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tiny_model, tmp_path):
    make_tiny_model(TinyModelOptions(output_dir=tmp_path / "again", **SMALL))
    for name in ("model.safetensors", "tokenizer.json", "config.json", "processor_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_model / name).read_bytes(), name
    make_tiny_model(TinyModelOptions(output_dir=tmp_path / "other", seed=1, **SMALL))
    other = (tmp_path / "other/model.safetensors").read_bytes()
    assert other != (tiny_model / "model.safetensors").read_bytes()


def test_a_folder_that_it_did_not_make_is_refused_and_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("a real model")
    with pytest.raises(DrivingError, match="holds files that this tool did not write .config.json"):
        make_tiny_model(TinyModelOptions(output_dir=tmp_path, **SMALL))
    assert (tmp_path / "config.json").read_text() == "a real model"


def test_a_finished_model_is_kept_and_other_sizes_are_refused_by_name(tmp_path):
    num_parameters = make_tiny_model(TinyModelOptions(output_dir=tmp_path, **SMALL))
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert make_tiny_model(TinyModelOptions(output_dir=tmp_path, **SMALL)) == num_parameters
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(DrivingError, match="was made with seed = 0, this run asks for 1"):
        make_tiny_model(TinyModelOptions(output_dir=tmp_path, seed=1, **SMALL))


def test_plain_transformers_loads_it(tiny_model):
    import transformers

    config = transformers.AutoConfig.from_pretrained(tiny_model)
    assert config.model_type == "qwen3_vl"
    assert config.vision_config.deepstack_visual_indexes == [0, 1, 2]
    processor = transformers.AutoProcessor.from_pretrained(tiny_model)
    assert type(processor).__name__ == "Qwen3VLProcessor"
    assert len(transformers.AutoTokenizer.from_pretrained(tiny_model)) == len(processor.tokenizer)


def test_digits_are_single_tokens_as_in_the_real_one(processor, real_processor):
    pair = "(12.3, -0.0042)"
    expected = ["(", "1", "2", ".", "3", ",", "Ġ-", "0", ".", "0", "0", "4", "2", ")"]
    assert processor.tokenizer.tokenize(pair) == expected == real_processor.tokenizer.tokenize(pair)


def test_the_chat_template_says_what_the_real_one_says(processor, real_processor):
    messages = [
        {"role": "system", "content": "Drive."},
        {"role": "user", "content": [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "How?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Fast."}]},
        {"role": "user", "content": "Sure?"},
    ]
    render = {"tokenize": False, "add_generation_prompt": True}
    ours = processor.apply_chat_template(messages, **render)
    assert ours == real_processor.apply_chat_template(messages, **render)


def test_rotary_frequencies_are_shared_out_as_in_the_real_model():
    assert plan_mrope_section(128) == [24, 20, 20]
    assert plan_mrope_section(32) == [6, 5, 5]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden": 100}, "--hidden 100 must be a multiple"),
        ({"layers": 2}, "three DeepStack features"),
        ({"kv_heads": 3}, "--heads 4 must be a multiple"),
        ({"vision_hidden": 50}, "--vision-hidden 50"),
        ({"vocab_size": 100}, "--vocab-size 100 is below"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, sizes, message):
    with pytest.raises(DrivingError, match=message):
        check_sizes(TinyModelOptions(output_dir=tmp_path, **sizes))
