"""Pixels: budget <-> frame size <-> tokens, and uint8 frames -> the patches that the vision tower takes.

    recording h x w ──plan_video_size──▶ h x w in multiples of 32 px
    frames uint8 (T, H, W, 3) ──cut_patches──▶ uint8 (P, D) ──normalise──▶ float (P, D)

T = frames, P = patches = T/2 x H/16 x W/16, D = 3 x 2 x 16 x 16 values of a patch
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from driving.errors import VideoError
from driving.frame_size import plan_frame_size
from qwenvl.data.families import family_of
from qwenvl.data.labels import MEDIA_PLACEHOLDERS, MediaBlock
from qwenvl.data.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

FULL_HD = (1080, 1920)
MAX_SIDES_RATIO = 200  # smart_resize of transformers raises above it


def plan_video_size(height: int, width: int, num_frames: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """The frame size, height and width in px, at which a clip is shown to the model.

    An explicit area per frame rules; else an explicit total over all frames, spent exactly as Qwen3-VL's processor
    spends it; else the default area. A frame is never enlarged, unless video_min_pixels asks for it.
    """
    _check_shape(height, width)
    area_px = preprocessing.frame_pixels
    factor = preprocessing.factor_px
    if area_px is not None:
        budget = max(min(area_px, height * width), factor * factor)
        size = plan_frame_size(height, width, budget, factor)
        min_px = preprocessing.video_min_pixels
        if min_px is not None and num_frames * size[0] * size[1] < min_px:
            size = _smart_resize(num_frames, height, width, factor, min_px, max(min_px * 2, num_frames * area_px))
        return size
    return _smart_resize(
        num_frames, height, width, factor, preprocessing.video_min_pixels or 1, preprocessing.video_max_pixels or 1
    )


def plan_image_size(height: int, width: int, preprocessing: Preprocessing, image_processor: Any) -> tuple[int, int]:
    """The size at which a still image is shown: the processor's own rule, with our bounds where they are given."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    _check_shape(height, width)
    low_px = preprocessing.min_pixels or image_processor.size["shortest_edge"]
    high_px = preprocessing.max_pixels or image_processor.size["longest_edge"]
    return smart_resize(height, width, preprocessing.factor_px, min(low_px, high_px), high_px)


def _check_shape(height: int, width: int) -> None:
    """Raise for a shape that the processor refuses.

    Raises:
        VideoError: One side is more than 200 times the other.
    """
    if max(height, width) > MAX_SIDES_RATIO * min(height, width):
        raise VideoError(
            f"a picture of {height}x{width} px is more than {MAX_SIDES_RATIO} times as long as it is wide, and cannot "
            "be shown; cut it"
        )


def _smart_resize(num_frames: int, height: int, width: int, factor: int, min_px: int, max_px: int) -> tuple[int, int]:
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    # The processor refuses a single frame; it pads it to a pair itself.
    return smart_resize(max(2, num_frames), height, width, factor=factor, min_pixels=min_px, max_pixels=max_px)


def plan_processor_budget(height: int, width: int, num_frames: int, size: tuple[int, int], factor: int) -> int:
    """The smallest `longest_edge` (px over all frames) with which the plain processor turns a recording into `size`.

    Its rule is floor(side / beta / factor) with beta = sqrt(total / longest_edge), so beta may not exceed the tighter
    of the two sides' scales. 1080 x 1920 to 256 x 448 over 30 frames: 30 x 116,509.
    """
    beta = min(height / size[0], width / size[1])
    return ceil(num_frames * height * width / beta**2)


def set_processor_budget(
    processor: Any, height: int, width: int, num_frames: int, size: tuple[int, int], factor: int
) -> bool:
    """Make the plain processor of a saved checkpoint reproduce our frame size; returns whether it does.

    It is asked for the clip as it was read and, where the shape is 16:9, for the 1080p recording it was cut from.
    """
    sources = [(height, width)]
    if abs(log_ratio(height / width, FULL_HD[0] / FULL_HD[1])) < 0.05:
        sources.append(FULL_HD)
    counts_clip = family_of(processor).counts_clip_pixels
    counted = num_frames if counts_clip else 1
    budget = max(plan_processor_budget(h, w, counted, size, factor) for h, w in sources)
    smallest = factor * factor * (2 if counts_clip else 1)
    processor.video_processor.size = {"shortest_edge": smallest, "longest_edge": budget}
    return all(_ask_processor(processor, num_frames, h, w, factor, smallest, budget) == size for h, w in sources)


def _ask_processor(
    processor: Any, num_frames: int, height: int, width: int, factor: int, min_px: int, max_px: int
) -> tuple[int, int]:
    """The size that the plain processor gives a frame: by the px of all frames, or (Qwen2.5-VL) of one."""
    if family_of(processor).counts_clip_pixels:
        return _smart_resize(num_frames, height, width, factor, min_px, max_px)
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

    return smart_resize(height, width, factor, min_px, max_px)


def log_ratio(a: float, b: float) -> float:
    """a / b - 1: how far two aspect ratios are apart."""
    return a / b - 1


