"""The code that README and FINETUNE show loads a result of ours, letter by letter, without this project."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch

LORA = ("--lora_enable", "True", "--lora_r", "4")
RESULTS = {
    "lora": ("checkpoints/physical_ai_driving_lora", LORA),
    "full": ("checkpoints/physical_ai_driving", ()),
    "qlora": ("checkpoints/physical_ai_driving_lora", (*LORA, "--load_in_4bit", "True")),
}


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def blocks(repository) -> dict[str, str]:
    lora, full = python_blocks(repository / "README.md")
    (qlora,) = [block for block in python_blocks(repository / "FINETUNE.md") if "PeftModel" in block]
    return {"lora": lora, "full": full, "qlora": qlora}


@pytest.mark.parametrize("kind", ["lora", "full", "qlora"])
def test_the_code_in_the_documents_loads_what_was_trained(
    kind, blocks, tiny_model, training_json, tmp_path, monkeypatch
):
    if kind == "qlora":
        pytest.importorskip("bitsandbytes")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "Qwen/Qwen3-VL-4B-Instruct")  # the hub's name is a folder here
    name, flags = RESULTS[kind]
    command = [
        "--model_name_or_path", "Qwen/Qwen3-VL-4B-Instruct", "--dataset_use", str(training_json), "--output_dir", name,
        "--per_device_train_batch_size", "2", "--learning_rate", "1e-2", "--video_fps", "10", "--report_to", "none",
        "--dataloader_num_workers", "0", "--use_cpu", "True", "--warmup_steps", "0", "--max_steps", "2", *flags,
    ]  # fmt: skip
    assert run(command) == 0
    names: dict = {}
    exec(compile(blocks[kind], "documents", "exec"), names)
    model, processor = names["model"].eval(), names["processor"]
    ours, our_processor, _ = load_for_inference(name)
    assert processor.tokenizer.get_vocab() == our_processor.tokenizer.get_vocab()
    assert processor.video_processor.size == our_processor.video_processor.size
    if kind == "qlora":
        from qwenvl.train.quantised import keep_weights, list_quantised

        assert list_quantised(model) == list_quantised(ours)
        keep_weights(model)
    ids = processor.tokenizer("where does the car go?", return_tensors="pt").input_ids
    plain = load_for_inference(tiny_model)[0]
    with torch.no_grad():
        found, expected, before = (one(input_ids=ids).logits for one in (model, ours, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - before).abs().max() > 1e-2  # what was learnt is in it


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_it_is_five_lines_or_fewer(kind, blocks):
    assert len([line for line in blocks[kind].splitlines() if line]) <= 5
