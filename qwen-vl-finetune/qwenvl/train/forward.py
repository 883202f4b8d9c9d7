"""One training step through Qwen3-VL: embed, put the frames in, attend, sum the loss.

    input_ids ──embed_tokens──▶ (B, L, E) ◀──index_copy── tower(patches): one call for all images and videos
                                   │
                    language_model(position_ids (4, B, L), DeepStack features added by index)
                                   │
                    hidden (B, L, E) ──supervised_index──▶ (S, E) ──head, in chunks──▶ summed loss

Everything that depends on the batch's shape was worked out on the host, so nothing is read back from the device.
Generation goes through transformers' own forward. B = rows, L = tokens, E = width, S = supervised tokens
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from qwenvl.train.attention import attend_samples_alone, describe_samples
from qwenvl.train.fast_vision import embed_frames
from qwenvl.train.loss import sum_in_chunks


def use_driving_forward(model: nn.Module) -> None:
    """Make `model(targets=..., ...)` return the summed loss; without targets the model answers as before."""
    plain_forward = model.forward
    language_model = model.model.language_model
    attend_samples_alone(language_model)
    add_deepstack_by_index(language_model)
    sum_in_chunks(model.lm_head)

    def forward(self: nn.Module, *args: Any, targets: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if targets is None:
            return plain_forward(*args, **kwargs)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        return CausalLMOutputWithPast(loss=sum_losses(self, targets=targets, **kwargs))

    # `generate` looks up there which of its inputs the model knows.
    forward.__signature__ = inspect.signature(type(model).forward)  # type: ignore[attr-defined]
    model.forward = types.MethodType(forward, model)


def sum_losses(
    model: nn.Module,
    *,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    targets: torch.Tensor,
    supervised_index: torch.Tensor,
    visual_index: torch.Tensor | None = None,
    patches: torch.Tensor | None = None,
    grids: Sequence[tuple[int, int, int]] = (),
    sample_lengths: Sequence[int] = (),
    **_: Any,
) -> torch.Tensor:
    """Sum of the cross entropies of the supervised tokens, fp32.

    Args:
        input_ids: (B, L).
        position_ids: (4, B, L) place in the sample, time, height, width.
        targets: (S,) the supervised tokens.
        supervised_index: (S,) places in the flattened B * L whose output predicts them.
        visual_index: (V,) places in the flattened B * L that the frames' features take.
        patches: (P, D) normalised, all images, then all videos.
        grids: (t, h, w) of each, in patches.
        sample_lengths: tokens of each sample where B is 1 and the samples follow each other; () for padded rows.
    """
    language_model = model.model.language_model
    embeds = language_model.embed_tokens(input_ids)
    extra: dict[str, Any] = {}
    if patches is not None:
        features, deepstack = embed_frames(model.model.visual, patches, grids)
        flat = embeds.flatten(0, 1).index_copy(0, visual_index, features.to(embeds.dtype))
        embeds = flat.view_as(embeds)
        if deepstack:
            extra = {"visual_pos_masks": visual_index, "deepstack_visual_embeds": deepstack}
    implementation = language_model.config._attn_implementation
    if implementation.startswith("flash"):
        # In the first row transformers would look for samples, in every layer, and wait for the answer.
        position_ids = position_ids[1:]
    hidden = language_model(
        inputs_embeds=embeds,
        position_ids=position_ids,
        use_cache=False,
        **extra,
        **describe_samples(implementation, sample_lengths, embeds.device),
    )[0]
    return model.lm_head(hidden.flatten(0, 1).index_select(0, supervised_index), targets)


def add_deepstack_by_index(language_model: nn.Module) -> None:
    """Let the DeepStack features be added at places given by number; a mask would be counted on the device first."""
    plain = getattr(language_model, "_deepstack_process", None)
    if plain is None:
        return

    def add(self: nn.Module, hidden: torch.Tensor, places: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        if places.dtype == torch.bool:
            return plain(hidden, places, features)
        return hidden.flatten(0, 1).index_add(0, places, features.to(hidden.dtype)).view_as(hidden)

    language_model._deepstack_process = types.MethodType(add, language_model)
