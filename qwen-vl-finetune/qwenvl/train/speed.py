"""How fast this machine computes this model: one layer and one block of its own, with random weights, timed.

A real layer costs a fraction of the model's memory and runs what the run will run: adapters, autocast, attention.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from qwenvl.train.attention import describe_samples
from qwenvl.train.fast_vision import describe_frames
from qwenvl.train.flops import Grid, Learning, count_flops, describe_work
from qwenvl.train.model_shape import ModelShape
from qwenvl.train.out_of_memory import is_out_of_memory
from qwenvl.train.parts import LANGUAGE, VISION, find_tower

BUDGET_S = 1.0  # of timing each of the two
FIRST_TOKENS = 64
ENOUGH_S = 0.1  # one pass that takes so long is timed well


@dataclass(frozen=True)
class Speed:
    """Operations a second that one process reaches, as `count_flops` counts them."""

    text_flops_per_s: float
    vision_flops_per_s: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is timed: a layer and a block of a model, on the micro-batch that a run gives them.

    Attributes:
        model: its weights may be on torch's meta device.
        dtype: of the products.
        num_samples: of a usual micro-batch.
        tokens: of a usual sample.
        grid: (t, h, w) of its video.
    """

    model: Any
    shape: ModelShape
    learning: Learning
    device: torch.device
    dtype: torch.dtype
    num_samples: int
    tokens: int
    grid: Grid


def measure_speed(trial: Trial) -> Speed | str:
    """Time one layer, and one block where there are frames; or say why that cannot be done."""
    if any(type(parameter).__name__ == "Params4bit" for parameter in trial.model.parameters()):
        return "4-bit layers cannot be timed without their weights"
    trial = replace(trial, learning=replace(trial.learning, recomputes=False))
    try:
        text = _measure_text(trial)
        vision = _measure_vision(trial) if trial.grid[0] else text
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return "one layer does not fit into the memory of this machine"
    return Speed(text, vision)


def _measure_text(trial: Trial) -> float:
    shape, learning, device, dtype = trial.shape, trial.learning, trial.device, trial.dtype
    language_model = next(m for name, m in trial.model.named_modules() if name.rsplit(".", 1)[-1] == "language_model")
    layer = _copy_first(language_model, "layers", device, unused="embed_tokens")
    implementation = language_model.config._attn_implementation
    tunes = bool(learning.in_full or learning.adapters)

    def split(num_tokens: int) -> tuple[int, int]:
        return max(1, num_tokens // trial.tokens), min(num_tokens, trial.tokens)

    def run(num_tokens: int) -> None:
        rows, length = split(num_tokens)
        hidden = torch.randn(rows, length, shape.text.width, device=device, dtype=_stream_dtype(layer, dtype))
        hidden.requires_grad_(tunes)
        positions = torch.arange(length, device=device).expand(4, rows, length)
        settings = describe_samples(implementation, (), device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = layer(inputs_embeds=hidden, position_ids=positions, use_cache=False, **settings)[0]
        if tunes:
            output.float().square().mean().backward()

    one = replace(shape, text=replace(shape.text, num_layers=1))
    share = {part: count // shape.text.num_layers for part, count in learning.adapters.items() if part == LANGUAGE}
    num_tokens = _find_size(run, trial.num_samples * trial.tokens, device)
    rows, length = split(num_tokens)
    flops = count_flops(one, describe_work([length] * rows, 0), replace(learning, adapters=share))
    return (flops.forward["text"] + flops.backward["text"]) / _time(lambda: run(num_tokens), device)


def _measure_vision(trial: Trial) -> float:
    vision, grid, learning, device, dtype = trial.shape.vision, trial.grid, trial.learning, trial.device, trial.dtype
    tower = find_tower(trial.model)
    block = _materialise(copy.deepcopy(tower.blocks[0]), device)
    learns = learning.learns(VISION)

    def run(num_frames: int) -> None:
        patches = num_frames * grid[1] * grid[2]
        hidden = (
            torch.randn(patches, vision.width, device=device).to(_stream_dtype(block, dtype)).requires_grad_(learns)
        )
        turns = torch.ones(2, patches, vision.width // vision.num_heads, device=device)
        frames = describe_frames(tower.config._attn_implementation, [(num_frames, *grid[1:])], device)
        with (
            contextlib.nullcontext() if learns else torch.no_grad(),
            torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        ):
            output = block(hidden, position_embeddings=(turns[0], turns[1]), **frames)
        if learns:
            output.float().square().mean().backward()

    num_frames = _find_size(run, trial.num_samples * grid[0], device, first=1)
    one = replace(trial.shape, vision=replace(vision, num_layers=1, patch_values=0, num_whole_frame_layers=1))
    share = {part: count // vision.num_layers for part, count in learning.adapters.items() if part == VISION}
    flops = count_flops(one, describe_work([], 0, [(num_frames, *grid[1:])]), replace(learning, adapters=share))
    return (flops.forward["vision"] + flops.backward["vision"]) / _time(lambda: run(num_frames), device)


def _copy_first(owner: nn.Module, name: str, device: torch.device, unused: str) -> nn.Module:
    """A copy of a module with the first of its layers alone, on the device with random weights."""
    layers, left_out = getattr(owner, name), getattr(owner, unused)
    try:
        setattr(owner, name, layers[:1])
        setattr(owner, unused, nn.Identity())
        copied = copy.deepcopy(owner)
    finally:
        setattr(owner, name, layers)
        setattr(owner, unused, left_out)
    return _materialise(copied, device)


def _materialise(module: nn.Module, device: torch.device) -> nn.Module:
    module = module.to_empty(device=device).train()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.02)
        for buffer in module.buffers():
            buffer.fill_(0.01) if buffer.is_floating_point() else buffer.zero_()
    return module


def _stream_dtype(module: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """fp32 between layers whose own weights are fp32, as autocast leaves it."""
    kinds = {parameter.dtype for parameter in module.parameters()}
    return torch.float32 if kinds == {torch.float32} else dtype


def _find_size(run: Callable[[int], None], most: int, device: torch.device, first: int = FIRST_TOKENS) -> int:
    """The size, doubling up to the usual one, from which on a pass takes long enough to be timed."""
    size = min(first, most)
    while True:
        run(size)  # its first call also compiles and warms up
        seconds = _time(functools.partial(run, size), device, budget_s=0)
        if seconds >= ENOUGH_S or size >= most:
            return size
        size = min(2 * size, most)


def _time(run: Callable[[], None], device: torch.device, budget_s: float = BUDGET_S) -> float:
    """Mean seconds of a call, over as many as fit into the budget, at least one."""
    _synchronise(device)
    started_s, num_calls = time.perf_counter(), 0
    while True:
        run()
        num_calls += 1
        _synchronise(device)
        elapsed_s = time.perf_counter() - started_s
        if elapsed_s >= budget_s:
            return elapsed_s / num_calls


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
