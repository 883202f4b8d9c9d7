"""One clip as the model sees it: a fixed number of frames on a nominal grid, at one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from driving.clock import to_us
from driving.errors import VideoError
from driving.recording import VideoAddress
from driving.sampling import choose_frames
from video_io.decode import decode_frames
from video_io.pictures import list_pictures
from video_io.probe import VideoInfo, probe_video
from video_io.scale import SCALER

FRAME_TOLERANCE = 0.75  # of one frame interval: worst distance between a chosen frame and its nominal instant


def read_clip(
    path: str | Path,
    *,
    fps: float,
    num_frames: int,
    start_s: float | None = None,
    stop_s: float | None = None,
    size: tuple[int, int] | None = None,
    member: str = "",
    frame_indices: Sequence[int] | None = None,
    frame_tolerance: float = FRAME_TOLERANCE,
    scaler: str = SCALER,
) -> np.ndarray:
    """Read the frames nearest to the grid `start + i / fps`: (T, H, W, 3) uint8 RGB with T = num_frames.

    Args:
        path: a video, a zip archive holding one (`member`), or a folder of pictures.
        start_s, stop_s: the part of the video's own time to read; without start, a file of exactly `num_frames` frames
            (a cut segment) is read whole, and any other from its first frame.
        size: (height, width) px of the result; None keeps the video's own.
        frame_indices: read exactly these frames instead (what an index row of segments.parquet holds).
        frame_tolerance: a chosen frame may be this far from its instant, in frame intervals.

    Raises:
        VideoError: The file is damaged, too short, or has no frame near enough to one of the instants.
    """
    address = _find_address(Path(path), member)
    info = probe_video(address)
    if frame_indices is None:
        frame_indices = plan_clip(
            address, info, fps=fps, num_frames=num_frames, start_s=start_s, stop_s=stop_s, tolerance=frame_tolerance
        )
    elif len(frame_indices) != num_frames:
        raise VideoError(f"{address}: the row lists {len(frame_indices)} frames, {num_frames} were asked for")
    return decode_frames(address, frame_indices, size, scaler, info=info)


def plan_clip(
    address: VideoAddress,
    info: VideoInfo,
    *,
    fps: float,
    num_frames: int,
    start_s: float | None,
    stop_s: float | None,
    tolerance: float,
) -> np.ndarray:
    """Choose the frames of a clip by the container's own timestamps: (T,) int64."""
    if start_s is None and stop_s is None and info.num_frames == num_frames:
        return np.arange(num_frames)
    if info.frame_times_us is None:
        raise VideoError(f"{address} holds {info.num_frames} frames without times; {num_frames} were asked for")
    times_us = info.frame_times_us
    start_us = int(times_us[0]) if start_s is None else to_us(start_s)
    grid_us = start_us + np.round(np.arange(num_frames) * 1e6 / fps).astype(np.int64)
    if stop_s is not None and grid_us[-1] >= to_us(stop_s):
        raise VideoError(
            f"{address}: {num_frames} frames at {fps:g} fps do not fit into {start_us / 1e6:.3f} to {stop_s:.3f} s"
        )
    if info.num_frames < num_frames:
        raise VideoError(f"{address} has {info.num_frames} frames, {num_frames} were asked for")
    indices, worst_us = choose_frames(times_us, grid_us)
    if worst_us > tolerance * 1e6 / fps:
        raise VideoError(
            f"{address} has frames from {times_us[0] / 1e6:.3f} s to {times_us[-1] / 1e6:.3f} s at "
            f"{info.fps_median:.2f} fps; the grid of {num_frames} frames at {fps:g} fps from {start_us / 1e6:.3f} s is "
            f"missed by {worst_us / 1e3:.1f} ms, {tolerance * 1e3 / fps:.1f} ms are allowed"
        )
    return indices


def _find_address(path: Path, member: str) -> VideoAddress:
    if not path.is_dir():
        return VideoAddress(str(path), member)
    names = list_pictures(path)
    if not names:
        raise VideoError(f"{path} is a folder without pictures (.png, .jpg)")
    return VideoAddress(str(path), frames=names)
