"""Decode chosen frames, once, forward; nothing else is kept in memory.

    VideoAddress + frame indices ──▶ iter_decoded ──▶ (index, av.VideoFrame)    as stored, for re-encoding
                                 ──▶ iter_frames  ──▶ (index, (H, W, 3) uint8)  upright, scaled
                                 ──▶ decode_frames ─▶ (N, H, W, 3) uint8

An index is a frame's place in presentation order, as in `VideoInfo`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io.pictures import read_picture
from video_io.probe import VideoInfo, open_video, probe_video
from video_io.scale import SCALER, FrameScaler

SEEK_MIN_FRAMES = 8  # skipping fewer frames than this costs less than a seek and a flushed decoder


def decode_frames(
    address: VideoAddress,
    frame_indices: Sequence[int] | np.ndarray,
    size: tuple[int, int] | None = None,
    scaler: str = SCALER,
    *,
    info: VideoInfo | None = None,
    allocate: Callable[[tuple[int, ...]], np.ndarray] | None = None,
) -> np.ndarray:
    """Decode exactly these frames: (N, H, W, 3) uint8 RGB, in the order asked for; an index may repeat.

    Args:
        allocate: gives the uint8 array of a shape that frames are written to, in memory of the caller's choice.

    Raises:
        VideoError: The video lacks one of the frames, or cannot be decoded there.
    """
    info = info or probe_video(address)
    wanted, positions = np.unique(np.asarray(frame_indices, dtype=np.int64), return_inverse=True)
    height, width = size or (info.height, info.width)
    shape = (len(wanted), height, width, 3)
    frames = np.empty(shape, np.uint8) if allocate is None else allocate(shape)
    for place, (_, picture) in enumerate(iter_frames(address, wanted, size=size, scaler=scaler, info=info)):
        frames[place] = picture
    return frames if np.array_equal(positions, np.arange(len(wanted))) else frames[positions]


def iter_frames(
    address: VideoAddress,
    frame_indices: Sequence[int] | np.ndarray,
    *,
    size: tuple[int, int] | None = None,
    scaler: str = SCALER,
    info: VideoInfo | None = None,
    num_threads: int = 1,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, (H, W, 3) uint8 RGB) for strictly increasing indices, one frame in memory at a time."""
    info = info or probe_video(address)
    scale = FrameScaler(size, "rgb24", rotation=info.rotation, scaler=scaler)
    for index, frame in iter_decoded(address, frame_indices, info=info, num_threads=num_threads):
        yield index, scale(frame).to_ndarray()


def iter_decoded(
    address: VideoAddress,
    frame_indices: Sequence[int] | np.ndarray,
    *,
    info: VideoInfo,
    num_threads: int = 1,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (index, frame as stored) for strictly increasing indices.

    Decoding starts at the key frame before the first index, and jumps ahead where a key frame lets it skip a stretch.

    Raises:
        VideoError: An index is not in the video, or its frame cannot be decoded.
    """
    wanted = [int(index) for index in frame_indices]
    if not wanted:
        return
    if any(later <= earlier for earlier, later in itertools.pairwise(wanted)):
        raise ValueError("frame indices must be strictly increasing")
    check_indices(address, info, wanted)
    if address.frames:
        for index in wanted:
            yield index, _read_picture_frame(Path(address.path) / address.frames[index])
        return
    with open_video(address, num_threads) as (container, stream):
        # A bare stream cannot be seeked: its frames are only counted.
        keys = np.flatnonzero(info.is_key_frame) if info.pts is not None else np.zeros(1, dtype=np.int64)
        for start, run in plan_runs(wanted, keys):
            yield from _decode_run(address, container, stream, info, start, run)


def check_indices(address: VideoAddress, info: VideoInfo, frame_indices: Sequence[int] | np.ndarray) -> None:
    """Raise VideoError unless the video has all of these frames."""
    low, high = int(min(frame_indices)), int(max(frame_indices))
    if low < 0 or high >= info.num_frames:
        outside = low if low < 0 else high
        raise VideoError(f"{address} has {info.num_frames} frames, frame {outside} was asked for")


def plan_runs(wanted: Sequence[int], key_indices: np.ndarray) -> list[tuple[int, list[int]]]:
    """Group strictly increasing indices into stretches decoded without a seek: [(start at this frame, indices)].

    A start of 0 is the start of the file; the first run never seeks to it.
    """
    runs: list[tuple[int, list[int]]] = []
    position = 0  # where the decoder will be
    for index in wanted:
        before = key_indices[: np.searchsorted(key_indices, index, side="right")]
        key = int(before[-1]) if len(before) else 0
        if not runs:
            runs.append((key if key >= SEEK_MIN_FRAMES else 0, [index]))
        elif key - position >= SEEK_MIN_FRAMES:
            runs.append((key, [index]))
        else:
            runs[-1][1].append(index)
        position = index + 1
    return runs


def _decode_run(
    address: VideoAddress,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    info: VideoInfo,
    start: int,
    wanted: list[int],
) -> Iterator[tuple[int, av.VideoFrame]]:
    remaining = iter(wanted)
    expected = next(remaining)
    if start > 0:
        container.seek(int(info.pts[start]), stream=stream, backward=True)
    for index, frame in _number_frames(container, stream, info):
        if index > expected and start > 0 and expected == wanted[0]:
            # The container's index led past the key frame: decode from the beginning instead.
            container.seek(int(info.pts[0]), stream=stream, backward=True)
            yield from _decode_run(address, container, stream, info, 0, wanted)
            return
        if index < expected:
            continue
        if index > expected or frame.is_corrupt:
            break
        _check_frame(address, info, index, frame)
        yield index, frame
        following = next(remaining, None)
        if following is None:
            return
        expected = following
    seconds = "" if info.frame_times_us is None else f" ({info.frame_times_us[expected] / 1e6:.3f} s)"
    raise VideoError(f"{address} cannot be decoded at frame {expected}{seconds}: it is damaged there")


def _check_frame(address: VideoAddress, info: VideoInfo, index: int, frame: av.VideoFrame) -> None:
    """Raise where a frame is not what the container's header said of all of them."""
    shown = (frame.height, frame.width) if info.rotation % 180 == 0 else (frame.width, frame.height)
    if shown != (info.height, info.width):
        raise VideoError(
            f"{address} changes its frame size at frame {index} from {info.height}x{info.width} to "
            f"{shown[0]}x{shown[1]}; cut it there first"
        )
    if round(frame.rotation) % 360 != info.rotation:
        raise VideoError(
            f"{address} asks at frame {index} to be shown turned by {frame.rotation} degrees, its header says "
            f"{info.rotation}; convert it to mp4"
        )


def _number_frames(
    container: av.container.InputContainer, stream: av.VideoStream, info: VideoInfo
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode on from where the container is; a frame's number is found by its timestamp."""
    for count, frame in enumerate(container.decode(stream)):
        if info.pts is None:
            yield count, frame
            continue
        if frame.pts is None:
            continue
        index = int(np.searchsorted(info.pts, frame.pts))
        if index < info.num_frames and info.pts[index] == frame.pts:
            yield index, frame


def _read_picture_frame(path: Path) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(read_picture(path), "rgb24")
