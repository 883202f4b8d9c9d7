"""From decoded frames to the size and pixel format asked for: one scaler for segments, training and evaluation.

Colour: the picture's own matrix is kept (untagged video counts as BT.601, as FFmpeg has it); written video is limited
range 8-bit yuv420p, arrays are full-range RGB. HDR curves are not tone-mapped.
"""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from video_io.rotation import turn_size

SCALER = "area"  # cheapest and sharpest when a frame shrinks 4-fold; stored with every checkpoint
SCALERS = {"area": Interpolation.AREA, "bilinear": Interpolation.BILINEAR, "bicubic": Interpolation.BICUBIC}


class FrameScaler:
    """Scale decoded frames to one size and pixel format, turning them upright where the video asks for it.

    Args:
        size: (height, width) as seen; None keeps the video's own.
        pixel_format: "rgb24" or "yuv420p".
        rotation: degrees anticlockwise to turn the stored picture by: 0, 90, 180, 270.
    """

    def __init__(
        self, size: tuple[int, int] | None, pixel_format: str, *, rotation: int = 0, scaler: str = SCALER
    ) -> None:
        self._size = size
        self._pixel_format = pixel_format
        self._rotation = rotation
        # Without FULL_CHR_H_INT a scaled RGB picture comes out 1.7 levels of 255 too dark on average.
        self._interpolation = SCALERS[scaler] | (Interpolation.FULL_CHR_H_INT if pixel_format == "rgb24" else 0)
        # One object for all frames: making FFmpeg's scaler anew for each frame costs more than scaling a small one.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        height, width = self._stored_size(frame)
        is_rgb = self._pixel_format == "rgb24"
        scaled = self._reformatter.reformat(
            frame,
            width,
            height,
            self._pixel_format,
            interpolation=self._interpolation,
            dst_color_range=ColorRange.JPEG if is_rgb else ColorRange.MPEG,
            threads=1,
        )
        return turn_frame(scaled, self._rotation // 90) if self._rotation else scaled

    def _stored_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(height, width) before turning."""
        if self._size is None:
            return frame.height, frame.width
        return turn_size(self._size, self._rotation)


def turn_frame(frame: av.VideoFrame, num_turns: int) -> av.VideoFrame:
    """Turn a picture anticlockwise by quarter turns; colour tags stay."""
    if frame.format.name == "rgb24":
        turned = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(frame.to_ndarray(), num_turns)), "rgb24")
    else:
        planes = [np.rot90(plane, num_turns) for plane in read_planes(frame)]
        turned = build_yuv420p(*planes)
    turned.colorspace, turned.color_range = frame.colorspace, frame.color_range
    turned.pts, turned.time_base = frame.pts, frame.time_base
    return turned


def read_planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The 8-bit planes of a planar frame, without row padding: (H, W), (H/2, W/2), (H/2, W/2) for yuv420p."""
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]


def build_yuv420p(luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> av.VideoFrame:
    """Make a yuv420p frame from its planes, uint8 (H, W), (H/2, W/2), (H/2, W/2) rounded up."""
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], "yuv420p")
    for plane, values in zip(frame.planes, (luma, blue, red), strict=True):
        rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        rows[: values.shape[0], : values.shape[1]] = values
        plane.update(rows)
    return frame
