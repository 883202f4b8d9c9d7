"""The prompt as vLLM renders it, beside the one of training: the same tokens, or the difference is named.

    messages ──chat template──▶ text with <|vision_start|><|video_pad|><|vision_end|> ──vLLM──▶ that span becomes
        "<0.0 seconds><|vision_start|>...<|vision_end|><0.1 seconds>..."

vLLM replaces the whole span; the processor of transformers 5.19 and later replaces the pad alone, so that one more
start and end stand around the clip. A template that writes them twice brings both together.

Source: vLLM's documentation of `vllm.model_executor.models.qwen3_vl` (get_video_repl, _get_prompt_updates), 0.22 to
0.26, read and not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from qwenvl.data.dataset import build_inputs
from qwenvl.data.labels import MEDIA_PLACEHOLDERS

TEMPLATE_NAME = "chat_template_vllm.jinja"
SPAN = MEDIA_PLACEHOLDERS["video"]
DOUBLED = SPAN.replace("<|video_pad|>", SPAN)


class ServedPrompt(NamedTuple):
    """A template for vLLM and what becomes of the prompt with it.

    Attributes:
        template: Jinja text.
        is_own: it is the checkpoint's own.
        difference: "" where the tokens are those of training, else one sentence.
        num_tokens: of the prompt.
    """

    template: str
    is_own: bool
    difference: str
    num_tokens: int


def plan_prompt(record: dict[str, Any], clips: Sequence[Any], processor: Any, preprocessing: Any) -> ServedPrompt:
    """Find the template with which vLLM renders this record as training did; the checkpoint's own comes first."""
    sample = build_inputs(record, processor, preprocessing, with_answer=False, clips=clips)
    wanted = sample["input_ids"].tolist()
    own = processor.chat_template
    first_difference = ""
    for template in dict.fromkeys((own, own.replace(SPAN, DOUBLED))):
        found = render_served(record, clips, processor, template)
        difference = describe_difference(found, wanted, processor.tokenizer)
        if not difference:
            return ServedPrompt(template, template == own, "", len(wanted))
        first_difference = first_difference or difference
    return ServedPrompt(own, True, first_difference, len(wanted))


def render_served(record: dict[str, Any], clips: Sequence[Any], processor: Any, template: str) -> list[int]:
    """Token ids of a record's prompt as vLLM makes them: the template's text, and a block for each clip."""
    from driving.records import messages_from_record

    tokenizer, settings = processor.tokenizer, processor.video_processor
    messages = [message for message in messages_from_record(record) if message["role"] != "assistant"]
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    ids: list[int] = []
    rest = text
    for clip in clips:
        before, _, rest = rest.partition(SPAN)
        ids += tokenizer.encode(before, add_special_tokens=False)
        ids += render_block(clip, tokenizer, settings)
    return ids + tokenizer.encode(rest, add_special_tokens=False)


def render_block(clip: Any, tokenizer: Any, settings: Any) -> list[int]:
    """One clip: the mean time of every pair of frames in words, then its visual tokens between start and end."""
    start, pad, end = (
        tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "video_pad", "vision_end")
    )
    num_frames, height, width = clip.frames.shape[:3]
    step, side = settings.temporal_patch_size, settings.patch_size * settings.merge_size
    num_visual = (height // side) * (width // side)
    ids: list[int] = []
    for first in range(0, num_frames, step):
        times = [min(frame, num_frames - 1) / clip.fps for frame in (first, first + step - 1)]
        ids += tokenizer.encode(f"<{sum(times) / 2:.1f} seconds>", add_special_tokens=False)
        ids += [start, *[pad] * num_visual, end]
    return ids


def describe_difference(found: Sequence[int], wanted: Sequence[int], tokenizer: Any) -> str:
    """Where a served prompt leaves the one of training, in one line; "" where it does not."""
    found, wanted = list(found), list(wanted)
    if found == wanted:
        return ""
    place = next((i for i, pair in enumerate(zip(found, wanted)) if pair[0] != pair[1]), min(len(found), len(wanted)))
    served, trained = (tokenizer.decode(ids[place : place + 3]) for ids in (found, wanted))
    return (
        f"the served prompt has {len(found):,} tokens, that of training {len(wanted):,}; they differ from token "
        f"{place:,} on: {served!r} served, {trained!r} trained"
    )
