"""Decode chosen frames with PyAV, once, forward; nothing else is kept in memory.

    VideoAddress + frame indices ──plan_runs──▶ stretches between seeks ──▶ iter_decoded ──▶ (index, av.VideoFrame)

Frames come as stored: neither turned nor scaled. An index is a frame's place in presentation order, as in `VideoInfo`;
a frame is known by its timestamp, and in a bare stream, which has none, by counting.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io.pictures import read_picture
from video_io.probe import VideoInfo, open_video
from video_io.rotation import read_frame_rotation, turn_size

MAX_REORDERED_FRAMES = 16  # H.264 and HEVC keep at most so many pictures back
SEEK_MIN_FRAMES = 8  # skipping fewer frames than this costs less than a seek and a flushed decoder


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
    wanted = list_increasing(frame_indices)
    if not wanted:
        return
    check_indices(address, info, wanted)
    if address.frames:
        for index in wanted:
            yield index, _read_picture_frame(Path(address.path) / address.frames[index])
        return
    with open_video(address, num_threads) as (container, stream):
        # A bare stream cannot be seeked: its frames are only counted.
        keys = np.flatnonzero(info.is_key_frame) if info.pts is not None else np.zeros(1, dtype=np.int64)
        runs = plan_runs(wanted, keys)
        for number, (start, run) in enumerate(runs):
            try:
                yield from _decode_run(address, container, stream, info, start, run)
            except _SeekMissedError:
                rest = [index for _, later in runs[number:] for index in later]
                break
        else:
            return
    # MPEG-TS and a few others lead past the key frame asked for: from the beginning, then, without a seek.
    with open_video(address, num_threads) as (container, stream):
        yield from _decode_run(address, container, stream, info, 0, rest)


class _SeekMissedError(Exception):
    """A seek led past the frame that was asked for; nothing of the run has been yielded."""


def list_increasing(frame_indices: Sequence[int] | np.ndarray) -> list[int]:
    """The indices as a list. Raises ValueError unless each is above the one before."""
    wanted = [int(index) for index in frame_indices]
    if any(later <= earlier for earlier, later in itertools.pairwise(wanted)):
        raise ValueError("frame indices must be strictly increasing")
    return wanted


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
    for index, frame in _number_frames(address, container, stream, info):
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
    if start > 0 and expected == wanted[0]:
        raise _SeekMissedError
    seconds = "" if info.frame_times_us is None else f" ({info.frame_times_us[expected] / 1e6:.3f} s)"
    raise VideoError(
        f"{address} cannot be decoded at frame {expected}{seconds}: it is damaged there, or (B-frames in an avi) its "
        "timestamps are wrong"
    )


def _check_frame(address: VideoAddress, info: VideoInfo, index: int, frame: av.VideoFrame) -> None:
    """Raise where a frame is not what the container's header said of all of them."""
    shown = turn_size((frame.height, frame.width), info.rotation)
    if shown != (info.height, info.width):
        raise VideoError(
            f"{address} changes its frame size at frame {index} from {info.height}x{info.width} to "
            f"{shown[0]}x{shown[1]}; cut it there first"
        )
    rotation = read_frame_rotation(address, frame)
    if rotation != info.rotation:
        raise VideoError(
            f"{address} asks at frame {index} to be shown turned by {rotation} degrees, its header says "
            f"{info.rotation}; convert it to mp4"
        )


def _number_frames(
    address: VideoAddress, container: av.container.InputContainer, stream: av.VideoStream, info: VideoInfo
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode on from where the container is; a frame's number is found by its timestamp."""
    if info.pts is None:
        yield from _count_frames(address, container, stream)
        return
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        index = int(np.searchsorted(info.pts, frame.pts))
        if index < info.num_frames and info.pts[index] == frame.pts:
            yield index, frame


def _count_frames(
    address: VideoAddress, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Number the frames of a bare stream, which has no timestamps, by counting them as they are shown.

    A picture that the decoder drops would shift all later ones against their list of times. So each packet gets its
    number as a timestamp, and a frame is held back until the packets that may be shown before it have given theirs.

    Raises:
        VideoError: A packet gave no frame.
    """
    held: deque[tuple[int, av.VideoFrame]] = deque()  # (highest packet that must have been seen, frame)
    seen: set[int] = set()
    num_whole = 0  # packets 0..num_whole-1 have all given a frame
    highest = num_packets = count = 0
    for packet in container.demux(stream):
        if packet.size:
            packet.pts = packet.dts = num_packets
            num_packets += 1
        for frame in packet.decode():
            seen.add(frame.pts)
            highest = max(highest, frame.pts)
            held.append((highest + MAX_REORDERED_FRAMES, frame))
        while num_whole in seen:
            seen.remove(num_whole)
            num_whole += 1
        is_end = packet.size == 0 and num_whole == num_packets
        while held and (is_end or held[0][0] < num_whole):
            yield count, held.popleft()[1]
            count += 1
        if len(held) > 4 * MAX_REORDERED_FRAMES:
            break  # no healthy stream keeps so many back
    if held:
        raise VideoError(
            f"{address} is damaged in packet {num_whole} of {num_packets}: it gives no frame, and without timestamps "
            f"the frames from {count} on cannot be told apart; download it again"
        )


def _read_picture_frame(path: Path) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(read_picture(path), "rgb24")
