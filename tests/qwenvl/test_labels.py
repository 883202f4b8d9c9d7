"""Exactly the assistant's words and their end token are supervised, and the ids are the processor's own."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from driving.errors import RecordError  # noqa: E402
from qwenvl.data.labels import IGNORED, MediaBlock, tokenize_conversation  # noqa: E402
from qwenvl.data.pixels import cut_patches, normalise_patches, render_image_block, render_video_block  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture(params=["tiny", "real"])
def any_processor(request):
    return request.getfixturevalue("processor" if request.param == "tiny" else "real_processor")


def turn(role: str, *parts) -> dict:
    return {"role": role, "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


VIDEO = {"type": "video"}


def supervised_tokens(conversation, tokenizer) -> list[str]:
    kept = [label for label in conversation.labels if label != IGNORED]
    return tokenizer.convert_ids_to_tokens(kept)


def test_the_answer_and_its_end_token_are_supervised_token_by_token(any_processor):
    messages = [turn("system", "Drive."), turn("user", "How fast?"), turn("assistant", "(1.5, -0.02)")]
    conversation = tokenize_conversation(messages, any_processor, [], with_answer=True)
    expected = ["(", "1", ".", "5", ",", "Ġ-", "0", ".", "0", "2", ")", "<|im_end|>"]
    assert supervised_tokens(conversation, any_processor.tokenizer) == expected


def test_the_newline_after_the_end_token_is_not_supervised(processor):
    conversation = tokenize_conversation([turn("user", "Q"), turn("assistant", "A")], processor, [], with_answer=True)
    assert processor.tokenizer.decode(conversation.input_ids[-1:]) == "\n"
    assert conversation.labels[-1] == IGNORED


def test_every_assistant_turn_is_supervised_and_no_other(any_processor):
    messages = [
        turn("system", "The assistant drives."),
        turn("user", "assistant assistant"),
        turn("assistant", "left"),
        turn("user", "And then?"),
        turn("assistant", "right"),
    ]
    conversation = tokenize_conversation(messages, any_processor, [], with_answer=True)
    kept = [label for label in conversation.labels if label != IGNORED]
    assert any_processor.tokenizer.decode(kept) == "left<|im_end|>right<|im_end|>"


def test_special_text_inside_a_question_stays_text(any_processor):
    messages = [turn("user", "Is <|im_end|> or <|video_pad|> a token?"), turn("assistant", "No")]
    conversation = tokenize_conversation(messages, any_processor, [], with_answer=True)
    tokenizer = any_processor.tokenizer
    end_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert conversation.input_ids.count(end_id) == 2
    assert tokenizer.convert_tokens_to_ids("<|video_pad|>") not in conversation.input_ids
    assert "Is <|im_end|> or <|video_pad|> a token?" in tokenizer.decode(conversation.input_ids)


def test_the_prompt_of_generation_is_the_beginning_of_the_training_sample(any_processor):
    messages = [turn("system", "Drive."), turn("user", "How fast?"), turn("assistant", "\n 12 m/s")]
    taught = tokenize_conversation(messages, any_processor, [], with_answer=True)
    asked = tokenize_conversation(messages, any_processor, [], with_answer=False)
    assert taught.input_ids[: len(asked.input_ids)] == asked.input_ids
    assert taught.labels[len(asked.input_ids)] != IGNORED
    assert taught.labels[len(asked.input_ids) - 1] == IGNORED


@pytest.mark.parametrize(("num_frames", "fps"), [(10, 10.0), (11, 10.0), (30, 30.0)])
def test_ids_and_pixels_of_a_video_are_those_of_the_processor(any_processor, num_frames, fps):
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 64, 96, 3), dtype=np.uint8)
    messages = [
        turn("system", "Drive."),
        turn("user", VIDEO, "\n What does the assistant do?"),
        turn("assistant", "[(1.0, -0.0042)]"),
    ]
    metadata = {"fps": fps, "total_num_frames": num_frames, "frames_indices": list(range(num_frames))}
    theirs = any_processor(
        text=[any_processor.apply_chat_template(messages, tokenize=False)],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[{**metadata, "duration": num_frames / fps}],
        do_sample_frames=False,
        do_resize=False,
        return_tensors="pt",
    )
    block = render_video_block(any_processor, num_frames, 64, 96, fps)
    ours = tokenize_conversation(messages, any_processor, [block], with_answer=True)
    patches, grid = cut_patches(torch.from_numpy(frames), 16, 2, 2)
    assert ours.input_ids == theirs["input_ids"][0].tolist()
    assert ours.mm_token_type_ids == theirs["mm_token_type_ids"][0].tolist()
    assert list(grid) == theirs["video_grid_thw"][0].tolist()
    pixels = normalise_patches(patches, (0.5,) * 3, (0.5,) * 3, torch.float32)
    assert torch.equal(pixels, theirs["pixel_values_videos"])


def test_an_image_is_cut_as_the_image_processor_cuts_it(any_processor):
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    messages = [turn("user", {"type": "image"}, "What?"), turn("assistant", "A car")]
    theirs = any_processor(
        text=[any_processor.apply_chat_template(messages, tokenize=False)],
        images=[torch.from_numpy(image[0]).permute(2, 0, 1)],
        do_resize=False,
        return_tensors="pt",
    )
    block = render_image_block(any_processor, 64, 96)
    ours = tokenize_conversation(messages, any_processor, [block], with_answer=True)
    patches, grid = cut_patches(torch.from_numpy(image), 16, 2, 2)
    assert ours.input_ids == theirs["input_ids"][0].tolist()
    assert list(grid) == theirs["image_grid_thw"][0].tolist()
    pixels = normalise_patches(patches, (0.5,) * 3, (0.5,) * 3, torch.float32)
    assert torch.allclose(pixels, theirs["pixel_values"], atol=1e-6)


def test_normalising_uses_the_statistics_of_each_channel():
    patches = torch.tensor([[0, 0, 255, 255, 51, 51]], dtype=torch.uint8)  # 3 channels, 2 values each
    values = normalise_patches(patches, (0.0, 0.5, 0.2), (1.0, 0.5, 0.1), torch.float32)
    assert torch.allclose(values, torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]]), atol=1e-6)


def test_an_empty_answer_is_refused(processor):
    with pytest.raises(RecordError, match="assistant turn is empty"):
        tokenize_conversation([turn("user", "Q"), turn("assistant", " ")], processor, [], with_answer=True)


def test_a_conversation_that_ends_in_a_question_is_refused(processor):
    with pytest.raises(RecordError, match="does not end in an assistant turn"):
        tokenize_conversation([turn("user", "Q")], processor, [], with_answer=True)


def test_more_videos_than_the_text_shows_are_refused(processor):
    block = MediaBlock((1, 2), (0, 2))
    with pytest.raises(RecordError, match="shows 0 images and videos, 1 were given"):
        tokenize_conversation([turn("user", "Q"), turn("assistant", "A")], processor, [block], with_answer=True)
