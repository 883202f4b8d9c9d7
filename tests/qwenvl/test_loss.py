"""Our step computes what the plain step computes: loss, gradients, vision features, generation."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from qwenvl.data.collate import collate, to_model_inputs  # noqa: E402
from qwenvl.data.dataset import build_inputs, read_records  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.train.fast_vision import speed_up_vision  # noqa: E402
from qwenvl.train.loading import load_for_inference, load_model  # noqa: E402
from qwenvl.train.loss import use_supervised_rows  # noqa: E402

pytestmark = pytest.mark.needs_torch
TEN_FPS = Preprocessing(video_fps=10.0)


def build_batch(processor, training_json, with_answer=True, padding_side="right", num_rows=3):
    records = read_records(training_json)[:num_rows]
    samples = [
        build_inputs(r, processor, TEN_FPS, with_answer=with_answer, folders=[training_json.parent]) for r in records
    ]
    return collate(samples, pad_token_id=processor.tokenizer.pad_token_id, padding_side=padding_side)


@pytest.fixture(scope="module")
def inputs(processor, training_json):
    return to_model_inputs(build_batch(processor, training_json), processor, "cpu", with_labels=True)


@pytest.fixture(scope="module")
def mask(processor, training_json):
    """What the plain model needs and ours does without: padding on the right is never looked at."""
    return build_batch(processor, training_json)["attention_mask"]


@pytest.fixture(scope="module")
def plain(tiny_model):
    return load_model(tiny_model, attention="eager", dtype=torch.float32)


@pytest.fixture(scope="module")
def ours(tiny_model):
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    speed_up_vision(model)
    use_supervised_rows(model)
    return model


def test_the_batch_is_padded_on_the_right_to_one_length(inputs, mask):
    lengths = mask.sum(1)
    assert "attention_mask" not in inputs
    assert [row.tolist() for row in mask] == [[1] * int(n) + [0] * int(lengths.max() - n) for n in lengths]
    assert inputs["input_ids"].shape == inputs["labels"].shape == (3, int(lengths.max()))
    assert len(set(lengths.tolist())) == 3  # the answers hold one, two and three pairs


def test_loss_and_gradients_equal_those_of_plain_transformers(plain, ours, inputs, mask):
    expected = plain(**inputs, attention_mask=mask).loss
    found = ours(**inputs).loss
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    found.backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        if theirs[name].grad is None:
            assert parameter.grad is None or not parameter.grad.any(), name
        else:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-6)
    plain.zero_grad()
    ours.zero_grad()


def test_micro_batches_of_unequal_length_weigh_each_token_once(ours, processor, training_json, inputs):
    num_all = int((inputs["labels"][:, 1:] != -100).sum())
    whole = ours(**inputs).loss.item()
    parts = []
    for row in range(3):
        kept = read_records(training_json)[row]
        sample = build_inputs(kept, processor, TEN_FPS, with_answer=True, folders=[training_json.parent])
        batch = collate([sample], pad_token_id=processor.tokenizer.pad_token_id)
        part = to_model_inputs(batch, processor, "cpu", with_labels=True)
        parts.append(ours(**part, num_items_in_batch=num_all).loss.item())
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_a_batch_without_any_good_sample_has_zero_loss_and_still_reaches_the_weights(ours, processor):
    batch = collate([], pad_token_id=processor.tokenizer.pad_token_id)
    loss = ours(**to_model_inputs(batch, processor, "cpu", with_labels=True), num_items_in_batch=7).loss
    loss.backward()
    assert loss.item() == 0.0
    assert ours.model.language_model.norm.weight.grad is not None
    ours.zero_grad()


def test_the_linear_patch_embedding_is_the_convolution(plain, tiny_model):
    fast = copy.deepcopy(plain)
    speed_up_vision(fast)
    patches = torch.randn(40, 3 * 2 * 16 * 16)
    expected = plain.model.visual.patch_embed(patches)
    torch.testing.assert_close(fast.model.visual.patch_embed(patches), expected, rtol=1e-5, atol=1e-5)


def test_frames_of_two_sizes_attend_within_themselves_as_before(plain, ours):
    grids = torch.tensor([[5, 4, 6], [2, 8, 4], [1, 4, 6]])
    patches = torch.randn(int(grids.prod(1).sum()), 3 * 2 * 16 * 16)
    with torch.no_grad():
        expected = plain.model.visual(patches, grid_thw=grids)
        found = ours.model.visual(patches, grid_thw=grids)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output, rtol=1e-4, atol=1e-5)
    for ours_map, their_map in zip(found.deepstack_features, expected.deepstack_features, strict=True):
        torch.testing.assert_close(ours_map, their_map, rtol=1e-4, atol=1e-5)


def test_generation_in_a_left_padded_batch_equals_generation_alone(tiny_model, training_json):
    model, processor, preprocessing = load_for_inference(tiny_model)
    assert preprocessing == Preprocessing()
    records = read_records(training_json)[:3]
    records[1]["conversations"][1]["value"] += " Please."
    samples = [build_inputs(r, processor, TEN_FPS, with_answer=False, folders=[training_json.parent]) for r in records]

    def generate(chosen):
        batch = collate(chosen, pad_token_id=processor.tokenizer.pad_token_id, padding_side="left")
        out = model.generate(**to_model_inputs(batch, processor, "cpu"), max_new_tokens=8, min_new_tokens=8)
        return out[:, -8:].tolist()

    together = generate(samples)
    assert together == [generate([sample])[0] for sample in samples]
    assert together[0] == generate_plainly(tiny_model, processor, samples[0])


def generate_plainly(tiny_model, processor, sample):
    """Greedy decoding by plain transformers without cache, patches made by the plain processor."""
    import transformers

    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(tiny_model, attn_implementation="eager")
    pixels = processor.video_processor(
        videos=[sample["videos"][0].permute(0, 3, 1, 2)], do_resize=False, do_sample_frames=False, return_tensors="pt"
    )
    ids, kinds = sample["input_ids"][None], sample["mm_token_type_ids"][None]
    end_ids = model.generation_config.eos_token_id
    for _ in range(8):
        logits = model(
            input_ids=ids,
            mm_token_type_ids=kinds,
            pixel_values_videos=pixels["pixel_values_videos"],
            video_grid_thw=pixels["video_grid_thw"],
        ).logits[:, -1]
        logits[:, end_ids] = -torch.inf
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
        kinds = torch.cat([kinds, torch.zeros(1, 1, dtype=kinds.dtype)], dim=1)
    return ids[0, -8:].tolist()
