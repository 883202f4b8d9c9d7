"""Merging: the weights that peft and bitsandbytes themselves come to, papers kept, another base refused, and proof."""

from __future__ import annotations

import json
import math
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")
import transformers  # noqa: E402
from adapters import ANSWER, make_adapter  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from evaluation.serving import merge  # noqa: E402
from evaluation.serving.merge import MergeOptions, run  # noqa: E402
from qwenvl.train import merging  # noqa: E402
from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.loading import load_model  # noqa: E402

pytestmark = pytest.mark.needs_torch
UP = "model.language_model.layers.1.mlp.up_proj.weight"
RANK, ALPHA = 4, 8


def options(adapter, tmp_path, **changes) -> MergeOptions:
    return MergeOptions(model=str(adapter), output_dir=tmp_path / "merged", device="cpu", **changes)


def read_pair(adapter, name: str = UP) -> tuple:
    """(A, B) of one adapted layer as the file holds them."""
    weights = load_file(adapter / "adapter_model.safetensors")
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    return weights[f"{stem}.lora_A.weight"], weights[f"{stem}.lora_B.weight"]


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    """A LoRA adapter with tuned mergers on the tiny model, never changed by a test."""
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapters") / "lora")


@pytest.fixture(scope="module")
def merged(adapter, tmp_path_factory):
    """(folder of the merged model, what `run` said), to be looked at only."""
    folder = tmp_path_factory.mktemp("merged")
    return folder / "merged", run(options(adapter, folder))


@pytest.fixture
def own_adapter(adapter, tmp_path):
    """The same to be spoilt."""
    return shutil.copytree(adapter, tmp_path / "own")


@pytest.fixture
def spoil(own_adapter):
    """spoil(change): the adapter with `change` applied to its dictionary of tensors."""

    def apply(change):
        path = own_adapter / "adapter_model.safetensors"
        weights = load_file(path)
        change(weights)
        save_file(weights, path, metadata={"format": "pt"})
        return own_adapter

    return apply


@pytest.mark.parametrize(("flags", "scale"), [({}, ALPHA / RANK), ({"use_rslora": True}, ALPHA / math.sqrt(RANK))])
def test_a_layer_gets_its_weight_and_the_scaled_product(tiny_model, tmp_path, flags, scale):
    folder = make_adapter(tiny_model, tmp_path / "a", **flags)
    run(options(folder, tmp_path))
    low, high = read_pair(folder)
    expected = load_file(tiny_model / "model.safetensors")[UP] + scale * high @ low
    torch.testing.assert_close(load_file(tmp_path / "merged/model.safetensors")[UP], expected)


def test_dora_turns_the_rows_and_takes_its_own_lengths(tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "a", use_dora=True)
    run(options(folder, tmp_path))
    low, high = read_pair(folder)
    stem = f"base_model.model.{UP.removesuffix('.weight')}"
    lengths = load_file(folder / "adapter_model.safetensors")[f"{stem}.lora_magnitude_vector"]
    turned = load_file(tiny_model / "model.safetensors")[UP] + ALPHA / RANK * high @ low
    expected = lengths[:, None] * turned / turned.norm(dim=1, keepdim=True)
    torch.testing.assert_close(load_file(tmp_path / "merged/model.safetensors")[UP], expected)


def test_qlora_is_added_to_the_weights_as_bitsandbytes_reads_them_back(tiny_model, tmp_path):
    from bitsandbytes.functional import dequantize_4bit

    folder = make_adapter(tiny_model, tmp_path / "a", load_in_4bit=True)
    assert run(options(folder, tmp_path))["dequantised"] is True
    quantised = load_model(tiny_model, attention="sdpa", dtype=torch.float32, load_in_4bit=True)
    weight = quantised.get_parameter(UP)
    low, high = read_pair(folder)
    expected = dequantize_4bit(weight.data, weight.quant_state) + ALPHA / RANK * high @ low
    torch.testing.assert_close(load_file(tmp_path / "merged/model.safetensors")[UP], expected)
    assert "quantization_config" not in json.loads((tmp_path / "merged/config.json").read_text())


def test_mergers_that_were_tuned_take_the_place_of_the_bases(adapter, tiny_model, merged):
    weights, base = load_file(merged[0] / "model.safetensors"), load_file(tiny_model / "model.safetensors")
    trained = load_file(adapter / "adapter_model.safetensors")
    tuned = [name for name in base if ".merger." in name or "deepstack_merger_list" in name]
    assert len(tuned) == 4 * 6  # a norm and two linear layers each
    for name in tuned:
        assert torch.equal(weights[name], trained[f"base_model.model.{name}"])
        assert not torch.equal(weights[name], base[name])
    assert {name: tensor.shape for name, tensor in weights.items()} == {name: t.shape for name, t in base.items()}


NEEDS_519 = pytest.mark.skipif(transformers.__version__ < "5.19", reason="transformers 5.17 is refused")


