"""Samples -> one batch -> the tensors that the model takes.

    [sample] ──collate──▶ batch on the host ──to_step_inputs──▶ what `train.forward` takes, on the device
    [prompt] ──collate_prompts──▶ left-padded batch ──to_prompt_inputs──▶ what `generate` takes

A training batch is one padded row a sample, or (flattened) all samples in one row. Everything that depends on its
contents is worked out here, in the worker: places of the frames, of the supervised tokens, lengths, counts. The step
then never has to ask the device.

uint8 frames cross from the workers to the training process (a quarter of the bytes of floats); cutting into patches
and normalising happen there, on the device. B = rows, L = tokens, S = supervised tokens, V = visual tokens,
P = patches, D = values a patch
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from qwenvl.data.dataset import BadSample
from qwenvl.data.families import family_of
from qwenvl.data.labels import IGNORED
from qwenvl.data.pixels import cut_patches, normalise_patches

STEP_KEYS = ("input_ids", "position_ids", "targets", "supervised_index", "visual_index")
PROMPT_KEYS = ("input_ids", "mm_token_type_ids", "attention_mask")
IMAGE_TYPE, VIDEO_TYPE = 1, 2  # of mm_token_type_ids


def collate(
    samples: Sequence[dict[str, Any] | BadSample],
    *,
    pad_token_id: int,
    dummy: dict[str, Any] | None = None,
    flatten: bool = False,
) -> dict[str, Any]:
    """A batch for one training step; bad samples are named in `bad` and leave no trace in the tensors.

    A batch in which every sample is bad (or that is empty, at the ragged end of an epoch on several ranks) holds only
    the dummy, or one padding token: nothing is supervised, its loss is zero, and every rank still takes its step.

    Args:
        dummy: a sample (qwenvl.data.dummies) added where no sample holds an image or a video.
        flatten: put all samples into one row, (1, sum of lengths), without padding.

    Returns:
        input_ids (B, L); position_ids (4, B, L); targets (S,) and supervised_index (S,), the place in the flattened
        B * L before each; visual_index (V,), images before videos; videos and images, lists of (T, H, W, 3) uint8;
        sample_lengths (tokens of each sample of a flattened row, else ()); ids; bad; num_samples, num_supervised,
        num_visual and num_tokens as plain integers.
    """
    good = [sample for sample in samples if isinstance(sample, dict)]
    ids = [sample["id"] for sample in good]
    num_tokens = sum(len(sample["input_ids"]) for sample in good)
    if dummy is not None and not any(sample["videos"] or sample["images"] for sample in good):
        good.append(dummy)
    if not good:
        good = [_pad_sample(pad_token_id)]
    lengths = [len(sample["input_ids"]) for sample in good]
    width = sum(lengths) if flatten else max(lengths)
    starts = [sum(lengths[:i]) if flatten else i * width for i in range(len(good))]
    if flatten:
        input_ids = torch.cat([sample["input_ids"] for sample in good])[None]
        position_ids = torch.cat([sample["position_ids"] for sample in good], dim=1)[:, None]
    else:
        input_ids = pad_sequence([s["input_ids"] for s in good], batch_first=True, padding_value=pad_token_id)
        # (B, L, 4) -> (4, B, L); what stands at padding is never looked at
        position_ids = pad_sequence([s["position_ids"].T for s in good], batch_first=True).permute(2, 0, 1).contiguous()
    supervised = [torch.nonzero(sample["labels"][1:] != IGNORED)[:, 0] for sample in good]
    visual = [
        torch.nonzero(sample["mm_token_type_ids"] == kind)[:, 0] + start
        for kind in (IMAGE_TYPE, VIDEO_TYPE)
        for sample, start in zip(good, starts, strict=True)
    ]
    batch: dict[str, Any] = {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "targets": torch.cat([s["labels"][1:][places] for s, places in zip(good, supervised, strict=True)]),
        "supervised_index": torch.cat([places + start for places, start in zip(supervised, starts, strict=True)]),
        "visual_index": torch.cat(visual),
        "sample_lengths": tuple(lengths) if flatten else (),
        "images": [image for sample in good for image in sample["images"]],
        "videos": [video for sample in good for video in sample["videos"]],
        "ids": ids,
        "bad": [sample for sample in samples if isinstance(sample, BadSample)],
        "num_samples": len(ids),
        "num_tokens": num_tokens,
    }
    batch["num_supervised"] = len(batch["targets"])
    batch["num_visual"] = len(batch["visual_index"])
    return batch


def _pad_sample(pad_token_id: int) -> dict[str, Any]:
    return {
        "input_ids": torch.tensor([pad_token_id]),
        "labels": torch.tensor([IGNORED]),
        "mm_token_type_ids": torch.tensor([0]),
        "position_ids": torch.zeros(4, 1, dtype=torch.long),
        "videos": [],
        "images": [],
    }


def collate_prompts(samples: Sequence[dict[str, Any]], *, pad_token_id: int) -> dict[str, Any]:
    """A batch to generate from: padded on the left to one length, with the mask that says where."""
    lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
    batch: dict[str, Any] = {
        key: pad_sequence([s[key] for s in samples], batch_first=True, padding_value=filler, padding_side="left")
        for key, filler in (("input_ids", pad_token_id), ("mm_token_type_ids", 0))
    }
    places_from_the_right = torch.arange(batch["input_ids"].shape[1]).flip(0)
    batch["attention_mask"] = (places_from_the_right[None] < lengths[:, None]).long()
    batch["images"] = [image for sample in samples for image in sample["images"]]
    batch["videos"] = [video for sample in samples for video in sample["videos"]]
    batch["video_fps"] = [fps for sample in samples for fps in sample["video_fps"]]
    return batch


def to_step_inputs(
    batch: dict[str, Any], processor: Any, device: Any, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Move a training batch to the device and turn its frames into normalised patches: what `sum_losses` takes."""
    inputs: dict[str, Any] = {key: batch[key].to(device, non_blocking=True) for key in STEP_KEYS}
    cut = [_cut(batch[kind], settings, device, dtype) for kind, settings in _kinds(processor) if batch[kind]]
    if cut:
        inputs["patches"] = torch.cat([patches for patches, _ in cut]) if len(cut) > 1 else cut[0][0]
        inputs["grids"] = tuple(grid for _, grids in cut for grid in grids)
    inputs["sample_lengths"] = batch["sample_lengths"]
    return inputs


