"""How large a frame the model sees: from an area budget to height x width in whole patches.

Qwen3-VL cuts frames into 16 px patches and merges 2 x 2 of them, so each side is a multiple of 32 px
(28 belongs to Qwen2-VL). One merged patch of two neighbouring frames is one token.
"""

from __future__ import annotations

from math import ceil, exp, floor, log, sqrt

from driving.errors import DrivingError

FRAME_PIXELS = 114_688  # 256 x 448: 112 tokens a frame pair
PATCH_FACTOR_PX = 32
MAX_ASPECT_ERROR = 0.05


def plan_frame_size(
    height: int, width: int, frame_pixels: int = FRAME_PIXELS, factor: int = PATCH_FACTOR_PX
) -> tuple[int, int]:
    """Choose the frame size that fills an area budget and keeps the picture's shape.

    Among the sizes whose sides are multiples of `factor` px, whose area is at most `frame_pixels` plus 2 %, and
    whose aspect ratio is within 5 % of the recording's, the largest is taken, then the one with the least distortion.
    Where none keeps the shape that well (very wide frames in a small budget), the least distorted wins.

    Returns:
        (height, width) in px. 1080 x 1920 -> (256, 448); 370 x 1226 -> (192, 608).

    Raises:
        DrivingError: The frame is empty, or the budget is below one merged patch.
    """
    if height < 1 or width < 1:
        raise DrivingError(f"a frame of {height}x{width} px has no area")
    if frame_pixels < factor * factor:
        raise DrivingError(
            f"a frame area of {frame_pixels} px is below one patch of {factor}x{factor}; "
            f"raise --video_frame_pixels to {factor * factor} or more"
        )
    aspect = width / height
    limit_px = 1.02 * frame_pixels
    ideal_height = sqrt(frame_pixels / aspect)
    candidates: list[tuple[bool, int, float, int, int]] = []
    # Sides from half to twice the ideal hold every size worth having.
    for rows in range(max(1, floor(ideal_height / factor / 2)), ceil(2 * ideal_height / factor) + 2):
        h = rows * factor
        most_columns = floor(limit_px / h / factor)
        for columns in {floor(h * aspect / factor), ceil(h * aspect / factor), most_columns}:
            w = columns * factor
            if not 1 <= columns <= most_columns:
                continue
            distortion = abs(log(w / h / aspect))
            candidates.append((distortion <= log(1 + MAX_ASPECT_ERROR), h * w, distortion, h, w))
    if not candidates:
        return factor, factor
    if any(keeps_shape for keeps_shape, *_ in candidates):
        best = max(candidates, key=lambda c: (c[0], c[1], -c[2]))
    else:
        # Nothing keeps the shape: trade area against distortion so that a 1 x 1 patch does not win.
        best = max(candidates, key=lambda c: c[1] * exp(-4 * c[2]))
    return best[3], best[4]
