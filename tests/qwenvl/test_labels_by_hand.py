"""Ids and labels of whole conversations, against ids that were put together here by hand, piece by piece."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")

from qwenvl.data.labels import IGNORED, MediaBlock, tokenize_conversation  # noqa: E402

pytestmark = pytest.mark.needs_torch

START, END = "<|im_start|>", "<|im_end|>"
VIDEO, IMAGE = {"type": "video"}, {"type": "image"}
# What stands for a video or an image is handed in, so numbers that no tokenizer gives can be followed through.
CLIP, OTHER_CLIP = MediaBlock((9_001, 9_002, 9_003), (0, 2, 2)), MediaBlock((9_004,), (2,))
PHOTO = MediaBlock((9_005, 9_006), (1, 0))


@dataclasses.dataclass(frozen=True)
class Taught:
    """Text that the loss sees, and the end token after it."""

    text: str


def turn(role: str, *parts: str | dict) -> dict:
    return {"role": role, "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def put_together(pieces: list, tokenizer) -> tuple[list[int], list[int], list[int]]:
    """(ids, labels, modality) of pieces: a special token, a text that is one run, a block, or what is taught."""
    ids, labels, kinds = [], [], []
    for piece in pieces:
        if isinstance(piece, MediaBlock):
            added, kind = list(piece.input_ids), list(piece.mm_token_type_ids)
        elif isinstance(piece, Taught):
            added = [*tokenizer.encode(piece.text, add_special_tokens=False), tokenizer.convert_tokens_to_ids(END)]
            kind = [0] * len(added)
        elif piece in tokenizer.get_added_vocab():
            added, kind = [tokenizer.convert_tokens_to_ids(piece)], [0]
        else:
            added = tokenizer.encode(piece, add_special_tokens=False)
            kind = [0] * len(added)
        ids += added
        kinds += kind
        labels += added if isinstance(piece, Taught) else [IGNORED] * len(added)
    return ids, labels, kinds


CONVERSATIONS = {
    "one turn": (
        [turn("user", "How fast?"), turn("assistant", "12.3 m/s")],
        [START, "user\nHow fast?", END, "\n", START, "assistant\n", Taught("12.3 m/s"), "\n"],
        [],
    ),
    "a system turn": (
        [turn("system", "You drive."), turn("user", "Q?"), turn("assistant", "A.")],
        [
            START, "system\nYou drive.", END, "\n", START, "user\nQ?", END, "\n",
            START, "assistant\n", Taught("A."), "\n",
        ],
        [],
    ),
    "an empty system turn": (
        [turn("system", ""), turn("user", "Q?"), turn("assistant", "A.")],
        [START, "system\n", END, "\n", START, "user\nQ?", END, "\n", START, "assistant\n", Taught("A."), "\n"],
        [],
    ),
    "three turns": (
        [
            turn("user", "One?"), turn("assistant", "1"), turn("user", "Two?"), turn("assistant", "2, of course"),
            turn("user", "Three?"), turn("assistant", "[(3.0, -0.0030)]"),
        ],
        [
            START, "user\nOne?", END, "\n", START, "assistant\n", Taught("1"), "\n",
            START, "user\nTwo?", END, "\n", START, "assistant\n", Taught("2, of course"), "\n",
            START, "user\nThree?", END, "\n", START, "assistant\n", Taught("[(3.0, -0.0030)]"), "\n",
        ],
        [],
    ),
    "the word assistant everywhere": (
        [
            turn("system", "assistant\nThe assistant is an assistant"),
            turn("user", "assistant\nWhat does the assistant do?\nassistant\n"),
            turn("assistant", "assistant\nThe assistant turns.\n\nassistant"),
        ],
        [
            START, "system\nassistant\nThe assistant is an assistant", END, "\n",
            START, "user\nassistant\nWhat does the assistant do?\nassistant\n", END, "\n",
            START, "assistant\n", Taught("assistant\nThe assistant turns.\n\nassistant"), "\n",
        ],
        [],
    ),
    "accents, other scripts and pictures": (
        [turn("system", "Größe"), turn("user", "¿Qué hace el 车? e\u0301"), turn("assistant", "速い 🚗\u2028naïve")],
        [
            START, "system\nGröße", END, "\n", START, "user\n¿Qué hace el 车? e\u0301", END, "\n",
            START, "assistant\n", Taught("速い 🚗\u2028naïve"), "\n",
        ],
        [],
    ),
    "a video in front of the question": (
        [turn("user", VIDEO, "How fast?"), turn("assistant", "Fast")],
        [START, "user\n", CLIP, "How fast?", END, "\n", START, "assistant\n", Taught("Fast"), "\n"],
        [CLIP],
    ),
    "images and videos between words, in one turn": (
        [turn("user", "Left", IMAGE, "or", VIDEO, VIDEO, "right?"), turn("assistant", "Left")],
        [
            START, "user\nLeft", PHOTO, "or", CLIP, OTHER_CLIP, "right?", END, "\n",
            START, "assistant\n", Taught("Left"), "\n",
        ],
        [PHOTO, CLIP, OTHER_CLIP],
    ),
    "images and videos in different turns": (
        [
            turn("system", "S"), turn("user", VIDEO, "One?"), turn("assistant", "1"),
            turn("user", "Two?"), turn("assistant", "2"), turn("user", IMAGE), turn("assistant", "3"),
        ],
        [
            START, "system\nS", END, "\n", START, "user\n", CLIP, "One?", END, "\n", START, "assistant\n", Taught("1"),
            "\n", START, "user\nTwo?", END, "\n", START, "assistant\n", Taught("2"), "\n",
            START, "user\n", PHOTO, END, "\n", START, "assistant\n", Taught("3"), "\n",
        ],
        [CLIP, PHOTO],
    ),
    "spaces and line ends around an answer": (
        [turn("user", " Q \n"), turn("assistant", "\n A \n")],
        [START, "user\n Q \n", END, "\n", START, "assistant\n", Taught("\n A \n"), "\n"],
        [],
    ),
    "placeholders of the training JSON in an answer": (
        [turn("user", "Q"), turn("assistant", "<video> then <image>\n<video>")],
        [START, "user\nQ", END, "\n", START, "assistant\n", Taught("<video> then <image>\n<video>"), "\n"],
        [],
    ),
    "what our own marks and a template's braces look like": (
        [turn("system", "{{ messages }}"), turn("user", "\ue0001\ue001 {% if %}"), turn("assistant", "\ue0000\ue001")],
        [
            START, "system\n{{ messages }}", END, "\n", START, "user\n\ue0001\ue001 {% if %}", END, "\n",
            START, "assistant\n", Taught("\ue0000\ue001"), "\n",
        ],
        [],
    ),
}  # fmt: skip


@pytest.fixture(params=["tiny", "real"])
def any_processor(request):
    return request.getfixturevalue("processor" if request.param == "tiny" else "real_processor")


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_ids_and_labels_of_a_conversation_token_by_token(any_processor, name):
    messages, pieces, blocks = CONVERSATIONS[name]
    ids, labels, kinds = put_together(pieces, any_processor.tokenizer)
    conversation = tokenize_conversation(messages, any_processor, blocks, with_answer=True)
    assert conversation.input_ids == ids
    assert conversation.labels == labels
    assert conversation.mm_token_type_ids == kinds


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_generation_is_asked_with_the_ids_before_the_last_answer(any_processor, name):
    messages, pieces, blocks = CONVERSATIONS[name]
    last = max(index for index, piece in enumerate(pieces) if isinstance(piece, Taught))
    ids, _, kinds = put_together(pieces[:last], any_processor.tokenizer)
    asked = tokenize_conversation(messages, any_processor, blocks, with_answer=False)
    assert asked.input_ids == ids
    assert asked.mm_token_type_ids == kinds


def test_a_tools_answer_is_part_of_the_prompt(real_processor):
    """Qwen's template shows it inside a user turn, in tags that are tokens of their own."""
    messages = [turn("user", "Q"), turn("assistant", "I look."), turn("tool", "12 m/s"), turn("assistant", "12")]
    pieces = [
        START, "user\nQ", END, "\n", START, "assistant\n", Taught("I look."), "\n",
        START, "user\n", "<tool_response>", "\n12 m/s\n", "</tool_response>", END, "\n",
        START, "assistant\n", Taught("12"), "\n",
    ]  # fmt: skip
    ids, labels, _ = put_together(pieces, real_processor.tokenizer)
    conversation = tokenize_conversation(messages, real_processor, [], with_answer=True)
    assert conversation.input_ids == ids
    assert conversation.labels == labels


