"""DeepSpeed ZeRO-2, ZeRO-3 and ZeRO-3 with offload beside plain data parallel: two processes, really, on the CPU.

Nine rows of video, image and text alone, dealt to two ranks one by one: at nearly every micro-batch the ranks hold
different media, and at the end of each epoch one of them has no row at all. The mergers learn at a rate of their own,
in full, beside LoRA too.
"""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from forked_ranks import read_log, start_ranks, train_with  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from qwenvl.train.samplers import EpochBatches  # noqa: E402

pytestmark = [pytest.mark.needs_torch, pytest.mark.slow]
NUM_STEPS = 6
SEED = 42
CONFIGS = "qwen-vl-finetune/scripts"
ENGINES = ["zero2", "zero3", "zero3_offload"]
TUNINGS = {"lora": ["--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1"], "full": []}
RESULTS = {"lora": "adapter_model.safetensors", "full": "model.safetensors", "packed": "adapter_model.safetensors"}
EVERY_ENGINE = pytest.mark.parametrize("engine", ["data_parallel", *ENGINES])
EVERY_TUNING = pytest.mark.parametrize("tuning", list(TUNINGS))
KILLED = [(engine, tuning) for engine in ["data_parallel", *ENGINES] for tuning in TUNINGS]
TUNINGS["packed"] = [*TUNINGS["lora"], "--data_packing", "True", "--model_max_length", "250"]


@pytest.fixture(scope="module")
def mixed_json(training_json, tmp_path_factory):
    """Nine rows: three of each of video, image and text alone."""
    folder = tmp_path_factory.mktemp("mixed")
    rows = json.loads(training_json.read_text())[:9]
    for index, row in enumerate(rows):
        row["video"] = str(training_json.parent / row["video"])
        if index % 3:
            del row["video"]
            question = row["conversations"][1]
            question["value"] = question["value"].replace("<video>", "<image>" if index % 3 == 1 else "")
        if index % 3 == 1:
            row["image"] = f"{index}.png"
            Image.fromarray(np.full((64, 96, 3), 20 * index, np.uint8)).save(folder / row["image"])
    path = folder / "train.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="module")
def command(tiny_model, mixed_json, repository, tmp_path_factory):
    """command(engine, tuning, name, **flags): the arguments of one run."""
    folder = tmp_path_factory.mktemp("engines")

    def build(engine: str, tuning: str, name: str) -> list[str]:
        config = [] if engine == "data_parallel" else ["--deepspeed", str(repository / CONFIGS / f"{engine}.json")]
        return [
            "--model_name_or_path", str(tiny_model), "--dataset_use", str(mixed_json),
            "--output_dir", str(folder / f"{name}-{engine}-{tuning}"), "--per_device_train_batch_size", "1",
            "--gradient_accumulation_steps", "2", "--learning_rate", "1e-2", "--mm_projector_lr", "1e-3",
            "--warmup_steps", "1", "--video_fps", "10", "--max_steps", str(NUM_STEPS), "--save_steps", "2",
            "--seed", str(SEED), "--report_to", "none", "--use_cpu", "True", "--disable_tqdm", "True",
            "--dataloader_num_workers", "1", "--gradient_checkpointing", "False", *TUNINGS[tuning], *config,
        ]  # fmt: skip

    return build


@pytest.fixture(scope="module")
def whole(command):
    """whole(engine, tuning): the folder of a run that nothing disturbed, trained once."""
    folders = {}

    def run(engine: str, tuning: str):
        if (engine, tuning) not in folders:
            folders[engine, tuning] = train_with(command(engine, tuning, "whole"))
        return folders[engine, tuning]

    return run


def series(folder, name: str) -> list[float]:
    return [line[name] for line in read_log(folder)]


def media_of(row: dict) -> str:
    return next((kind for kind in ("video", "image") if kind in row), "text")


