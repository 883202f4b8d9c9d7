"""The vision tower's two slow places, replaced by the same arithmetic done once.

Weights, names and checkpoints stay as they are; only how a module computes is changed.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from qwenvl.train.parts import find_tower


def speed_up_vision(model: nn.Module) -> None:
    """Compute the patch embedding as a matrix product, and frames of one size in one attention call."""
    tower = find_tower(model)
    if tower is None:
        return
    projection = tower.patch_embed.proj
    if isinstance(projection, nn.Conv3d):
        projection.forward = types.MethodType(project_patches, projection)
    if tower.config._attn_implementation == "sdpa":
        for block in tower.blocks:
            block.attn.forward = types.MethodType(attend_frames, block.attn)


def project_patches(self: nn.Conv3d, patches: torch.Tensor) -> torch.Tensor:
    """Embed patches that are exactly one kernel large: (P, 3, 2, 16, 16) -> (P, E, 1, 1, 1).

    A convolution with one output position is a matrix product; as Conv3d it is several times slower on CPU and, with
    some versions of cuDNN, by orders of magnitude on GPU.
    """
    embedded = functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
    return embedded[:, :, None, None, None]


def attend_frames(
    self: Any, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor, position_embeddings: Any = None, **kwargs: Any
) -> torch.Tensor:
    """Attention within each frame (pair): (P, E) -> (P, E). Frames of one size go through one call.

    transformers calls SDPA once a frame without flash attention: 15 small calls a layer for a 30-frame clip.
    """
    from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

    num_patches = hidden_states.shape[0]
    query, key, value = self.qkv(hidden_states).reshape(num_patches, 3, self.num_heads, -1).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
    outputs, start, index = [], 0, 0
    while index < len(lengths):
        length, first = lengths[index], index
        while index < len(lengths) and lengths[index] == length:
            index += 1
        stop = start + (index - first) * length
        q, k, v = (
            t[start:stop].view(index - first, length, self.num_heads, -1).transpose(1, 2) for t in (query, key, value)
        )
        attended = functional.scaled_dot_product_attention(q, k, v, scale=self.scaling)
        outputs.append(attended.transpose(1, 2).reshape(stop - start, -1))
        start = stop
    return self.proj(outputs[0] if len(outputs) == 1 else torch.cat(outputs))
