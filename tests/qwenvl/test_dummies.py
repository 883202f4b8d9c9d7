"""A micro-batch without media still goes through tower, mergers and head, and moves nothing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from qwenvl.data.collate import collate, to_step_inputs  # noqa: E402
from qwenvl.data.dataset import BadSample, build_inputs, read_records  # noqa: E402
from qwenvl.data.dummies import build_dummy  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.train.fast_vision import speed_up_vision  # noqa: E402
from qwenvl.train.forward import use_driving_forward  # noqa: E402
from qwenvl.train.loading import load_model  # noqa: E402

pytestmark = pytest.mark.needs_torch

TEXT_ROW = {
    "id": "words",
    "conversations": [{"from": "human", "value": "Stop?"}, {"from": "gpt", "value": "Yes."}],
}


@pytest.fixture(scope="module")
def model(tiny_model):
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    speed_up_vision(model)
    use_driving_forward(model)
    return model


def losses_and_gradients(model, processor, samples, dummy, flatten=False):
    batch = collate(samples, pad_token_id=processor.tokenizer.pad_token_id, dummy=dummy, flatten=flatten)
    model.zero_grad(set_to_none=True)
    loss = model(**to_step_inputs(batch, processor, "cpu")).loss
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("samples", [[], [BadSample("a", "its video is gone")]], ids=["empty", "bad"])
@pytest.mark.parametrize("flatten", [False, True], ids=["padded", "flattened"])
def test_a_batch_with_no_sample_gives_every_weight_a_gradient_of_zero(model, processor, samples, flatten):
    loss, gradients = losses_and_gradients(model, processor, samples, build_dummy(processor), flatten)
    assert loss == 0
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert sum(gradient.abs().sum().item() for gradient in gradients.values()) == 0


def test_a_text_row_keeps_its_loss_beside_the_dummy_and_the_tower_moves_by_zero(model, processor):
    text = build_inputs(TEXT_ROW, processor, Preprocessing(), with_answer=True)
    alone, _ = losses_and_gradients(model, processor, [text], None)
    loss, gradients = losses_and_gradients(model, processor, [text], build_dummy(processor))
    assert loss == pytest.approx(alone, rel=1e-5)
    assert {name for name, gradient in gradients.items() if gradient is None} == set()
    moved = {".visual." in name for name, gradient in gradients.items() if gradient.abs().sum() > 0}
    assert moved == {False}


def test_a_batch_that_has_a_video_gets_no_dummy(processor, training_json):
    row = read_records(training_json)[0]
    sample = build_inputs(row, processor, Preprocessing(video_fps=10), with_answer=True, folders=[training_json.parent])
    batch = collate([sample], pad_token_id=0, dummy=build_dummy(processor))
    assert (len(batch["videos"]), batch["ids"]) == (1, ["clip00_seg_00"])
    assert len(batch["input_ids"]) == 1
