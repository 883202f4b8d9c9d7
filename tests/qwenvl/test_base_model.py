"""A checkpoint knows the weights it stands on, and fits no others."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train import base_model  # noqa: E402
from qwenvl.train.base_model import BaseModel, complete_base, find_commit, resolve_base  # noqa: E402
from qwenvl.train.checkpoints import check_newest_base, find_asked, mark_complete  # noqa: E402
from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.loading import load_model  # noqa: E402

pytestmark = pytest.mark.needs_torch

COMMIT, LATER = "a" * 40, "b" * 40


@pytest.fixture
def base(tiny_model, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    return folder


def change_weight(folder, name: str) -> None:
    """As training would: every value of one tensor moves a little; names, shapes and file size stay."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        "model.language_model.embed_tokens.weight",
        "model.language_model.layers.1.self_attn.o_proj.weight",
        "model.visual.blocks.2.norm1.bias",
    ],
)
def test_one_changed_tensor_gives_another_identity(base, name):
    before = resolve_base(base)
    change_weight(base, name)
    after = resolve_base(base)
    assert before.identity != after.identity and not before.is_same(after)


def test_a_model_that_has_moved_is_the_same_model(base, tiny_model):
    assert resolve_base(base).is_same(resolve_base(tiny_model))
    assert resolve_base(base).model_type == "qwen3_vl"


def test_another_config_is_another_model(base):
    before = resolve_base(base)
    config = json.loads((base / "config.json").read_text())
    config["text_config"]["rope_parameters"]["rope_theta"] = 5e6
    (base / "config.json").write_text(json.dumps(config))
    assert resolve_base(base).identity != before.identity


def test_weights_that_are_no_safetensors_are_told_apart_too(base):
    weights = base / "pytorch_model.bin"
    weights.write_bytes(bytes(10_000))
    before = resolve_base(base)
    weights.write_bytes(bytes(5_000) + b"1" + bytes(4_999))
    assert resolve_base(base).identity != before.identity


# A hub model, as its cache holds it; the hub itself is never asked


@pytest.fixture
def hub_cache(base, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache = tmp_path / "cache"
    model = cache / "models--maker--tiny"
    shutil.copytree(base, model / "snapshots" / COMMIT)
    shutil.copytree(base, model / "snapshots" / LATER)
    (model / "refs").mkdir()
    (model / "refs/main").write_text(COMMIT)
    return cache


def test_a_hub_model_is_its_commit_by_name_and_by_folder(hub_cache, base):
    by_name = resolve_base("maker/tiny", cache_dir=str(hub_cache))
    by_folder = resolve_base(hub_cache / "models--maker--tiny/snapshots" / COMMIT)
    assert by_name.identity == by_folder.identity == f"maker/tiny@{COMMIT}"
    assert (by_name.commit, by_name.path, by_name.model_type) == (COMMIT, "maker/tiny", "qwen3_vl")
    assert by_name.is_same(resolve_base(base))  # a plain copy of the same files


def test_a_hub_model_whose_weights_are_not_here_yet_gets_its_fingerprint_later(hub_cache):
    weights = hub_cache / "models--maker--tiny/snapshots" / COMMIT / "model.safetensors"
    weights.rename(weights.with_suffix(".away"))
    early = resolve_base("maker/tiny", cache_dir=str(hub_cache))
    assert early.fingerprint == ""
    weights.with_suffix(".away").rename(weights)
    assert len(complete_base(early, str(hub_cache)).fingerprint) == 16


def test_a_run_keeps_to_the_commit_that_it_began_from(hub_cache, tmp_path):
    base = resolve_base("maker/tiny", cache_dir=str(hub_cache))
    folder = tmp_path / "run/checkpoint-2"
    folder.mkdir(parents=True)
    base.write(folder)
    assert find_commit(tmp_path / "run", "maker/tiny") == ""  # not complete: it may be removed yet
    mark_complete(folder, 2, {})
    (hub_cache / "models--maker--tiny/refs/main").write_text(LATER)
    assert resolve_base("maker/tiny", cache_dir=str(hub_cache)).commit == LATER
    kept = resolve_base("maker/tiny", find_commit(tmp_path / "run", "maker/tiny"), str(hub_cache))
    assert kept.commit == COMMIT
    assert find_commit(tmp_path / "run", "another/model") == ""


def test_a_hub_model_is_loaded_at_its_commit(hub_cache):
    change_weight(hub_cache / "models--maker--tiny/snapshots" / LATER, "model.visual.blocks.2.norm1.bias")
    one, other = (
        load_model("maker/tiny", attention="sdpa", dtype=torch.float32, cache_dir=str(hub_cache), commit=commit)
        for commit in (COMMIT, LATER)
    )
    moved = other.model.visual.blocks[2].norm1.bias - one.model.visual.blocks[2].norm1.bias
    assert moved.detach().mean().item() == pytest.approx(1e-3)


def test_a_hub_name_that_cannot_be_had_here_is_one_line(hub_cache):
    with pytest.raises(DrivingError, match=r"maker/none is no folder here and not in .* \(HF_HUB_OFFLINE is set\)"):
        resolve_base("maker/none", cache_dir=str(hub_cache))


def test_a_hub_name_that_nobody_knows_is_one_line(hub_cache, monkeypatch):
    monkeypatch.setattr(base_model, "check_findable", lambda *_: None)  # the hub answers
    with pytest.raises(DrivingError, match="maker/none is no folder here, and the hub does not give it: "):
        resolve_base("maker/none", cache_dir=str(hub_cache))


# A base that changed under its adapter


@pytest.fixture
def adapter(base, tmp_path):
    from peft import LoraConfig, get_peft_model

    model = load_model(base, attention="sdpa", dtype=torch.float32)
    folder = tmp_path / "run/checkpoint-2"
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])).save_pretrained(folder)
    resolve_base(base).write(folder)
    mark_complete(folder, 2, {})
    return folder


