"""What plain transformers is given where our step is compared with it."""

from __future__ import annotations

from typing import Any

import torch

from qwenvl.data.families import family_of
from qwenvl.data.labels import IGNORED

PAD = 0


def plain_inputs(processor: Any, samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The padded batch with its mask and labels, put together by hand, and patches by the plain processor.

    Each sample has one video of 10 frames a second.
    """
    width = max(len(sample["input_ids"]) for sample in samples)

    def pad(key: str, filler: int) -> torch.Tensor:
        return torch.stack([torch.nn.functional.pad(s[key], (0, width - len(s[key])), value=filler) for s in samples])

    lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
    pixels = processor.video_processor(
        videos=[video.permute(0, 3, 1, 2) for sample in samples for video in sample["videos"]],
        do_resize=False, do_sample_frames=False, return_tensors="pt",
    )  # fmt: skip
    # Two frames at 10 a second.
    times = {"second_per_grid_ts": torch.tensor([0.2] * len(samples))} if family_of(processor).tokens_per_second else {}
    return times | {
        "input_ids": pad("input_ids", PAD),
        "labels": pad("labels", IGNORED),
        "mm_token_type_ids": pad("mm_token_type_ids", 0),
        "attention_mask": (torch.arange(width)[None] < lengths[:, None]).long(),
        "pixel_values_videos": pixels["pixel_values_videos"],
        "video_grid_thw": pixels["video_grid_thw"],
    }
