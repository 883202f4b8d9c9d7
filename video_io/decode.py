"""Frames by number and by time, upright, at the size and in the format asked for, from the decoder asked for.

    VideoAddress + frame indices ──▶ iter_scaled   ──▶ (index, av.VideoFrame)    for re-encoding
                                 ──▶ iter_frames   ──▶ (index, (H, W, 3) uint8)
                                 ──▶ decode_frames ──▶ (N, H, W, 3) uint8
    VideoAddress + times         ──▶ decode_at     ──▶ (N, H, W, 3) uint8

An index is a frame's place in presentation order, as in `VideoInfo`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import av
import numpy as np

from driving.clock import US_PER_S
from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io.decode_pyav import check_indices, iter_decoded, list_increasing
from video_io.decoders import PYAV, check_alike, iter_pictures
from video_io.probe import VideoInfo, probe_video
from video_io.scale import SCALER, FrameScaler


def decode_frames(
    address: VideoAddress,
    frame_indices: Sequence[int] | np.ndarray,
    size: tuple[int, int] | None = None,
    scaler: str = SCALER,
    *,
    info: VideoInfo | None = None,
    allocate: Callable[[tuple[int, ...]], np.ndarray] | None = None,
    decoder: str = PYAV,
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
    pictures = iter_frames(address, wanted, size=size, scaler=scaler, info=info, decoder=decoder)
    for place, (_, picture) in enumerate(pictures):
        frames[place] = picture
    return frames if np.array_equal(positions, np.arange(len(wanted))) else frames[positions]


def decode_at(
    address: VideoAddress,
    times_us: Sequence[int] | np.ndarray,
    size: tuple[int, int] | None = None,
    scaler: str = SCALER,
    *,
    frame_times_us: np.ndarray | None = None,
    info: VideoInfo | None = None,
    decoder: str = PYAV,
) -> np.ndarray:
    """Decode the frames that are on show at these instants: (N, H, W, 3) uint8 RGB, in the order asked for.

    Args:
        times_us: (N,) on the clock of the frame times, in any order.
        frame_times_us: (F,) the sensor's own times; None takes the container's. A bare stream has no others.

    Raises:
        VideoError: No frame is on show at one of the instants, there are no times, or the frame cannot be decoded.
    """
    info = info or probe_video(address)
    shown_us = info.frame_times_us if frame_times_us is None else frame_times_us
    if shown_us is None:
        raise VideoError(f"{address} tells no frame times; pass the sensor's own")
    if len(shown_us) != info.num_frames:
        raise VideoError(f"{address} holds {info.num_frames} frames, its list of times {len(shown_us)}")
    return decode_frames(address, find_shown(address, shown_us, times_us), size, scaler, info=info, decoder=decoder)


def find_shown(address: VideoAddress, shown_us: np.ndarray, times_us: Sequence[int] | np.ndarray) -> np.ndarray:
    """The last frame that is shown at or before each instant: (N,) int64. The last of all stays a median interval.

    Raises:
        VideoError: An instant is before the first frame, or after the last.
    """
    times_us = np.asarray(times_us, dtype=np.int64)
    stop_us = int(shown_us[-1]) + (int(np.median(np.diff(shown_us))) if len(shown_us) > 1 else 1)
    outside = times_us[(times_us < shown_us[0]) | (times_us >= stop_us)]
    if len(outside):
        raise VideoError(
            f"{address} shows frames from {shown_us[0] / US_PER_S:.3f} to {stop_us / US_PER_S:.3f} s, one at "
            f"{outside[0] / US_PER_S:.3f} s was asked for"
        )
    return np.searchsorted(shown_us, times_us, side="right") - 1


def iter_frames(
    address: VideoAddress,
    frame_indices: Sequence[int] | np.ndarray,
    *,
    size: tuple[int, int] | None = None,
    scaler: str = SCALER,
    info: VideoInfo | None = None,
    num_threads: int = 1,
    decoder: str = PYAV,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, (H, W, 3) uint8 RGB) for strictly increasing indices, one frame in memory at a time."""
    info = info or probe_video(address)
    frames = iter_scaled(
        address, frame_indices, "rgb24", info=info, size=size, scaler=scaler, num_threads=num_threads, decoder=decoder
    )
    for index, frame in frames:
        yield index, frame.to_ndarray()


def iter_scaled(
    address: VideoAddress,
    frame_indices: Sequence[int] | np.ndarray,
    pixel_format: str,
    *,
    info: VideoInfo,
    size: tuple[int, int] | None = None,
    scaler: str = SCALER,
    num_threads: int = 1,
    decoder: str = PYAV,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (index, upright frame of this size and pixel format) for strictly increasing indices.

    Args:
        decoder: who decodes, see `video_io.decoders`; pictures of a folder are always read by Pillow.

    Raises:
        VideoError: An index is not in the video, its frame cannot be decoded, or the decoder cannot be used.
    """
    if decoder == PYAV or address.frames:
        scale = FrameScaler(size, pixel_format, rotation=info.rotation, scaler=scaler)
        frames = iter_decoded(address, frame_indices, info=info, num_threads=num_threads)
    else:
        scale = FrameScaler(size, pixel_format, scaler=scaler)
        frames = _iter_pictures(address, frame_indices, info, decoder, num_threads)
    for index, frame in frames:
        yield index, scale(frame)


def _iter_pictures(
    address: VideoAddress,
    frame_indices: Sequence[int] | np.ndarray,
    info: VideoInfo,
    decoder: str,
    num_threads: int,
) -> Iterator[tuple[int, av.VideoFrame]]:
    wanted = list_increasing(frame_indices)
    if not wanted:
        return
    check_indices(address, info, wanted)

    def check(index: int, picture: np.ndarray) -> None:
        frame = next(iter_decoded(address, [index], info=info))[1]
        expected = FrameScaler(None, "rgb24", rotation=info.rotation)(frame).to_ndarray()
        check_alike(address, decoder, picture, expected, frame.format.components[0].bits)

    yield from iter_pictures(address, wanted, info=info, decoder=decoder, check=check, num_threads=num_threads)
