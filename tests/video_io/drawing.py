"""Videos of every awkward kind, drawn with PyAV: the frame number is the brightness, columns and rows are colours."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TIME_BASE = Fraction(1, 90_000)
X265 = "crf=4:log-level=none:pools=1:frame-threads=1"
OPEN_GROUPS = "bframes=3:b-adapt=0:keyint=10:min-keyint=10:open-gop=1"
UNEVEN_US = np.cumsum([0, *([33_000, 70_000, 15_000] * 10)])[:30].tolist()
BT709, LIMITED, FULL = 1, 1, 2


def draw_planes(index: int, height: int, width: int, pixel_format: str) -> av.VideoFrame:
    """One frame with brightness across, blue down and red across; `index` brightens all of it by 3 levels each."""
    frame = av.VideoFrame(width, height, pixel_format)
    num_bits = frame.format.components[0].bits
    levels = (
        lambda h, w: np.linspace(30, 120, w)[None].repeat(h, 0) + 3 * index,
        lambda h, w: np.linspace(90, 160, h)[:, None].repeat(w, 1),
        lambda h, w: np.linspace(170, 100, w)[None].repeat(h, 0),
    )
    kind = np.uint8 if num_bits == 8 else np.dtype("<u2")
    for plane, level in zip(frame.planes, levels, strict=True):
        rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size // np.dtype(kind).itemsize), kind)
        rows[: plane.height, : plane.width] = np.round(level(plane.height, plane.width) * 2 ** (num_bits - 8))
        plane.update(rows)
    return frame


def draw_file(
    path: Path,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (48, 64),
    num_frames: int = 30,
    times_us: Sequence[int] | None = None,
    color_range: int = LIMITED,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """Encode `num_frames` frames, shown every 40 ms or at `times_us`; colours are BT.709."""
    if codec == "libx265":
        options = {"x265-params": ":".join([X265, *(options or {}).values()])}
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        stream.codec_context.color_range, stream.codec_context.colorspace = color_range, BT709
        stream.codec_context.thread_count = 1
        stream.options = {**({"crf": "4"} if codec == "libx264" else {}), **(options or {})}
        if path.suffix != ".avi":  # which counts in whole frames
            stream.time_base = stream.codec_context.time_base = TIME_BASE
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = draw_planes(index, *size, pixel_format)
            frame.color_range, frame.colorspace = color_range, BT709
            frame.pts = index * 3600 if times_us is None else times_us[index] * 9 // 100
            frame.time_base = TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_packet_sizes(path: Path) -> list[int]:
    """Bytes of each packet of a bare stream, in file order."""
    with av.open(str(path)) as container:
        return [packet.size for packet in container.demux(video=0) if packet.size]
