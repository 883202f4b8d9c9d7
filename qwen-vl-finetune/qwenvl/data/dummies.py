"""The smallest video and picture that a model can be shown, for a micro-batch that has none.

Every rank must go through the same modules at every step: under ZeRO-3 each one gathers its weights from all ranks,
and plain data parallel waits for a gradient of each. A rank whose micro-batch is empty, bad or text alone would leave
the tower and the mergers out, and the others would wait for it for ever. A dummy is a row of its own with nothing
supervised: its gradients are zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from driving.records import media_paths
from qwenvl.data.labels import IGNORED
from qwenvl.data.pixels import render_image_block, render_video_block

KINDS = ("video", "image")


def list_kinds(records: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """The kinds of media that any of the rows holds; ("video",) for text alone, whose mergers still train."""
    missing = set(KINDS)
    for record in records:
        missing = {kind for kind in missing if not media_paths(record, kind)}
        if not missing:
            break
    return tuple(kind for kind in KINDS if kind not in missing) or KINDS[:1]


def build_dummies(processor: Any, kinds: Iterable[str]) -> list[dict[str, Any]]:
    """One black sample of one visual token for each kind, none of it supervised."""
    return [_build_dummy(processor, kind) for kind in kinds]


def _build_dummy(processor: Any, kind: str) -> dict[str, Any]:
    settings = processor.video_processor if kind == "video" else processor.image_processor
    side = settings.patch_size * settings.merge_size
    if kind == "video":
        block = render_video_block(processor, settings.temporal_patch_size, side, side, 1.0)
    else:
        block = render_image_block(processor, side, side)
    frames = torch.zeros(settings.temporal_patch_size if kind == "video" else 1, side, side, 3, dtype=torch.uint8)
    ids = torch.tensor(block.input_ids)
    return {
        "input_ids": ids,
        "labels": torch.full_like(ids, IGNORED),
        "mm_token_type_ids": torch.tensor(block.mm_token_type_ids),
        "videos": [frames] if kind == "video" else [],
        "images": [frames] if kind == "image" else [],
    }