def to_prompt_inputs(
    batch: dict[str, Any], processor: Any, device: Any, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Move prompts to the device under the names that transformers' `generate` knows."""
    inputs = {key: batch[key].to(device, non_blocking=True) for key in PROMPT_KEYS}
    names = {"images": ("pixel_values", "image_grid_thw"), "videos": ("pixel_values_videos", "video_grid_thw")}
    for kind, settings in _kinds(processor):
        if batch[kind]:
            pixels_name, grid_name = names[kind]
            inputs[pixels_name], grids = _cut(batch[kind], settings, device, dtype)
            inputs[grid_name] = torch.tensor(grids, device=device)
    if batch["videos"] and family_of(processor).tokens_per_second:
        step_s = [processor.video_processor.temporal_patch_size / fps for fps in batch["video_fps"]]
        inputs["second_per_grid_ts"] = torch.tensor(step_s, device=device)
    return inputs


def _kinds(processor: Any) -> list[tuple[str, Any]]:
    return [("images", processor.image_processor), ("videos", processor.video_processor)]


def _cut(frames: Sequence[torch.Tensor], settings: Any, device: Any, dtype: torch.dtype) -> tuple[torch.Tensor, list]:
    """((P, D) normalised patches of all clips of one kind, their grids (t, h, w))."""
    sizes = settings.patch_size, settings.merge_size, settings.temporal_patch_size
    cut = [cut_patches(clip.to(device, non_blocking=True), *sizes) for clip in frames]
    patches = torch.cat([part for part, _ in cut])
    normalised = normalise_patches(patches, tuple(settings.image_mean), tuple(settings.image_std), dtype)
    return normalised, [grid for _, grid in cut]
