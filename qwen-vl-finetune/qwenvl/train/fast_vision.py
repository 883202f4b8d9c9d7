"""The vision tower, computed without waste: the same arithmetic as transformers', with the same weights and names.

    patches (P, D) ──linear──▶ (P, E) + learned positions ──blocks, frames of one size in one attention call──▶ (P, E)
            ──merger──▶ (P / 4, H), and one DeepStack feature after each of three blocks

Positions depend on the frame size alone: they are worked out once a size, on the host. A frozen tower keeps nothing
for the backward pass. P = patches, D = values a patch, E = tower width, H = language width
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from qwenvl.train.parts import MERGER, find_tower, part_of

Grid = tuple[int, int, int]


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


def embed_frames(
    tower: nn.Module, patches: torch.Tensor, grids: Sequence[Grid]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Features of all images and videos of a batch in one pass: (P / 4, H), and the DeepStack features alike.

    Args:
        patches: (P, D) normalised, in the order of the grids.
        grids: (t, h, w) in patches.
    """
    if not hasattr(tower, "pos_embed"):  # Qwen2.5-VL: attention in windows, no learned positions, no DeepStack
        sizes = torch.tensor(list(grids), device=patches.device)
        return tower(patches, grid_thw=sizes).pooler_output, []
    frozen = is_frozen(tower)
    deepstack_layers = list(tower.deepstack_visual_indexes)
    with torch.no_grad() if frozen else contextlib.nullcontext():
        hidden = tower.patch_embed(patches)
        hidden = hidden + interpolate_positions(tower, grids, hidden.device).to(hidden.dtype)
        settings = {
            "position_embeddings": rotate_positions(tower, grids, hidden.device),
            **describe_frames(tower.config._attn_implementation, grids, hidden.device),
        }
    stops = []
    for index, block in enumerate(tower.blocks):
        with torch.no_grad() if frozen else contextlib.nullcontext():
            hidden = block(hidden, **settings)
        if index in deepstack_layers:
            stops.append(tower.deepstack_merger_list[deepstack_layers.index(index)](hidden))
    return tower.merger(hidden), stops


def is_frozen(tower: nn.Module) -> bool:
    """Whether no weight below the mergers learns."""
    return not any(
        parameter.requires_grad and part_of(f"visual.{name}") != MERGER for name, parameter in tower.named_parameters()
    )


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept may be used in a training step later
def _plan_grid(height: int, width: int, side: int, merge: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """For one frame size, in the tower's order (neighbours that will be merged follow each other).

    Returns:
        (corners (4, h w) rows of the learned grid, weights (4, h w, 1) of each, places (h w, 2) row and column).
    """
    rows, columns = torch.linspace(0, side - 1, height), torch.linspace(0, side - 1, width)
    top, left = rows.int(), columns.int()
    bottom, right = (top + 1).clamp(max=side - 1), (left + 1).clamp(max=side - 1)
    down, across = (rows - top)[:, None], (columns - left)[None]
    corners = torch.stack([(y[:, None] * side + x[None]) for y in (top, bottom) for x in (left, right)])
    weights = torch.stack([y * x for y in (1 - down, down) for x in (1 - across, across)])
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1)
    ordered = [_merge_order(tensor, merge) for tensor in (corners, weights, places.permute(2, 0, 1))]
    corners, weights, places = ordered
    return corners.long().to(device), weights[..., None].to(device), places.T.contiguous().to(device)


def _merge_order(tensor: torch.Tensor, merge: int) -> torch.Tensor:
    """(N, h, w) -> (N, h w) with the merge x merge neighbours next to each other."""
    count, height, width = tensor.shape
    blocks = tensor.view(count, height // merge, merge, width // merge, merge)
    return blocks.permute(0, 1, 3, 2, 4).reshape(count, -1)


def _look_up(tower: nn.Module, grid: Grid, device: torch.device) -> tuple[torch.Tensor, ...]:
    side = round(tower.config.num_position_embeddings**0.5)
    return _plan_grid(*grid[1:], side, tower.config.spatial_merge_size, device)


def interpolate_positions(tower: nn.Module, grids: Sequence[Grid], device: torch.device) -> torch.Tensor:
    """(P, E) the learned positions of every patch, interpolated to each frame size."""
    plans = {grid[1:]: _look_up(tower, grid, device) for grid in grids}
    corners = torch.cat([corners for corners, _, _ in plans.values()], 1)
    weights = torch.cat([weights for _, weights, _ in plans.values()], 1)
    learned = (tower.pos_embed(corners) * weights).sum(0)
    sizes = dict(zip(plans, learned.split([height * width for height, width in plans]), strict=True))
    return torch.cat([sizes[grid[1:]].repeat(grid[0], 1) for grid in grids])


def rotate_positions(
    tower: nn.Module, grids: Sequence[Grid], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(cosines, sines), each (P, head width), of the rotary positions."""
    # Under ZeRO-3 neither weights nor buffers need be where the patches are.
    frequencies = tower.rotary_pos_emb.inv_freq.to(device, torch.float32)
    angles = {grid[1:]: (_look_up(tower, grid, device)[2][..., None] * frequencies).flatten(1) for grid in grids}
    cosines, sines = (
        torch.cat([part[grid[1:]].repeat(grid[0], 2) for grid in grids])
        for part in ({size: f(a) for size, a in angles.items()} for f in (torch.cos, torch.sin))
    )
    return cosines, sines


def describe_frames(implementation: str, grids: Sequence[Grid], device: torch.device) -> dict[str, Any]:
    """Where frames begin, as the tower's attention wants to know it."""
    lengths = [h * w for t, h, w in grids for _ in range(t)]
    if implementation == "sdpa":
        return {"cu_seqlens": tuple((length, len(list(same))) for length, same in groupby(lengths))}
    edges = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {"cu_seqlens": edges.to(device, non_blocking=True), "max_seqlen": max(lengths)}


def project_patches(self: nn.Conv3d, patches: torch.Tensor) -> torch.Tensor:
    """Embed patches that are exactly one kernel large: (P, 3, 2, 16, 16) -> (P, E, 1, 1, 1).

    A convolution with one output position is a matrix product; as Conv3d it is several times slower on CPU and, with
    some versions of cuDNN, by orders of magnitude on GPU.
    """
    embedded = functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
    return embedded[:, :, None, None, None]


def attend_frames(self: Any, hidden_states: torch.Tensor, cu_seqlens: Any, position_embeddings: Any = None, **_: Any):
    """Attention within each frame (pair): (P, E) -> (P, E). Frames of one size go through one call.

    transformers calls SDPA once a frame without flash attention: 15 small calls a layer for a 30-frame clip.

    Args:
        cu_seqlens: ((patches a frame, frames that follow each other), ...), or transformers' tensor of edges.
    """
    from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

    num_patches = hidden_states.shape[0]
    query, key, value = self.qkv(hidden_states).reshape(num_patches, 3, self.num_heads, -1).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    if isinstance(cu_seqlens, torch.Tensor):
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
        cu_seqlens = tuple((length, len(list(same))) for length, same in groupby(lengths))
    outputs, start = [], 0
    for length, count in cu_seqlens:
        stop = start + count * length
        q, k, v = (t[start:stop].view(count, length, self.num_heads, -1).transpose(1, 2) for t in (query, key, value))
        attended = functional.scaled_dot_product_attention(q, k, v, scale=self.scaling)
        outputs.append(attended.transpose(1, 2).reshape(stop - start, -1))
        start = stop
    return self.proj(outputs[0] if len(outputs) == 1 else torch.cat(outputs))
