"""A step never asks the device for a value: nothing in it waits for the GPU."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from qwenvl.data.collate import collate, to_step_inputs  # noqa: E402
from qwenvl.data.dataset import build_inputs, read_records  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.train.argument import ModelArguments  # noqa: E402
from qwenvl.train.fast_vision import speed_up_vision  # noqa: E402
from qwenvl.train.forward import use_driving_forward  # noqa: E402
from qwenvl.train.loading import load_model  # noqa: E402
from qwenvl.train.tuning import apply_tuning  # noqa: E402

pytestmark = pytest.mark.needs_torch

# What reads a value back on a GPU, or has an output whose size is only known there.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "repeat_interleave"}


class NoWaiting(TorchDispatchMode):
    """Raises where an operation would make the host wait for the device; an index by mask counts as one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
        if name in WAITING or by_mask:
            raise AssertionError(f"{func} makes the host wait")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_waiting(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a tensor is read back in the step")

    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"):
            patch.setattr(torch.Tensor, name, refuse)
        with NoWaiting():
            yield


@pytest.fixture(scope="module")
def samples(processor, training_json):
    ten_fps = Preprocessing(video_fps=10.0)
    rows = read_records(training_json)[:2]
    return [build_inputs(r, processor, ten_fps, with_answer=True, folders=[training_json.parent]) for r in rows]


@pytest.fixture(scope="module")
def batch(samples):
    return collate(samples, pad_token_id=0, flatten=True)


@pytest.fixture(scope="module")
def lora_model(tiny_model):
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    speed_up_vision(model)
    use_driving_forward(model)
    return apply_tuning(model, ModelArguments(lora_enable=True, lora_dropout=0.1))


def test_nothing_in_a_lora_step_waits_for_the_device(lora_model, batch, processor, no_waiting):
    loss = lora_model(**to_step_inputs(batch, processor, "cpu")).loss
    loss.backward()


@pytest.mark.parametrize("flatten", [True, False], ids=["flattened", "one padded row"])
def test_nothing_in_a_step_with_flash_attention_waits_for_the_device(
    tiny_model, processor, samples, flatten, monkeypatch, request
):
    """transformers looks for samples in the text positions of a single row, once a layer, where it is given them."""
    from transformers.modeling_utils import AttentionInterface

    places = []

    def attend(module, query, key, value, attention_mask, *, position_ids=None, **kwargs):
        places.append(position_ids)
        return query.transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", attend)
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    for config in (model.config, model.config.text_config, model.config.vision_config):
        config._attn_implementation = "flash_attention_2"
    speed_up_vision(model)
    use_driving_forward(model)
    batch = collate(samples if flatten else samples[:1], pad_token_id=0, flatten=flatten)
    request.getfixturevalue("no_waiting")
    model(**to_step_inputs(batch, processor, "cpu")).loss.backward()
    assert places and all(place is None for place in places)


def test_the_check_sees_what_it_must(no_waiting):
    values = torch.ones(3)
    with pytest.raises(AssertionError, match="wait"):
        torch.nonzero(values)
    with pytest.raises(AssertionError, match="wait"):
        values[values > 0]
    with pytest.raises(AssertionError, match="read back"):
        values.sum().item()


@pytest.mark.needs_gpu
def test_nothing_in_a_step_waits_for_a_real_gpu(lora_model, batch, processor):
    lora_model.to("cuda")
    pinned = {key: value.pin_memory() if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    pinned["videos"] = [video.pin_memory() for video in batch["videos"]]
    try:
        for _ in range(2):  # what depends on the frame size alone is worked out in the first
            torch.cuda.synchronize()
            lora_model(**to_step_inputs(pinned, processor, "cuda")).loss.backward()
            torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
