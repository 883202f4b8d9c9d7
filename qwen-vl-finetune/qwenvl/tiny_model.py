"""A random Qwen3-VL of about two million parameters, made in a second, with no hub and no download.

    corpus of our own prompts and answers ──BPE──▶ tokenizer ─┐
    sizes (flags) ──▶ config ──▶ random weights ──────────────┴─▶ DIR: model, tokenizer, chat template, processors

It has everything the real one has (DeepStack mergers, interleaved 3-D rotary positions, tied head, Qwen's special
tokens, one token a digit), so what runs on it runs on the 4B model; only the numbers are small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driving.answer_format import NOTATIONS, AnswerFormat, format_answer
from driving.errors import DrivingError
from driving.ledger import claim_output, list_entries
from driving.options import describe_options, option, parse_options
from driving.trajectory import Trajectory
from qwenvl.tiny_config import NAMES, NUM_DEEPSTACK, PATCH_PX, build_config, build_processor

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
FREE_OPTIONS = ("output_dir", "overwrite_output")  # do not decide the bytes
NUM_CORPUS_ANSWERS = 200
# Patch filters at the start: waves up to four periods a patch; gains that bring pictures and motion to one size.
NUM_PATCH_WAVES = 8
SUM_GAIN, DIFFERENCE_GAIN = 0.2, 1.6


@dataclass(frozen=True)
class TinyModelOptions:
    """Make a small Qwen3-VL with random weights, offline: model, tokenizer, chat template and processor files.

    Writes DIR. The same flags give the same bytes; running twice is safe: a finished model is kept, a half-written one
    is made again, and a folder with anything else in it is refused.
    """

    output_dir: Path = option(positional=True, help="folder to write")
    model_type: str = option("qwen3_vl", help="qwen3_vl, qwen3_vl_moe (four experts) or qwen2_5_vl")
    hidden: int = option(128, help="width of the language model")
    layers: int = option(4, help="layers of the language model, at least 3 (DeepStack feeds the first three)")
    heads: int = option(4, help="query heads of the language model")
    kv_heads: int = option(2, help="key and value heads of the language model")
    intermediate: int = option(384, help="width of the language model's MLP")
    vision_hidden: int = option(96, help="width of the vision tower")
    vision_layers: int = option(4, help="layers of the vision tower, at least 4")
    vision_heads: int = option(4, help="heads of the vision tower")
    vision_intermediate: int = option(192, help="width of the vision tower's MLP")
    vocab_size: int = option(640, help="tokens, the 256 bytes and Qwen's special tokens among them")
    init_range: float = option(0.06, help="standard deviation of the random weights")
    rope_theta: float = option(10_000.0, help="base of the language model's rotary positions")
    seed: int = option(0, help="seed of the weights and of the tokenizer's corpus")
    overwrite_output: bool = option(False, help="replace a model of other sizes")


def main(argv: Sequence[str] | None = None) -> int:
    """Make the model and say what it is."""
    options = parse_options(TinyModelOptions, argv, prog="make_tiny_model.py")
    from qwenvl.train.quiet import drop_harmless_messages

    drop_harmless_messages()
    num_parameters = make_tiny_model(options)
    print(f"{options.output_dir}: a random {NAMES[options.model_type]} with {num_parameters:,} parameters")
    return 0


def make_tiny_model(options: TinyModelOptions) -> int:
    """Write the model folder, where it is not there already; returns the number of parameters.

    Raises:
        DrivingError: The sizes do not fit each other, or the folder holds something else.
    """
    check_sizes(options)
    sizes = {name: value for name, value in describe_options(options).items() if name not in FREE_OPTIONS}
    plan = {"tool": "make_tiny_model", **sizes}
    with claim_output(options.output_dir, plan, overwrite=options.overwrite_output) as output:
        if output.is_complete:
            return output.manifest["summary"]["num_parameters"]
        from transformers.utils import logging

        from qwenvl.train.quiet import bars_on_terminals_only

        logging.set_verbosity_error()
        tokenizer = train_tokenizer(options.vocab_size, options.seed)
        model = build_model(options, tokenizer)
        with bars_on_terminals_only():
            model.save_pretrained(options.output_dir)
        build_processor(tokenizer, options.model_type).save_pretrained(options.output_dir)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        output.finish({"num_parameters": num_parameters}, holds=list_entries(options.output_dir))
    return num_parameters


def check_sizes(options: TinyModelOptions) -> None:
    """Raise where heads do not divide widths, or where DeepStack would not find its layers."""
    if options.model_type not in PATCH_PX:
        raise DrivingError(f"--model-type {options.model_type!r} is none of {', '.join(PATCH_PX)}")
    if options.hidden % options.heads or (options.hidden // options.heads) % 4:
        raise DrivingError(f"--hidden {options.hidden} must be a multiple of 4 x --heads {options.heads}")
    if options.heads % options.kv_heads:
        raise DrivingError(f"--heads {options.heads} must be a multiple of --kv-heads {options.kv_heads}")
    if options.vision_hidden % options.vision_heads or (options.vision_hidden // options.vision_heads) % 4:
        raise DrivingError(
            f"--vision-hidden {options.vision_hidden} must be a multiple of 4 x --vision-heads {options.vision_heads}"
        )
    if options.layers < NUM_DEEPSTACK or options.vision_layers < NUM_DEEPSTACK + 1:
        raise DrivingError(
            f"--layers {options.layers} and --vision-layers {options.vision_layers} must be at least "
            f"{NUM_DEEPSTACK} and {NUM_DEEPSTACK + 1}: three DeepStack features are taken and added"
        )
    smallest = 256 + len(SPECIAL_TOKENS)
    if options.vocab_size < smallest:
        raise DrivingError(f"--vocab-size {options.vocab_size} is below the bytes and special tokens: {smallest}")


def iter_corpus(seed: int) -> Iterator[str]:
    """The texts the tokenizer learns from: our questions, time stamps, and answers of random drives."""
    rng = np.random.default_rng(seed)
    for name in NOTATIONS:
        for fps in (10.0, 30.0):
            answer_format = AnswerFormat(name=name, num_pairs=int(fps), fps=fps)
            # Twice the answers' weight a text: words of the question must win merges over accidents of digits.
            yield from [answer_format.system_prompt, answer_format.question] * 50
    yield from (f"<{tenths / 10:.1f} seconds>" for tenths in range(100))
    yield from ["system\n", "user\n", "assistant\n"] * 50
    for _ in range(NUM_CORPUS_ANSWERS):
        velocity = np.abs(rng.normal(12, 8)) + np.cumsum(rng.normal(0, 0.1, 10))
        curvature = rng.normal(0, 0.01) + np.cumsum(rng.normal(0, 0.0005, 10))
        yield format_answer(Trajectory(velocity, curvature), AnswerFormat(num_pairs=10, fps=10.0))


def train_tokenizer(vocab_size: int, seed: int):
    """A byte-level BPE tokenizer that splits text as Qwen's does: digits singly, words with their space."""
    from tokenizers import pre_tokenizers, trainers
    from transformers import AddedToken, Qwen2Tokenizer

    blank = Qwen2Tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend = blank.backend_tokenizer
    backend.train_from_iterator(iter_corpus(seed), trainer)
    trained = json.loads(backend.to_str())["model"]
    regular = {token: index for token, index in trained["vocab"].items() if token not in SPECIAL_TOKENS}
    vocab = {token: index for index, token in enumerate(sorted(regular, key=regular.__getitem__))}
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=[tuple(pair) for pair in trained["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=262_144,
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def build_model(options: TinyModelOptions, tokenizer):
    """Random weights under the real architecture; every size comes from the options."""
    import torch
    import transformers

    from qwenvl.data.families import FAMILIES

    config = build_config(options, tokenizer)
    model_class = getattr(transformers, FAMILIES[options.model_type].model_class)
    token_id = tokenizer.convert_tokens_to_ids
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = model_class(config)
    shape_patch_filters(model.model.visual.patch_embed.proj.weight, options.seed)
    model.generation_config.eos_token_id = [token_id("<|im_end|>"), token_id("<|endoftext|>")]
    model.generation_config.pad_token_id = token_id("<|endoftext|>")
    model.generation_config.do_sample = False
    return model


def shape_patch_filters(weight, seed: int) -> None:
    """Start the patch filters as smooth waves, every second one on the difference of its two frames. In place.

    Roads are smooth, so white noise sees little of them; and what moves is in the difference, which is small. It
    helped at 30 frames a second and little at 10 (docs/LOG.md).

    Args:
        weight: (C, 3, 2, H, H) filters over colours, two frames and a patch.
    """
    import torch

    rng = np.random.default_rng(seed)
    num_filters, patch_px = weight.shape[0], weight.shape[-1]
    places = (np.arange(patch_px) + 0.5) / patch_px
    waves = np.stack([np.cos(np.pi * frequency * places) for frequency in range(NUM_PATCH_WAVES)])
    mix = rng.standard_normal((num_filters, NUM_PATCH_WAVES, NUM_PATCH_WAVES))
    mix[:, 0, 0] /= 2  # less of plain brightness
    pattern = np.einsum("ckl,ky,lx->cyx", mix, waves, waves)
    pattern /= np.linalg.norm(pattern, axis=(1, 2), keepdims=True)
    colour = np.array([0.3, 0.6, 0.1]) + 0.15 * rng.standard_normal((num_filters, 3))
    is_difference = np.arange(num_filters) % 2 == 1
    frames = np.where(is_difference[:, None], [[-DIFFERENCE_GAIN, DIFFERENCE_GAIN]], [[SUM_GAIN, SUM_GAIN]])
    filters = pattern[:, None, None] * colour[:, :, None, None, None] * frames[:, None, :, None, None]
    with torch.no_grad():
        weight.copy_(torch.from_numpy(filters))