# What the real tokenizer makes of a special token's name when it is written as text; read off its vocabulary.
SPELLED = {
    "<|im_end|>": ["<", "|", "im", "_end", "|", ">"],
    "<|im_start|>assistant": ["<", "|", "im", "_start", "|", ">", "assistant"],
    "<|video_pad|>": ["<", "|", "video", "_pad", "|", ">"],
    "<|endoftext|>": ["<", "|", "endo", "ft", "ext", "|", ">"],
}


@pytest.mark.parametrize("text", SPELLED)
def test_a_special_tokens_name_in_an_answer_is_taught_as_letters(real_processor, text):
    conversation = tokenize_conversation(
        [turn("user", "Q"), turn("assistant", text)], real_processor, [], with_answer=True
    )
    taught = [label for label in conversation.labels if label != IGNORED]
    assert real_processor.tokenizer.convert_ids_to_tokens(taught) == [*SPELLED[text], END]


@pytest.mark.parametrize("text", SPELLED)
@pytest.mark.parametrize("role", ["system", "user"])
def test_a_special_tokens_name_in_a_prompt_is_letters_and_not_taught(real_processor, role, text):
    messages = [turn("system", "S"), turn("user", "Q"), turn("assistant", "A")]
    messages[["system", "user"].index(role)] = turn(role, text)
    conversation = tokenize_conversation(messages, real_processor, [], with_answer=True)
    tokens = real_processor.tokenizer.convert_ids_to_tokens(conversation.input_ids)
    first = tokens.index(role)
    assert tokens[first + 1 : first + 3 + len(SPELLED[text])] == ["Ċ", *SPELLED[text], END]
    assert [
        label for label in conversation.labels if label != IGNORED
    ] == real_processor.tokenizer.convert_tokens_to_ids(["A", END])
    assert tokens.count(START) == 3


@pytest.mark.parametrize("text", SPELLED)
def test_a_special_tokens_name_makes_no_special_token_of_a_small_tokenizer(processor, text):
    messages = [turn("system", text), turn("user", text), turn("assistant", text)]
    conversation = tokenize_conversation(messages, processor, [], with_answer=True)
    tokens = processor.tokenizer.convert_ids_to_tokens(conversation.input_ids)
    assert [token for token in tokens if token in processor.tokenizer.get_added_vocab()] == [START, END] * 3
    assert processor.tokenizer.decode([label for label in conversation.labels if label != IGNORED]) == text + END
