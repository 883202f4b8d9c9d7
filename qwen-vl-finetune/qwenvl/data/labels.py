"""Token ids and labels of one conversation, both from one walk, so that they cannot disagree.

    messages ──chat template──▶ skeleton: the template's own text, with a mark where each text of ours goes
             ──split──▶ special token | media block | mark | plain text
             ──walk──▶ input_ids (L,), labels (L,), mm_token_type_ids (L,)

Exactly the assistant's texts and the end token after each are supervised. The newline after the end token is not:
generation stops at the end token, so nobody ever asks the model for it.

Our own texts never meet the special-token parser: a literal `<|im_end|>` in a question stays eight characters of
question. No token id is written here or searched for; every one comes from the tokenizer and the template.

L = tokens
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from driving.errors import RecordError

IGNORED = -100  # what torch's cross entropy skips
_MARK = "\ue000{}\ue001"  # private-use characters: no template writes them
_MARK_PATTERN = "\ue000(\\d+)\ue001"
MEDIA_PLACEHOLDERS = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}


@dataclass(frozen=True)
class MediaBlock:
    """The tokens that stand for one image or video, as the installed processor writes them.

    Attributes:
        input_ids: (M,) with time stamps and vision start and end tokens.
        mm_token_type_ids: (M,) 0 text, 1 image, 2 video.
    """

    input_ids: tuple[int, ...]
    mm_token_type_ids: tuple[int, ...]


@dataclass
class TokenizedConversation:
    """Three lists of one length L: ids, labels (IGNORED where not supervised) and modality of each token."""

    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    mm_token_type_ids: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], is_supervised: bool) -> None:
        self.input_ids.extend(ids)
        self.labels.extend(ids if is_supervised else [IGNORED] * len(ids))
        self.mm_token_type_ids.extend([0] * len(ids))

    def add_media(self, block: MediaBlock) -> None:
        self.input_ids.extend(block.input_ids)
        self.labels.extend([IGNORED] * len(block.input_ids))
        self.mm_token_type_ids.extend(block.mm_token_type_ids)


def tokenize_conversation(
    messages: Sequence[dict[str, Any]], processor: Any, blocks: Sequence[MediaBlock], *, with_answer: bool
) -> TokenizedConversation:
    """Turn chat messages into ids and labels.

    Args:
        messages: {"role", "content"}; content is a text or a list of {"type": "text" | "image" | "video", ...}.
        blocks: one per image or video, in the order of the messages.
        with_answer: False drops the last assistant turn and ends where generation begins.

    Raises:
        RecordError: No assistant turn, an empty answer, or not as many blocks as images and videos.
    """
    if not messages or messages[-1]["role"] != "assistant":
        if with_answer:
            raise RecordError("the conversation does not end in an assistant turn; there is nothing to learn")
    elif not with_answer:
        messages = messages[:-1]
    structure, texts = _take_apart(messages)
    skeleton = _render_skeleton(processor, structure, not with_answer)
    conversation = _walk(skeleton, texts, blocks, processor.tokenizer)
    if with_answer and conversation.labels.count(IGNORED) == len(conversation.labels):
        raise RecordError("no token of the conversation is supervised; there is nothing to learn")
    return conversation


def _take_apart(messages: Sequence[dict[str, Any]]) -> tuple[tuple, list[tuple[str, bool]]]:
    """(roles and part types, [(text, is it the assistant's)]): what the template sees, and what it must not see."""
    structure, texts = [], []
    for message in messages:
        role, content = message["role"], message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        kinds = []
        for part in parts:
            kinds.append(part["type"])
            if part["type"] == "text":
                texts.append((part["text"], role == "assistant"))
        if role == "assistant" and not any(part.get("text", "").strip() for part in parts):
            raise RecordError("an assistant turn is empty; there is nothing to learn from it")
        structure.append((role, tuple(kinds)))
    return tuple(structure), texts


@lru_cache(maxsize=256)
def _render_skeleton(processor: Any, structure: tuple, add_generation_prompt: bool) -> tuple[tuple[str, str], ...]:
    """The rendered template as (kind, text) pieces: "special", "image", "video", "mark" or "plain"."""
    messages, num_texts = [], 0
    for role, kinds in structure:
        content = []
        for kind in kinds:
            if kind == "text":
                content.append({"type": "text", "text": _MARK.format(num_texts)})
                num_texts += 1
            else:
                content.append({"type": kind})
        messages.append({"role": role, "content": content})
    rendered = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    special = sorted(processor.tokenizer.get_added_vocab(), key=len, reverse=True)
    media = "|".join(f"(?P<{kind}>{re.escape(text)})" for kind, text in MEDIA_PLACEHOLDERS.items())
    pattern = re.compile(f"{media}|(?P<special>{'|'.join(map(re.escape, special))})|(?P<mark>{_MARK_PATTERN})")
    pieces, end = [], 0
    for match in pattern.finditer(rendered):
        if match.start() > end:
            pieces.append(("plain", rendered[end : match.start()]))
        kind = match.lastgroup or ""
        pieces.append((kind, re.sub(_MARK_PATTERN, r"\1", match.group()) if kind == "mark" else match.group()))
        end = match.end()
    if end < len(rendered):
        pieces.append(("plain", rendered[end:]))
    marks = [text for kind, text in pieces if kind == "mark"]
    if marks != [str(index) for index in range(num_texts)]:
        raise RecordError(
            f"the chat template shows {len(marks)} of the conversation's {num_texts} texts, or in another order; "
            "it cannot carry these roles"
        )
    return tuple(pieces)


def _walk(
    pieces: Sequence[tuple[str, str]], texts: Sequence[tuple[str, bool]], blocks: Sequence[MediaBlock], tokenizer: Any
) -> TokenizedConversation:
    conversation = TokenizedConversation()
    run = ""  # unsupervised text not yet tokenized: the template's and the user's words meet here, as in one string
    awaits_end_token = False
    block_iter = iter(blocks)
    num_media = sum(kind in MEDIA_PLACEHOLDERS for kind, _ in pieces)
    if num_media != len(blocks):
        raise RecordError(f"the conversation shows {num_media} images and videos, {len(blocks)} were given")
    for kind, piece in pieces:
        if kind == "plain":
            run += piece
            continue
        if kind == "mark" and not texts[int(piece)][1]:
            run += texts[int(piece)][0]
            continue
        conversation.add(_encode_text(tokenizer, run), False)
        run = ""
        if kind == "mark":
            # The answer is tokenized on its own: the ids before it are then exactly the prompt of generation.
            conversation.add(_encode_text(tokenizer, texts[int(piece)][0]), True)
            awaits_end_token = True
        elif kind == "special":
            conversation.add([tokenizer.convert_tokens_to_ids(piece)], awaits_end_token)
            awaits_end_token = False
        else:
            conversation.add_media(next(block_iter))
    conversation.add(_encode_text(tokenizer, run), False)
    return conversation


@lru_cache(maxsize=1024)
def _encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Ids of a text in which nothing is special. Questions repeat over a dataset, so they are kept."""
    if not text:
        return ()
    return tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