def test_the_rows_are_dealt_so_that_ranks_hold_different_media_and_one_has_none_at_the_end(mixed_json):
    rows = json.loads(mixed_json.read_text())
    ranks = [list(EpochBatches(len(rows), 1, SEED, rank, 2)) for rank in (0, 1)]
    pairs = [tuple(media_of(rows[batch[0]]) if batch else "" for batch in step) for step in zip(*ranks, strict=True)]
    assert sum(first != second for first, second in pairs) >= 3
    assert {"video", "image", "text"} <= {kind for pair in pairs for kind in pair}
    assert pairs[-1][1] == ""


@EVERY_TUNING
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_computes_the_losses_and_rates_of_plain_data_parallel(whole, engine, tuning):
    plain, sharded = whole("data_parallel", tuning), whole(engine, tuning)
    assert len(series(plain, "loss")) == NUM_STEPS
    assert series(sharded, "loss") == pytest.approx(series(plain, "loss"), rel=1e-4)
    assert series(sharded, "grad_norm") == pytest.approx(series(plain, "grad_norm"), rel=1e-3)
    assert series(sharded, "learning_rate") == series(plain, "learning_rate")


@EVERY_TUNING
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_saves_what_plain_data_parallel_saves(whole, engine, tuning):
    plain, sharded = (load_file(whole(name, tuning) / RESULTS[tuning]) for name in ("data_parallel", engine))
    assert {name: (w.shape, w.dtype) for name, w in sharded.items()} == {
        name: (w.shape, w.dtype) for name, w in plain.items()
    }
    # Six steps of Adam at 1e-2 and 1e-3: a part that learnt at the other's rate would be off by far more.
    gaps = {name: (sharded[name] - plain[name]).abs().mean().item() for name in plain}
    assert {name: gap for name, gap in gaps.items() if gap > 2e-4} == {}


@pytest.mark.parametrize(("engine", "tuning"), [*KILLED, ("data_parallel", "packed"), ("zero3", "packed")])
def test_killed_in_the_middle_the_same_command_ends_in_the_same_bits(whole, command, engine, tuning):
    expected = whole(engine, tuning)
    argv = command(engine, tuning, "killed")
    ranks = start_ranks(argv, 2)
    ranks.wait_for_step(3)
    ranks.kill()
    found = train_with(argv)
    assert "continuing from" in found.with_suffix(".log").read_text()
    weights, again = (load_file(folder / RESULTS[tuning]) for folder in (expected, found))
    assert [name for name in weights if not torch.equal(weights[name], again[name])] == []
    assert series(found, "loss") == series(expected, "loss")


@EVERY_ENGINE
def test_the_result_of_full_fine_tuning_loads_in_plain_transformers(whole, tiny_model, engine):
    from transformers import Qwen3VLForConditionalGeneration

    base = Qwen3VLForConditionalGeneration.from_pretrained(tiny_model).state_dict()
    model, report = Qwen3VLForConditionalGeneration.from_pretrained(whole(engine, "full"), output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, base[name])}
    assert "model.visual.merger.linear_fc1.weight" in changed
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in changed
    assert not any(".visual.blocks." in name for name in changed)  # frozen


@EVERY_ENGINE
def test_an_adapter_and_its_mergers_load_in_plain_peft(whole, tiny_model, engine):
    from peft import PeftModel
    from transformers import Qwen3VLForConditionalGeneration

    base = Qwen3VLForConditionalGeneration.from_pretrained(tiny_model)
    merger = base.model.visual.merger.linear_fc1.weight.clone()
    deepstack = base.model.visual.deepstack_merger_list[0].linear_fc1.weight.clone()
    merged = PeftModel.from_pretrained(base, whole(engine, "lora")).merge_and_unload()
    assert not torch.equal(merged.model.visual.merger.linear_fc1.weight, merger)
    assert not torch.equal(merged.model.visual.deepstack_merger_list[0].linear_fc1.weight, deepstack)
    saved = load_file(whole(engine, "lora") / RESULTS["lora"])
    (name,) = [name for name in saved if name.endswith("visual.merger.linear_fc1.weight")]
    assert torch.equal(merged.model.visual.merger.linear_fc1.weight, saved[name])
    assert all(saved[name].abs().max() > 0 for name in saved if "lora_B" in name)


