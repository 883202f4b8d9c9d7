"""Samples -> one padded batch -> the tensors that the model takes.

    [sample] ──collate──▶ batch: input_ids, labels, attention_mask, mm_token_type_ids (B, L), videos and images as uint8
             ──to_model_inputs──▶ the same with pixel_values_videos (P, D) float and video_grid_thw (V, 3)

uint8 frames cross from the workers to the training process (a quarter of the bytes of floats); cutting into patches
and normalising happen there, on the device. B = samples, L = tokens, V = videos, P = patches, D = values a patch
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qwenvl.data.dataset import BadSample
from qwenvl.data.labels import IGNORED
from qwenvl.data.pixels import cut_patches, normalise_patches

TENSOR_KEYS = ("input_ids", "labels", "mm_token_type_ids")


def collate(
    samples: Sequence[dict[str, Any] | BadSample],
    *,
    pad_token_id: int,
    padding_side: str = "right",
    dummies: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Pad samples to one length; bad ones are named in `bad` and leave no trace in the tensors.

    A batch in which every sample is bad (or that is empty, at the ragged end of an epoch on several ranks) holds only
    the dummies, or one padding token: nothing is supervised, its loss is zero, and every rank still takes its step.

    Args:
        padding_side: "right" for training, "left" for generation.
        dummies: samples of one kind of media each (qwenvl.data.dummies), added where no sample holds that kind.
    """
    good = [sample for sample in samples if isinstance(sample, dict)]
    ids = [sample["id"] for sample in good]
    bad = [sample for sample in samples if isinstance(sample, BadSample)]
    good += [dummy for dummy in dummies if not any(_media_kinds(dummy) & _media_kinds(sample) for sample in good)]
    fillers = {"input_ids": pad_token_id, "labels": IGNORED, "mm_token_type_ids": 0}
    batch: dict[str, Any] = {}
    for key in TENSOR_KEYS:
        rows = [sample[key] for sample in good] or [torch.tensor([fillers[key]])]
        batch[key] = torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=fillers[key], padding_side=padding_side
        )
    lengths = torch.tensor([len(sample["input_ids"]) for sample in good] or [1])
    positions = torch.arange(batch["input_ids"].shape[1])
    if padding_side == "left":
        positions = positions.flip(0)
    batch["attention_mask"] = (positions[None] < lengths[:, None]).long()
    batch["videos"] = [video for sample in good for video in sample["videos"]]
    batch["images"] = [image for sample in good for image in sample["images"]]
    batch["padding_side"] = padding_side
    batch["ids"] = ids
    batch["bad"] = bad
    return batch


def _media_kinds(sample: dict[str, Any]) -> set[str]:
    return {kind for kind in ("videos", "images") if sample[kind]}


def to_model_inputs(
    batch: dict[str, Any], processor: Any, device: Any, dtype: torch.dtype = torch.float32, *, with_labels: bool = False
) -> dict[str, torch.Tensor]:
    """Move a batch to the device and turn its frames into normalised patches.

    For training (`with_labels`) the batch is padded on the right, and no attention mask is passed: causal attention
    never looks right, so no real token sees padding, and without a mask the upper half of the scores is not computed.
    For generation labels are left out: `generate` does not take them.
    """
    if with_labels and batch["padding_side"] != "right":
        raise ValueError("a batch padded on the left needs its mask; train on one padded on the right")
    keys = (*TENSOR_KEYS,) if with_labels else ("input_ids", "mm_token_type_ids", "attention_mask")
    inputs = {key: batch[key].to(device, non_blocking=True) for key in keys}
    for kind, names in {
        "videos": ("pixel_values_videos", "video_grid_thw", processor.video_processor),
        "images": ("pixel_values", "image_grid_thw", processor.image_processor),
    }.items():
        if not batch[kind]:
            continue
        pixels_name, grid_name, settings = names
        cut = [
            cut_patches(
                frames.to(device, non_blocking=True),
                settings.patch_size,
                settings.merge_size,
                settings.temporal_patch_size,
            )
            for frames in batch[kind]
        ]
        patches = torch.cat([part for part, _ in cut])
        inputs[pixels_name] = normalise_patches(patches, list(settings.image_mean), list(settings.image_std), dtype)
        inputs[grid_name] = torch.tensor([grid for _, grid in cut], device=device)
    return inputs
