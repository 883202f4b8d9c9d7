"""QLoRA: what is quantised and what is not, what learns, and that it is continued and loaded on the same base."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")
import transformers  # noqa: E402
from tiny_runs import KillAt, Killed, assert_same_weights, list_flags  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train import quantised  # noqa: E402
from qwenvl.train.argument import ModelArguments, parse_plan  # noqa: E402
from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.loading import load_model  # noqa: E402
from qwenvl.train.parts import count_parameters  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402
from qwenvl.train.tuning import apply_tuning  # noqa: E402

pytestmark = pytest.mark.needs_torch

QLORA = ["--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1", "--load_in_4bit", "True"]


@pytest.fixture
def model(tiny_model):
    return load_model(tiny_model, attention="sdpa", dtype=torch.bfloat16, load_in_4bit=True)


def test_every_layer_of_the_language_model_is_quantised_and_nothing_that_sees_or_speaks(model):
    layers = [f"model.language_model.layers.{i}." for i in range(3)]
    names = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    assert sorted(quantised.list_quantised(model)) == sorted(layer + name for layer in layers for name in names)
    kinds = {type(module) for name, module in model.named_modules() if "visual" in name or "lm_head" in name}
    assert not any(kind.__name__ == "Linear4bit" for kind in kinds) and torch.nn.Linear in kinds


def test_the_weights_are_nf4_with_quantised_scales_and_compute_in_the_runs_precision(model):
    layer = model.model.language_model.layers[0].mlp.up_proj
    state = layer.weight.quant_state
    assert (state.quant_type, state.nested, layer.compute_dtype) == ("nf4", True, torch.bfloat16)
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.numel() * 2 == 32 * 64  # two weights a byte


def test_what_learns_is_fp32_and_nothing_else_is_cast(model):
    tuned = apply_tuning(model, ModelArguments(lora_enable=True, lora_r=4))
    for name, parameter in tuned.named_parameters():
        frozen = {torch.bfloat16, torch.uint8}
        assert parameter.dtype in ({torch.float32} if parameter.requires_grad else frozen), name


def test_the_quantised_weights_are_counted(model):
    # a layer: q and o 32 x 32, k and v 32 x 16, gate, up and down 32 x 64
    assert quantised.count_quantised(model) == 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)


def test_quantised_weights_are_counted_as_weights_and_not_as_bytes(model, tiny_model):
    plain = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    assert {part: total for part, (_, total) in count_parameters(model).items()} == {
        part: total for part, (_, total) in count_parameters(plain).items()
    }


def test_a_dry_run_knows_the_same_layers_without_weights(model, tiny_model):
    shapes = load_model(tiny_model, attention="sdpa", dtype=torch.bfloat16, load_in_4bit=True, without_weights=True)
    assert quantised.list_quantised(shapes) == quantised.list_quantised(model)
    arguments = ModelArguments(lora_enable=True, lora_r=4, use_dora=True)
    planned, loaded = apply_tuning(shapes, arguments), apply_tuning(model, arguments)
    assert count_parameters(planned) == count_parameters(loaded)
    assert quantised.count_quantised(planned) == quantised.count_quantised(loaded)


def test_answering_does_not_change_the_quantised_weights(model):
    layer = model.model.language_model.layers[0].mlp.up_proj
    packed, scales = layer.weight.clone(), layer.weight.quant_state.absmax.clone()
    with torch.no_grad():
        model.eval()(input_ids=torch.tensor([[1, 2, 3]]))
    assert torch.equal(layer.weight, packed)
    assert torch.equal(layer.weight.quant_state.absmax, scales) and layer.weight.quant_state.nested


def test_a_library_that_quantises_the_tower_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(quantised, "UNQUANTISED", ("visual", "lm_head"))  # what everyone writes
    with pytest.raises(
        DrivingError, match=r"transformers .* quantised model.visual.blocks.0.\S+ against what was asked"
    ):
        load_model(tiny_model, attention="sdpa", dtype=torch.float32, load_in_4bit=True)


def test_quantised_weights_cannot_be_trained_in_full(tiny_model, training_json, tmp_path):
    with pytest.raises(DrivingError, match="4-bit weights cannot be trained themselves; set --lora_enable True"):
        parse_plan(list_flags(tiny_model, training_json, tmp_path, "--load_in_4bit", "True"))


def test_a_missing_bitsandbytes_says_how_it_is_installed(tiny_model, training_json, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find_spec(name))
    with pytest.raises(DrivingError, match="need bitsandbytes, which is not installed; uv pip install bitsandbytes"):
        parse_plan(list_flags(tiny_model, training_json, tmp_path, *QLORA))


@pytest.fixture(scope="module")
def results(tiny_model, training_json, tmp_path_factory):
    """(a QLoRA run of 4 steps, the same killed after step 3 and run again)."""
    folder = tmp_path_factory.mktemp("qlora")
    flags = [*QLORA, "--max_steps", "4", "--save_steps", "2"]
    assert run(list_flags(tiny_model, training_json, folder / "whole", *flags)) == 0
    broken = list_flags(tiny_model, training_json, folder / "broken", *flags)
    with pytest.raises(Killed):
        run(broken, callbacks=[KillAt(3)])
    assert run(broken) == 0
    return folder / "whole", folder / "broken"


def test_a_killed_qlora_run_ends_in_the_same_bits(results):
    whole, broken = results
    assert_same_weights(broken, whole)


def test_a_result_names_the_base_that_it_was_trained_on(results, tiny_model):
    for folder in (results[0], results[0] / "checkpoint-4"):
        base = json.loads((folder / "base.json").read_text())
        assert (base["path"], base["load_in_4bit"], base["precision"]) == (str(tiny_model), True, "fp32")


def test_inference_and_plain_peft_put_the_adapter_on_the_same_quantised_base(results, tiny_model):
    from peft import PeftModel

    ours, processor, _ = load_for_inference(results[0])
    quantisation = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=["model.visual", "lm_head"],
    )
    base = transformers.Qwen3VLForConditionalGeneration.from_pretrained(
        tiny_model, quantization_config=quantisation, dtype=torch.float32
    )
    assert len(quantised.list_quantised(ours)) == 21
    quantised.keep_weights(base)  # its scales would be rounded to bf16 on this machine's processor
    peft = PeftModel.from_pretrained(base, results[0]).eval()
    ids = processor.tokenizer("where does the car go?", return_tensors="pt").input_ids
    with torch.no_grad():
        difference = (ours(input_ids=ids).logits - peft(input_ids=ids).logits).abs().max()
    assert difference < 1e-4


@pytest.mark.slow
def test_two_processes_that_share_out_quantised_weights_compute_the_same_losses(
    repository, tiny_model, training_json, tmp_path
):
    def losses_of(name: str, *extra: str) -> list[float]:
        flags = [*QLORA, "--lora_dropout", "0", "--max_steps", "3", "--per_device_train_batch_size", "1", *extra]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        program = ["-m", "qwenvl.train.train_qwen", *list_flags(tiny_model, training_json, tmp_path / name, *flags)]
        done = subprocess.run([*launcher, *program], cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return [json.loads(line)["loss"] for line in (tmp_path / name / "training_log.jsonl").read_text().splitlines()]

    plain = losses_of("plain")
    assert len(plain) == 3 and plain[2] < plain[0]
    for stage in ("zero2", "zero3"):
        config = str(repository / f"qwen-vl-finetune/scripts/{stage}.json")
        assert losses_of(stage, "--deepspeed", config) == pytest.approx(plain, rel=1e-4)
