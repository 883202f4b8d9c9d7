"""Asking a model: prompts in, texts out. Evaluation during training and after it ask through here.

[prompt sample] ──collate_prompts──▶ left-padded batch ──generate──▶ tokens ──read_tokens──▶ [Generated]

The likeliest token is taken each time; a processor (train.token_grammar, train.sampling) may change which that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MARGIN_TOKENS = 16
MARGIN_SHARE = 0.1


@dataclass(frozen=True)
class Generated:
    """One generated answer.

    Attributes:
        text: without special tokens.
        num_tokens: generated, the end token included.
        is_cut: the token limit came before the end token.
        prompt_tokens: length of the prompt.
    """

    text: str
    num_tokens: int
    is_cut: bool
    prompt_tokens: int


def generate_answers(
    model: Any,
    processor: Any,
    samples: Sequence[dict[str, Any]],
    *,
    max_new_tokens: int,
    end_tokens: list[int],
    device: Any,
    dtype: Any,
    steer: Any = None,
) -> list[Generated]:
    """Answer a batch of prompts, taking the likeliest token each time. The caller chooses the gradient mode.

    Under ZeRO-3 every rank must call it at the same time, each with a prompt that shows a video or an image.

    Args:
        samples: of `build_inputs(..., with_answer=False)`.
        dtype: of the pixels.
        steer: a transformers LogitsProcessor, asked before each token is taken.
    """
    from qwenvl.data.collate import collate_prompts, to_prompt_inputs

    tokenizer = processor.tokenizer
    pad = end_tokens[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    inputs = to_prompt_inputs(collate_prompts(samples, pad_token_id=pad), processor, device, dtype)
    output = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=1.0,  # Qwen2.5-VL ships 1.05, which pushes a list of similar numbers apart
        use_cache=True,
        eos_token_id=end_tokens,
        pad_token_id=pad,
        logits_processor=[] if steer is None else [steer],
    )
    answers = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [
        read_tokens(tokens, end_tokens, tokenizer, len(sample["input_ids"]))
        for tokens, sample in zip(answers, samples, strict=True)
    ]


def read_tokens(tokens: list[int], end_tokens: list[int], tokenizer: Any, prompt_tokens: int) -> Generated:
    """Cut one row of `generate` at its end token; a row without one was stopped by the limit."""
    stops = [place for place, token in enumerate(tokens) if token in end_tokens]
    length = stops[0] + 1 if stops else len(tokens)
    text = tokenizer.decode(tokens[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Generated(text, length, not stops, prompt_tokens)


def find_end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model's own, the tokenizer's, and Qwen's end of turn."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = list(configured) if isinstance(configured, list | tuple) else [configured]
    ids += [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    return sorted({int(token) for token in ids if token is not None and token != tokenizer.unk_token_id})


def choose_end_of_turn(end_tokens: Sequence[int], tokenizer: Any) -> int:
    """The one end token that our answers are taught to close with."""
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    return end_of_turn if end_of_turn in end_tokens else end_tokens[0]


def choose_max_new_tokens(answers: Sequence[str], tokenizer: Any) -> int:
    """Tokens of the longest true answer, its end token, and a margin: room for a number with one more digit."""
    longest = max(len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in answers)
    return longest + 1 + max(MARGIN_TOKENS, round(MARGIN_SHARE * longest))