def test_an_adapter_is_not_put_on_a_base_that_has_changed(adapter, base):
    load_for_inference(adapter)
    change_weight(base, "model.language_model.norm.weight")
    with pytest.raises(
        DrivingError, match="base is not the one that .*checkpoint-2 was trained on .*--base-model, or pass --force"
    ):
        load_for_inference(adapter)
    load_for_inference(adapter, other_base=True)


def test_an_adapter_goes_on_its_base_wherever_that_is_now(adapter, base, tmp_path):
    base.rename(tmp_path / "moved")
    load_for_inference(adapter, base_model=str(tmp_path / "moved"))
    change_weight(tmp_path / "moved", "model.language_model.norm.weight")
    with pytest.raises(DrivingError, match=r"moved is not the one that .*, which was .*/base \(it is \w{16}, was "):
        load_for_inference(adapter, base_model=str(tmp_path / "moved"))


def test_a_run_is_not_continued_on_a_base_that_has_changed(adapter, base):
    check_newest_base(adapter.parent, resolve_base(base))
    change_weight(base, "model.language_model.norm.weight")
    with pytest.raises(DrivingError, match="put them back to continue, or pass --overwrite_output to start afresh"):
        check_newest_base(adapter.parent, resolve_base(base))
    with pytest.raises(DrivingError, match="put them back, or leave --resume_from_checkpoint out"):
        find_asked(adapter, {}, resolve_base(base))


def test_a_checkpoint_without_base_json_is_not_asked(adapter, base):
    (adapter / "base.json").unlink()
    change_weight(base, "model.language_model.norm.weight")
    load_for_inference(adapter)


def test_base_json_reads_back_what_was_written(tmp_path, tiny_model):
    base = dataclasses.replace(resolve_base(tiny_model), load_in_4bit=True, precision="bf16")
    base.write(tmp_path)
    assert BaseModel.read(tmp_path) == base
    (tmp_path / "base.json").write_text("[]")
    with pytest.raises(DrivingError, match="base.json cannot be read .*; take the checkpoint's own file"):
        BaseModel.read(tmp_path)
