"""The smallest video that a model can be shown, for a micro-batch that has no image and no video.

Every rank must go through the same modules at every step: under ZeRO-3 each one gathers its weights from all ranks,
and plain data parallel waits for a gradient of each. A rank whose micro-batch is empty, bad or text alone would leave
the tower and the mergers out, and the others would wait for it for ever. The dummy is a sample of its own with nothing
supervised: its gradients are zero. Images and videos go through the tower together, so one kind stands for both.
"""

from __future__ import annotations

from typing import Any

import torch

from qwenvl.data.families import family_of
from qwenvl.data.labels import IGNORED
from qwenvl.data.pixels import render_image_block, render_video_block
from qwenvl.data.positions import plan_positions


def build_dummy(processor: Any, kind: str = "videos") -> dict[str, Any]:
    """A black sample of one visual token, none of it supervised.

    Args:
        kind: "videos", or "images" for a still one: generation takes the two through the tower apart.
    """
    settings = processor.video_processor
    merge = settings.merge_size
    side = settings.patch_size * merge
    is_still = kind == "images"
    num_frames = 1 if is_still else settings.temporal_patch_size
    if is_still:
        block = render_image_block(processor, side, side)
    else:
        block = render_video_block(processor, num_frames, side, side, 1.0)
    ids = torch.tensor(block.input_ids)
    time_steps = family_of(processor).plan_time_steps([] if is_still else [1.0], num_frames)
    grids = [(1, merge, merge)]
    positions = plan_positions(
        block.mm_token_type_ids, grids if is_still else (), () if is_still else grids, merge, time_steps
    )
    frames = [torch.zeros(num_frames, side, side, 3, dtype=torch.uint8)]
    return {
        "id": "dummy",
        "input_ids": ids,
        "labels": torch.full_like(ids, IGNORED),
        "mm_token_type_ids": torch.tensor(block.mm_token_type_ids),
        "position_ids": torch.from_numpy(positions),
        "videos": [] if is_still else frames,
        "video_fps": [] if is_still else [1.0],
        "images": frames if is_still else [],
    }