def plan_num_frames(num_recorded: int, duration_s: float, preprocessing: Preprocessing) -> int:
    """How many frames a clip gives: its duration at video_fps, within the bounds, never more than were recorded."""
    wanted = floor(duration_s * preprocessing.video_fps + 0.5)
    bounded = min(max(wanted, preprocessing.video_min_frames), preprocessing.video_max_frames)
    return max(1, min(bounded, num_recorded))


def plan_grid(num_frames: int, height: int, width: int, settings: Any) -> tuple[int, int, int]:
    """(t, h, w) in patches of frames that are cut; the last group of frames is filled up."""
    patch = settings.patch_size
    return -(-num_frames // settings.temporal_patch_size), height // patch, width // patch


def cut_patches(frames: torch.Tensor, patch: int, merge: int, temporal: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Cut uint8 frames (T, H, W, 3) into patches (P, D) in the order of the vision tower.

    An incomplete last group of frames is filled with its last frame, as the processor does.

    Returns:
        (patches (P, D) of the same type, grid (t, h, w) in patches).
    """
    import torch

    num_frames, height, width, channels = frames.shape
    if pad := -num_frames % temporal:
        frames = torch.cat((frames, frames[-1:].expand(pad, -1, -1, -1)))
    t, h, w = (num_frames + pad) // temporal, height // patch, width // patch
    blocks = frames.reshape(t, temporal, h // merge, merge, patch, w // merge, merge, patch, channels)
    # (t, row block, column block, row in block, column in block, channel, frame, y, x): neighbours to be merged follow
    # each other, and within a patch the channel is slowest.
    patches = blocks.permute(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return patches.reshape(t * h * w, channels * temporal * patch * patch), (t, h, w)


def normalise_patches(
    patches: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: Any
) -> torch.Tensor:
    """uint8 patches (P, D) to floats, with the processor's fused rescaling: (x - 255 mean) / (255 std)."""
    import torch

    values = patches.to(torch.float32).view(len(patches), len(mean), -1)
    offset, scale = _statistics(mean, std, patches.device)
    return values.sub_(offset).div_(scale).view(len(patches), -1).to(dtype)


@lru_cache(maxsize=8)
def _statistics(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, ...]:
    """255 mean and 255 std as (1, channels, 1), kept on the device: copying them there at every step would wait."""
    import torch

    with torch.inference_mode(False):  # what is kept may be used in a training step later
        return tuple(torch.tensor(values, device=device).mul(255.0).view(1, -1, 1) for values in (mean, std))


@lru_cache(maxsize=4096)
def render_video_block(processor: Any, num_frames: int, height: int, width: int, fps: float) -> MediaBlock:
    """The tokens of a clip as the *installed* processor writes them: time stamps i / fps, start and end tokens."""
    return _widen(_render_smallest_video(processor, num_frames, fps), _count_merged(processor, height, width))


@lru_cache(maxsize=4096)
def render_image_block(processor: Any, height: int, width: int) -> MediaBlock:
    """The tokens of a still image of this size, as the installed processor writes them."""
    return _widen(_render_smallest_image(processor), _count_merged(processor, height, width))


@lru_cache(maxsize=1024)
def _render_smallest_video(processor: Any, num_frames: int, fps: float) -> MediaBlock:
    """A clip of one visual token a frame group.

    Versions differ (5.19 to 5.23 put one more vision start and end around a video), so the processor is asked, with
    black frames; small ones, since rendering large ones costs as much as a sample.
    """
    import torch

    side = _side_px(processor)
    metadata = {"fps": fps, "total_num_frames": num_frames, "duration": num_frames / fps}
    metadata["frames_indices"] = list(range(num_frames))
    out = processor(
        text=[MEDIA_PLACEHOLDERS["video"]],
        videos=[torch.zeros(num_frames, 3, side, side, dtype=torch.uint8)],
        video_metadata=[metadata],
        do_sample_frames=False,
        do_resize=False,
    )
    return _to_block(out)


@lru_cache(maxsize=16)
def _render_smallest_image(processor: Any) -> MediaBlock:
    import torch

    black = torch.zeros(3, _side_px(processor), _side_px(processor), dtype=torch.uint8)
    return _to_block(processor(text=[MEDIA_PLACEHOLDERS["image"]], images=[black], do_resize=False))


def _side_px(processor: Any) -> int:
    """Side of the square that becomes one visual token."""
    return processor.video_processor.patch_size * processor.video_processor.merge_size


def _count_merged(processor: Any, height: int, width: int) -> int:
    side = _side_px(processor)
    if height % side or width % side:
        raise ValueError(f"a frame of {height}x{width} px is not whole in squares of {side} px")
    return height // side * (width // side)


def _widen(block: MediaBlock, num_merged: int) -> MediaBlock:
    """Repeat each visual token, which stands for a picture of one, as often as the picture has tokens."""
    pairs = zip(block.input_ids, block.mm_token_type_ids, strict=True)
    wide = [pair for pair in pairs for _ in range(num_merged if pair[1] else 1)]
    return MediaBlock(*map(tuple, zip(*wide, strict=True)))


def _to_block(out: Any) -> MediaBlock:
    ids, types = out["input_ids"][0], out["mm_token_type_ids"][0]
    return MediaBlock(tuple(map(int, ids)), tuple(map(int, types)))