@pytest.mark.parametrize("model_type", ["qwen3_vl_moe", pytest.param("qwen2_5_vl", marks=NEEDS_519)])
def test_every_family_is_merged_under_the_names_of_its_base(model_type, tmp_path):
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    make_tiny_model(
        TinyModelOptions(
            output_dir=tmp_path / "base", model_type=model_type, hidden=32, layers=3, heads=2, kv_heads=1,
            intermediate=64, vision_hidden=32, vision_heads=2, vision_intermediate=48,
        )
    )  # fmt: skip
    folder = make_adapter(tmp_path / "base", tmp_path / "a")
    parity = run(options(folder, tmp_path))["parity"]
    assert parity["rms_difference"] < 1e-5 * parity["spread"]
    shapes = [
        {name: tensor.shape for name, tensor in load_file(place / "model.safetensors").items()}
        for place in (tmp_path / "base", tmp_path / "merged")
    ]
    assert shapes[0] == shapes[1]


def test_adapters_in_the_tower_are_merged_too(tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "a", tune_mm_vision=True)
    run(options(folder, tmp_path))
    name = "model.visual.blocks.0.attn.qkv.weight"
    low, high = read_pair(folder, name)
    expected = load_file(tiny_model / "model.safetensors")[name] + ALPHA / RANK * high @ low
    torch.testing.assert_close(load_file(tmp_path / "merged/model.safetensors")[name], expected)


def test_16_bits_are_rounded_once_from_the_sum_in_32(tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "a", precision="bf16")
    parity = run(options(folder, tmp_path))["parity"]
    low, high = read_pair(folder)
    weight = load_file(tiny_model / "model.safetensors")[UP].to(torch.bfloat16)  # as it was loaded for training
    expected = (weight.float() + ALPHA / RANK * high @ low).to(torch.bfloat16)
    assert torch.equal(load_file(tmp_path / "merged/model.safetensors")[UP], expected)
    assert parity["weights_dtype"] == "bfloat16" and 0 < parity["rms_difference"] < 0.1 * parity["spread"]


def test_the_logits_are_those_of_the_adapter_and_the_proof_lies_beside_them(adapter, merged):
    folder, result = merged
    parity = json.loads((folder / "parity.json").read_text())
    assert result["parity"] == parity
    assert parity["same_choice"] == 1.0 and parity["rms_difference"] < 1e-5 * parity["spread"]
    tokenizer = load_for_inference(adapter)[1].tokenizer
    assert parity["num_tokens"] == len(tokenizer(ANSWER)["input_ids"]) + 1  # and its end token
    assert "logits of" in result["message"] and "first choice at 100.0%" in result["message"]


def test_a_merge_that_answers_otherwise_is_refused_and_leaves_no_weights(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "merge_layers", lambda model, folder: model.unload())  # the adapters are forgotten
    with pytest.raises(DrivingError, match=r"does not answer as .* its weights were removed, .*parity.json holds the"):
        run(options(adapter, tmp_path))
    left = {path.name for path in (tmp_path / "merged").iterdir()}
    assert "parity.json" in left and left.isdisjoint({"model.safetensors", "config.json", "manifest.json"})


def test_what_evaluation_and_serving_read_is_kept_byte_for_byte(own_adapter, tmp_path):
    (own_adapter / "training_log.jsonl").write_text('{"step": 1}\n')
    run(options(own_adapter, tmp_path))
    for name in (
        "preprocessing.json", "training_groups.json", "base.json", "training_log.jsonl", "tokenizer.json",
        "tokenizer_config.json", "processor_config.json", "chat_template.jinja",
    ):  # fmt: skip
        assert (tmp_path / "merged" / name).read_bytes() == (own_adapter / name).read_bytes(), name


def test_the_log_of_a_checkpoint_is_taken_from_its_run(own_adapter, tmp_path):
    checkpoint = own_adapter.rename(tmp_path / "checkpoint-4")
    (tmp_path / "training_log.jsonl").write_text('{"step": 4}\n')
    run(options(checkpoint, tmp_path))
    assert (tmp_path / "merged/training_log.jsonl").read_text() == '{"step": 4}\n'


def test_plain_transformers_loads_the_result(merged):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(merged[0], dtype="auto")
    processor = AutoProcessor.from_pretrained(merged[0])
    ids = processor.tokenizer("Where?", return_tensors="pt")["input_ids"]
    assert torch.equal(model(input_ids=ids).logits, load_for_inference(merged[0])[0](input_ids=ids).logits)


def test_running_twice_changes_nothing(adapter, merged):
    weights = merged[0] / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert run(options(adapter, merged[0].parent))["message"].startswith("already complete: ")
    assert weights.stat().st_mtime_ns == before


def test_a_half_written_merge_is_made_again_to_the_same_bytes(adapter, tmp_path):
    run(options(adapter, tmp_path))
    weights = tmp_path / "merged/model.safetensors"
    before = weights.read_bytes()
    (tmp_path / "merged/manifest.json").unlink()
    weights.write_bytes(before[:1000])
    run(options(adapter, tmp_path))
    assert weights.read_bytes() == before


def test_another_adapter_does_not_go_into_the_same_folder(merged, spoil):
    own = spoil(lambda weights: next(iter(weights.values())).add_(1.0))
    with pytest.raises(DrivingError, match="was made with model = .*; pass --overwrite-output to replace it"):
        run(options(own, merged[0].parent))