TRAINED = {
    "untied head": ("qwen3_vl", "full", []),
    "vision": ("qwen3_vl", "full", ["--tune_mm_vision", "True"]),
    "mergers alone": ("qwen3_vl", "full", ["--tune_mm_llm", "False"]),
    "flat": ("qwen3_vl", "full", ["--data_flatten", "True", "--gradient_checkpointing", "True"]),
    "packed": ("qwen3_vl", "lora", ["--data_packing", "True", "--model_max_length", "400"]),
    "experts": ("qwen3_vl_moe", "full", []),
    "adapted experts": ("qwen3_vl_moe", "lora", []),
    "Qwen2.5": ("qwen2_5_vl", "full", []),
}


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """model_of(model_type, trained): the folder of a tiny model, with a head of its own where that is trained."""
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    def make(model_type: str, trained: str):
        folder = tmp_path_factory.mktemp("families") / "model"
        make_tiny_model(
            TinyModelOptions(
                output_dir=folder, model_type=model_type, hidden=32, layers=3, heads=2, kv_heads=1, intermediate=64,
                vision_hidden=32, vision_heads=2, vision_intermediate=48,
            )
        )  # fmt: skip
        if trained == "untied head":
            untie_head(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def whole_of():
    """{what is trained: the folder of its first run}, with plain data parallel."""
    return {}


def untie_head(folder) -> None:
    """Give the model a head of its own, a copy of its embeddings."""
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    save_file(
        {**weights, "lm_head.weight": weights["model.language_model.embed_tokens.weight"].clone()},
        folder / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["data_parallel", "zero3"])
@pytest.mark.parametrize("trained", list(TRAINED))
def test_whatever_is_trained_every_rank_takes_its_step_and_every_engine_learns_the_same(
    command, model_of, whole_of, engine, trained
):
    model_type, tuning, flags = TRAINED[trained]
    model = model_of(model_type, trained)
    folder = train_with(
        [*command(engine, tuning, trained.replace(" ", "-")), "--model_name_or_path", str(model), "--max_steps", "3",
         "--save_strategy", "no", *flags]
    )  # fmt: skip
    assert len(series(folder, "loss")) == 3
    kept = whole_of.setdefault(trained, folder)
    assert series(folder, "loss") == pytest.approx(series(kept, "loss"), rel=1e-4)
    ours, theirs = (load_file(run / RESULTS[tuning]) for run in (folder, kept))
    assert {name: weight.shape for name, weight in ours.items()} == {n: weight.shape for n, weight in theirs.items()}
    assert max((ours[name] - theirs[name]).abs().mean().item() for name in ours) < 2e-4
    if trained == "untied head":
        head = load_file(folder / RESULTS[tuning])["lm_head.weight"]
        assert not torch.equal(head, load_file(model / "model.safetensors")["lm_head.weight"])


@pytest.mark.parametrize("num_ranks", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_runs_through_the_launcher_with_one_and_with_two_processes(
    repository, command, whole, engine, num_ranks, tmp_path
):
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    argv = [*command(engine, "full", "x"), "--output_dir", str(tmp_path / "run")]
    settings = {
        **kept, "NPROC_PER_NODE": str(num_ranks), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
        "DEEPSPEED_CONFIG": f"{CONFIGS}/{engine}.json", "GRAD_ACCUM_STEPS": str(4 // num_ranks),
    }  # fmt: skip
    position = argv.index("--gradient_accumulation_steps")
    done = subprocess.run(
        [str(repository / "train_physical_ai.sh"), *argv[:position], *argv[position + 2 :]],
        env=settings, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert series(tmp_path / "run", "loss") == pytest.approx(series(whole("data_parallel", "full"), "loss"), rel=1e-4)
