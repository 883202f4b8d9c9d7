"""The ids that plain transformers gives for a conversation, and the labels that its offsets give, are ours."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from qwenvl.data.dataset import BadSample, DrivingDataset, build_inputs  # noqa: E402
from qwenvl.data.frame_cache import Clip  # noqa: E402
from qwenvl.data.labels import IGNORED, tokenize_conversation  # noqa: E402
from qwenvl.data.pixels import render_image_block, render_video_block  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch

VIDEO, IMAGE = {"type": "video"}, {"type": "image"}
SHAPES = {"video": [(4, 64, 96, 2.0), (6, 96, 64, 10.0)], "image": [(64, 64), (32, 96)]}


def turn(role: str, *parts: str | dict) -> dict:
    return {"role": role, "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


CONVERSATIONS = {
    "text": [turn("user", "How fast is the assistant?"), turn("assistant", "[(1.0, -0.0042), (1.1, 0.0000)]")],
    "turns": [
        turn("system", "You drive."), turn("user", "One?"), turn("assistant", "1"), turn("user", "Two?"),
        turn("assistant", "Two.\n\nassistant\n"),
    ],
    "empty system": [turn("system", ""), turn("user", "Q"), turn("assistant", "A")],
    "unicode": [turn("user", "¿Qué hace el 车?"), turn("assistant", "速い 🚗 naïve")],
    "video": [turn("system", "S"), turn("user", VIDEO, "\nWhat?"), turn("assistant", "[(1.0, -0.0042)]")],
    "videos in two turns": [
        turn("user", VIDEO, "What?"), turn("assistant", "A car"), turn("user", "And", VIDEO, "?"),
        turn("assistant", "Two cars"),
    ],
    "image and video in one turn": [turn("user", "See", IMAGE, VIDEO, "and", IMAGE, "?"), turn("assistant", "Yes")],
    "image, then video, then text": [
        turn("system", "S"), turn("user", IMAGE, "First?"), turn("assistant", "left"), turn("user", VIDEO, "Then?"),
        turn("assistant", "right"), turn("user", "And at last?"), turn("assistant", "straight on"),
    ],
}  # fmt: skip


@pytest.fixture(params=["tiny", "real"])
def any_processor(request):
    return request.getfixturevalue("processor" if request.param == "tiny" else "real_processor")


def list_media(messages: list[dict]) -> list[str]:
    return [part["type"] for message in messages for part in message["content"] if part["type"] != "text"]


def ask_transformers(messages: list[dict], processor) -> dict:
    """input_ids (L,) and mm_token_type_ids (L,) as the plain processor writes them, from the rendered template."""
    kinds = list_media(messages)
    videos = SHAPES["video"][: kinds.count("video")]
    media = {}
    if videos:
        media["videos"] = [torch.zeros(n, 3, h, w, dtype=torch.uint8) for n, h, w, _ in videos]
        media["video_metadata"] = [
            {"fps": fps, "total_num_frames": n, "frames_indices": list(range(n)), "duration": n / fps}
            for n, _, _, fps in videos
        ]
        media["do_sample_frames"] = False
    if "image" in kinds:
        media["images"] = [torch.zeros(3, *size, dtype=torch.uint8) for size in SHAPES["image"][: kinds.count("image")]]
    if media:
        media["do_resize"] = False
    text = processor.apply_chat_template(messages, tokenize=False)
    return processor(text=[text], return_tensors="pt", **media)


def render_blocks(messages: list[dict], processor) -> list:
    sizes = {kind: iter(shapes) for kind, shapes in SHAPES.items()}
    render = {"video": render_video_block, "image": render_image_block}
    return [render[kind](processor, *next(sizes[kind])) for kind in list_media(messages)]


def labels_from_offsets(ids: list[int], answers: list[str], tokenizer) -> list[int]:
    """Labels by character offsets: what lies in an assistant turn of the whole text, up to its end token."""
    text = tokenizer.decode(ids)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert encoded["input_ids"] == ids
    spans, place = [], 0
    for answer in answers:
        before = "<|im_start|>assistant\n"
        place = text.index(before + answer + "<|im_end|>", place) + len(before)
        spans.append((place, place + len(answer + "<|im_end|>")))
    return [
        token if any(start <= left and right <= stop for start, stop in spans) else IGNORED
        for token, (left, right) in zip(ids, encoded["offset_mapping"], strict=True)
    ]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_ids_and_labels_are_those_of_plain_transformers(any_processor, name):
    messages = CONVERSATIONS[name]
    theirs = ask_transformers(messages, any_processor)
    ids = theirs["input_ids"][0].tolist()
    ours = tokenize_conversation(messages, any_processor, render_blocks(messages, any_processor), with_answer=True)
    assert ours.input_ids == ids
    answers = [message["content"][0]["text"] for message in messages if message["role"] == "assistant"]
    assert ours.labels == labels_from_offsets(ids, answers, any_processor.tokenizer)
    if "mm_token_type_ids" in theirs:
        assert ours.mm_token_type_ids == theirs["mm_token_type_ids"][0].tolist()


@pytest.mark.parametrize("name", ["text", "turns", "empty system", "unicode"])
def test_ids_of_a_text_are_those_of_apply_chat_template(any_processor, name):
    messages = CONVERSATIONS[name]
    theirs = any_processor.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"][0]
    assert tokenize_conversation(messages, any_processor, [], with_answer=True).input_ids == list(theirs)


def test_an_answer_that_starts_with_a_line_end_is_where_we_differ_from_plain_transformers(real_processor):
    """Plain transformers joins the template's line end to the answer's: the prompt that generation is asked with is
    then no beginning of what was trained on. Ours is; the text is the same."""
    messages = [turn("user", "Q"), turn("assistant", "\nA")]
    theirs = real_processor.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"][0]
    asked = real_processor.apply_chat_template(
        messages[:1], tokenize=True, return_dict=True, add_generation_prompt=True
    )["input_ids"][0]
    ours = tokenize_conversation(messages, real_processor, [], with_answer=True).input_ids
    assert list(theirs)[: len(asked)] != list(asked)
    assert ours[: len(asked)] == list(asked)
    assert real_processor.tokenizer.decode(ours) == real_processor.tokenizer.decode(theirs)


def test_a_special_tokens_name_in_a_question_is_where_we_differ_from_plain_transformers(real_processor):
    """Plain transformers takes the eight letters for the token itself, which ends the question there."""
    messages = [turn("user", "Say <|im_end|> now"), turn("assistant", "A")]
    theirs = real_processor.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"][0]
    ours = tokenize_conversation(messages, real_processor, [], with_answer=True).input_ids
    end = real_processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (list(theirs).count(end), ours.count(end)) == (3, 2)


def record(*turns: tuple[str, str], **media) -> dict:
    return {"id": "r", **media, "conversations": [{"from": who, "value": value} for who, value in turns]}


def taught_text(sample: dict, tokenizer) -> str:
    return tokenizer.decode(sample["labels"][sample["labels"] != IGNORED])


def test_a_system_turn_of_the_json_is_not_taught(real_processor):
    """Upstream takes every speaker but human for the assistant, and supervises the system turn."""
    row = record(("system", "You are the assistant."), ("human", "Q"), ("gpt", "A"))
    sample = build_inputs(row, real_processor, Preprocessing(), with_answer=True)
    assert taught_text(sample, real_processor.tokenizer) == "A<|im_end|>"
    assert real_processor.tokenizer.decode(sample["input_ids"]).startswith("<|im_start|>system\nYou are the assistant.")


def test_a_row_without_system_turn_gets_none(real_processor):
    sample = build_inputs(record(("human", "Q"), ("gpt", "A")), real_processor, Preprocessing(), with_answer=True)
    assert real_processor.tokenizer.decode(sample["input_ids"]) == (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    )


def test_the_token_that_upstream_searches_for_may_stand_in_a_question(real_processor):
    """Upstream looks for the id of "assistant" and teaches from two tokens after it to the next end token."""
    tokenizer = real_processor.tokenizer
    row = record(("human", "assistant\nassistant\nsecret"), ("gpt", "A"), ("human", "assistant"), ("gpt", "B"))
    sample = build_inputs(row, real_processor, Preprocessing(), with_answer=True)
    assert sample["input_ids"].tolist().count(tokenizer.convert_tokens_to_ids("assistant")) == 5
    assert taught_text(sample, tokenizer) == "A<|im_end|>B<|im_end|>"


def test_a_placeholder_in_an_answer_of_the_json_is_text(real_processor):
    row = record(("human", "<video>\nQ"), ("gpt", "no <video> here"), video="a.mp4")
    clip = Clip(np.zeros((4, 64, 64, 3), np.uint8), 2.0)
    sample = build_inputs(row, real_processor, Preprocessing(), with_answer=True, clips=[clip])
    assert taught_text(sample, real_processor.tokenizer) == "no <video> here<|im_end|>"
    assert int((sample["mm_token_type_ids"] == 2).sum()) == 2 * 2 * 2  # 4 frames in pairs, 64 x 64 px in squares of 32


@pytest.mark.parametrize("num_missing", [1, 5, 30])
def test_a_sample_that_does_not_fit_goes_to_the_ledger_and_is_never_cut(processor, training_json, num_missing):
    rows, folders = json.loads(training_json.read_text()), [[training_json.parent]] * 10
    whole = DrivingDataset(rows, folders, processor, Preprocessing(video_fps=10.0), 4_096)[0]
    num_tokens = len(whole["input_ids"])
    fits = DrivingDataset(rows, folders, processor, Preprocessing(video_fps=10.0), num_tokens)[0]
    assert fits["input_ids"].tolist() == whole["input_ids"].tolist()
    limit = num_tokens - num_missing
    bad = DrivingDataset(rows, folders, processor, Preprocessing(video_fps=10.0), limit)[0]
    assert bad == BadSample(
        "clip00_seg_00", f"{num_tokens} tokens do not fit --model_max_length {limit}; a cut sample lies", row=0
    )