def test_a_full_disk_is_one_line(adapter, tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def fail(self, folder):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    with pytest.raises(DrivingError, match="the disk is full while writing .*merged; make room and run the same"):
        run(options(adapter, tmp_path))


# Bases that are not the one


@pytest.fixture
def moved_base(tiny_model, tmp_path):
    """The base of another place, with one weight changed."""
    folder = shutil.copytree(tiny_model, tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    weights[UP][0, 0] += 1.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_other_weights_are_refused_by_both_identities(adapter, moved_base, tmp_path):
    identity = json.loads((adapter / "base.json").read_text())["identity"]
    with pytest.raises(DrivingError, match=rf"is not the one that .* was trained on.*was {identity}.*or pass --force"):
        run(options(adapter, tmp_path, base_model=str(moved_base)))


def test_other_weights_are_taken_by_force_and_it_is_written_down(adapter, moved_base, tmp_path):
    assert run(options(adapter, tmp_path, base_model=str(moved_base), force=True))["base_checked"] is False
    assert json.loads((tmp_path / "merged/merge.json").read_text())["base_model"] == str(moved_base)


def test_a_base_of_another_shape_is_one_line(own_adapter, tmp_path):
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    make_tiny_model(
        TinyModelOptions(
            output_dir=tmp_path / "wide", hidden=48, layers=3, heads=2, kv_heads=1, intermediate=64, vision_hidden=32,
            vision_heads=2, vision_intermediate=48, rope_theta=5.0,
        )
    )  # fmt: skip
    (own_adapter / "base.json").unlink()
    with pytest.raises(
        DrivingError, match=r"adapter_model.safetensors cannot be loaded: [^\n]*; copy it again"
    ) as info:
        run(options(own_adapter, tmp_path, base_model=str(tmp_path / "wide")))
    assert "\n" not in str(info.value)


def test_an_adapter_without_papers_takes_its_bases_processor(own_adapter, tiny_model, tmp_path):
    for path in own_adapter.iterdir():
        if not path.name.startswith("adapter_"):
            path.unlink()
    assert run(options(own_adapter, tmp_path, force=True))["base_checked"] is False
    load_for_inference(tmp_path / "merged")
    assert not (tmp_path / "merged/preprocessing.json").exists()


# Adapters that cannot be merged


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (f"base_model.model.{UP.removesuffix('.weight')}.lora_B.weight", "language_model.layers.1.mlp.up_proj"),
        ("base_model.model.model.visual.merger.linear_fc1.weight", "visual.merger.linear_fc1.weight"),
    ],
)
def test_values_that_are_no_numbers_are_named_by_their_layer(spoil, tmp_path, name, place):
    folder = spoil(lambda weights: weights[name].__setitem__((0, 0), math.nan))
    with pytest.raises(DrivingError, match=rf"holds values that are no numbers, in .*{place}; take an earlier"):
        run(options(folder, tmp_path))


def test_weights_too_large_for_16_bits_are_refused(spoil, tmp_path):
    name = "base_model.model.model.visual.merger.linear_fc1.weight"
    folder = spoil(lambda weights: weights[name].__setitem__((0, 0), 1e6))
    with pytest.raises(DrivingError, match=r"linear_fc1.weight do not fit into torch.float16; pass --dtype bf16"):
        run(options(folder, tmp_path, dtype="fp16"))


def test_a_weight_that_the_file_lacks_is_named(spoil, tmp_path):
    folder = spoil(lambda weights: weights.pop(f"base_model.model.{UP.removesuffix('.weight')}.lora_B.weight"))
    with pytest.raises(DrivingError, match="lacks 1 weights of its adapter"):
        run(options(folder, tmp_path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "adapter_config.json is not JSON"),
        ('{"peft_type": "IA3"}', "is of the kind 'IA3'; only LORA adapters can be merged"),
        ("[1]", r"is of the kind \[1\]"),
    ],
)
def test_what_is_no_lora_is_refused(own_adapter, tmp_path, text, complaint):
    (own_adapter / "adapter_config.json").write_text(text)
    with pytest.raises(DrivingError, match=complaint):
        run(options(own_adapter, tmp_path))


def test_a_whole_model_has_nothing_to_merge(tiny_model, tmp_path):
    with pytest.raises(DrivingError, match="is a whole model: there is nothing to merge"):
        run(options(tiny_model, tmp_path))


def test_a_folder_without_adapter_is_none(tmp_path):
    with pytest.raises(DrivingError, match="is no adapter; name the folder that holds adapter_config.json"):
        run(options(tmp_path / "nothing", tmp_path))


def test_the_output_may_not_lie_in_the_adapter(own_adapter, tmp_path):
    with pytest.raises(DrivingError, match="lie in one another"):
        run(MergeOptions(model=str(own_adapter), output_dir=own_adapter / "merged"))


def test_the_door_prints_one_line(adapter, merged, capsys):
    assert merge.main(["--model", str(adapter), "--output-dir", str(merged[0]), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith(f"already complete: {merged[0]}, float32; logits of ")
