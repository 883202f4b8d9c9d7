"""Our step computes what the plain step computes: loss, gradients, vision features, generation."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
from plain_batches import PAD, plain_inputs  # noqa: E402

from qwenvl.data.collate import collate, collate_prompts, to_prompt_inputs, to_step_inputs  # noqa: E402
from qwenvl.data.dataset import build_inputs, read_records  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.train.fast_vision import embed_frames, speed_up_vision  # noqa: E402
from qwenvl.train.forward import use_driving_forward  # noqa: E402
from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.loading import load_model  # noqa: E402

pytestmark = pytest.mark.needs_torch
TEN_FPS = Preprocessing(video_fps=10.0)


@pytest.fixture(scope="module")
def samples(processor, training_json):
    """Three samples of different lengths."""
    records = read_records(training_json)[:3]
    return [build_inputs(r, processor, TEN_FPS, with_answer=True, folders=[training_json.parent]) for r in records]


@pytest.fixture(scope="module")
def plain(tiny_model):
    return load_model(tiny_model, attention="eager", dtype=torch.float32)


@pytest.fixture(scope="module")
def ours(tiny_model):
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    speed_up_vision(model)
    use_driving_forward(model)
    return model


def step_inputs(processor, samples, flatten):
    return to_step_inputs(collate(samples, pad_token_id=PAD, flatten=flatten), processor, "cpu")


def test_three_samples_of_three_lengths_are_padded_to_one(processor, samples):
    batch = collate(samples, pad_token_id=PAD)
    lengths = [len(sample["input_ids"]) for sample in samples]
    assert len(set(lengths)) == 3  # the answers hold one, two and three pairs
    assert batch["input_ids"].shape == (3, max(lengths))
    assert batch["position_ids"].shape == (4, 3, max(lengths))
    assert batch["num_tokens"] == sum(lengths)


def test_a_flattened_batch_is_one_row_without_padding(processor, samples):
    batch = collate(samples, pad_token_id=PAD, flatten=True)
    assert batch["input_ids"].tolist() == [torch.cat([sample["input_ids"] for sample in samples]).tolist()]
    assert batch["sample_lengths"] == tuple(len(sample["input_ids"]) for sample in samples)
    starts = [0, len(samples[0]["input_ids"]), len(samples[0]["input_ids"]) + len(samples[1]["input_ids"])]
    assert [batch["position_ids"][0, 0, start].item() for start in starts] == [0, 0, 0]


@pytest.mark.parametrize("flatten", [False, True], ids=["padded", "flattened"])
def test_loss_and_gradients_equal_those_of_plain_transformers(plain, ours, processor, samples, flatten):
    expected = plain(**plain_inputs(processor, samples)).loss
    inputs = step_inputs(processor, samples, flatten)
    found = ours(**inputs).loss / len(inputs["targets"])
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


def test_the_loss_in_chunks_of_a_few_rows_has_the_same_gradients(plain, ours, processor, samples, monkeypatch):
    monkeypatch.setattr("qwenvl.train.loss.count_chunk_rows", lambda vocabulary, device: 7)
    inputs = step_inputs(processor, samples, True)
    (ours(**inputs).loss / len(inputs["targets"])).backward()
    plain(**plain_inputs(processor, samples)).loss.backward()
    theirs = dict(plain.named_parameters())
    for name in ("model.language_model.embed_tokens.weight", "model.visual.merger.linear_fc2.weight"):
        torch.testing.assert_close(dict(ours.named_parameters())[name].grad, theirs[name].grad, rtol=1e-4, atol=1e-6)
    plain.zero_grad()
    ours.zero_grad()


def test_micro_batches_of_unequal_length_weigh_each_token_once(ours, processor, samples):
    whole = ours(**step_inputs(processor, samples, False)).loss.item()
    parts = [ours(**step_inputs(processor, [sample], False)).loss.item() for sample in samples]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_a_batch_without_any_good_sample_has_zero_loss_and_still_reaches_the_weights(ours, processor):
    loss = ours(**step_inputs(processor, [], False)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert ours.model.language_model.norm.weight.grad is not None
    ours.zero_grad()


def test_a_frozen_tower_keeps_nothing_for_the_backward_pass(ours, processor, samples):
    tower = ours.model.visual
    inputs = step_inputs(processor, samples, True)
    tower.requires_grad_(False)
    tower.merger.requires_grad_(True)
    features, deepstack = embed_frames(tower, inputs["patches"], inputs["grids"])
    tower.requires_grad_(True)
    assert features.requires_grad  # the merger learns
    assert [part.requires_grad for part in deepstack] == [False] * 3
    seen, waiting = set(), [features.grad_fn]
    while waiting:
        node = waiting.pop()
        seen.add(node.name())
        waiting += [following for following, _ in node.next_functions if following is not None]
    assert not any("ScaledDotProduct" in name for name in seen), seen


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_samples_of_one_row_do_not_see_each_other(tiny_model, processor, samples, attention):
    model = load_model(tiny_model, attention=attention, dtype=torch.float32)
    speed_up_vision(model)
    use_driving_forward(model)
    together = model(**step_inputs(processor, samples, True)).loss
    alone = sum(model(**step_inputs(processor, [sample], True)).loss for sample in samples)
    assert together.item() == pytest.approx(alone.item(), rel=1e-6)


def test_keys_that_heads_share_may_be_repeated(ours, processor, samples, monkeypatch):
    inputs = step_inputs(processor, samples, True)
    shared = ours(**inputs).loss
    monkeypatch.setattr("qwenvl.train.attention.can_share_keys", lambda query: False)
    sdpa, calls = torch.nn.functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        "qwenvl.train.attention.functional.scaled_dot_product_attention",
        lambda q, k, v, **how: (calls.append((q.shape[1] == k.shape[1], how.get("enable_gqa"))), sdpa(q, k, v, **how))[
            1
        ],
    )
    assert ours(**inputs).loss.item() == pytest.approx(shared.item(), rel=1e-6)
    assert {call for call in calls if call[1] is not None} == {(True, False)}


@pytest.mark.parametrize("broken", ["", "positions", "mask", "cache"])
def test_each_condition_of_packing_under_plain_attention_is_needed(tiny_model, samples, broken):
    """Without our attention: 4-row positions that restart, no mask and no cache keep samples apart, all three."""
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32).model.language_model
    torch.manual_seed(0)
    embeds = [torch.randn(1, length, model.config.hidden_size) for length in (9, 6)]
    positions = [torch.arange(part.shape[1]).expand(4, 1, -1) for part in embeds]
    joined, settings = torch.cat(positions, -1), {"attention_mask": None, "use_cache": False}
    if broken == "positions":
        joined = joined[1:]  # three rows: time, height and width alone
    if broken == "mask":
        settings["attention_mask"] = torch.ones(1, 15, dtype=torch.long)
    if broken == "cache":
        settings["use_cache"] = True
    with torch.no_grad():
        packed = model(inputs_embeds=torch.cat(embeds, 1), position_ids=joined, **settings)[0][:, 9:]
        alone = model(inputs_embeds=embeds[1], position_ids=positions[1], use_cache=False)[0]
    leak = (packed - alone).abs().max().item()
    assert leak < 1e-5 if not broken else leak > 1e-2


def test_checkpointing_computes_the_language_model_twice_and_a_frozen_tower_once(tiny_model, processor, samples):
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    use_driving_forward(model)
    model.model.visual.requires_grad_(False)
    model.model.visual.merger.requires_grad_(True)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    calls = {"tower": 0, "language": 0}
    model.model.visual.blocks[0].mlp.register_forward_hook(lambda *_: calls.update(tower=calls["tower"] + 1))
    layer = model.model.language_model.layers[0]
    layer.self_attn.register_forward_hook(lambda *_: calls.update(language=calls["language"] + 1))
    speed_up_vision(model)
    model(**step_inputs(processor, samples, True)).loss.backward()
    assert calls == {"tower": 1, "language": 2}
    assert model.model.visual.merger.linear_fc2.weight.grad.abs().sum() > 0


def attend_by_edges(module, query, key, value, attention_mask, *, scaling, cu_seq_lens_q, max_length_q, **kwargs):
    """What a varlen flash kernel computes, written with plain SDPA: (B, heads, L, D) -> (B, L, heads, D)."""
    edges = cu_seq_lens_q.tolist()
    assert attention_mask is None
    assert edges[-1] == query.shape[2]
    assert cu_seq_lens_q.dtype == torch.int32
    assert max_length_q == max(stop - start for start, stop in zip(edges, edges[1:], strict=False))
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], is_causal=module.is_causal, scale=scaling
        )
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def test_flash_attention_is_told_where_samples_and_frames_begin(tiny_model, ours, processor, samples, monkeypatch):
    from transformers.modeling_utils import AttentionInterface

    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", attend_by_edges)
    model = load_model(tiny_model, attention="sdpa", dtype=torch.float32)
    for config in (model.config, model.config.text_config, model.config.vision_config):
        config._attn_implementation = "flash_attention_2"
    speed_up_vision(model)
    use_driving_forward(model)
    inputs = step_inputs(processor, samples, True)
    assert model(**inputs).loss.item() == pytest.approx(ours(**inputs).loss.item(), rel=1e-5)


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
        features, deepstack = embed_frames(ours.model.visual, patches, [tuple(grid) for grid in grids.tolist()])
    torch.testing.assert_close(features, expected.pooler_output, rtol=1e-4, atol=1e-5)
    for ours_map, their_map in zip(deepstack, expected.deepstack_features, strict=True):
        torch.testing.assert_close(ours_map, their_map, rtol=1e-4, atol=1e-5)
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
        batch = collate_prompts(chosen, pad_token_id=processor.tokenizer.pad_token_id)
        out = model.generate(**to_prompt_inputs(batch, processor, "cpu"), max_new_tokens=8, min_new_tokens=8)
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
