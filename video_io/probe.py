"""What a video holds, told by its packets: frame times, key frames, size. Nothing is decoded.

F = frames that the decoder will show, in presentation order.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from driving.clock import US_PER_S
from driving.errors import VideoError
from driving.recording import VideoAddress
from driving.sampling import median_rate_hz
from video_io.address import open_address
from video_io.mp4_boxes import read_rotation
from video_io.pictures import check_picture, probe_picture
from video_io.rotation import read_frame_rotation, turn_size


@dataclass(frozen=True)
class VideoInfo:
    """A video's frames as its container lists them.

    Attributes:
        height, width: of a frame as it is meant to be seen (after rotation).
        pts: (F,) int64, presentation times in units of `time_base`, strictly increasing; None for a picture folder and
            for a bare stream (video.hevc), which tell no time.
        frame_times_us: (F,) int64, the same in microseconds, or None.
        is_key_frame: (F,) bool; decoding can start there.
        decode_order: (F,) int64, which frame each packet of the file holds; differs from 0..F-1 where B-frames are.
        time_base: seconds per unit of `pts`.
        fps_median: frames per second by the median interval; 0.0 where it is not known.
        rotation: degrees anticlockwise by which the stored picture must be turned: 0, 90, 180 or 270.
        codec: FFmpeg's name.
    """

    height: int
    width: int
    pts: np.ndarray | None
    frame_times_us: np.ndarray | None
    is_key_frame: np.ndarray
    decode_order: np.ndarray
    time_base: Fraction
    fps_median: float
    rotation: int
    codec: str

    @property
    def num_frames(self) -> int:
        return len(self.is_key_frame)


def probe_video(address: VideoAddress) -> VideoInfo:
    """Read frame times, key frames and size from a video's packets.

    The video stream is found by its kind: in many dash-cam files stream 0 is the sound.

    Raises:
        VideoError: The file is missing, empty, cut short, not a video, or its timestamps are missing or repeat.
    """
    if address.frames:
        return _probe_pictures(address)
    # Opening a video normally decodes its first frame, 30 ms at 1080p, to learn what the packets do not tell.
    with open_video(address, options={"skip_frame": "all"}) as (container, stream):
        time_base, codec = stream.time_base, stream.codec_context.name  # a stream is gone once its file is closed
        stored_height, stored_width = stream.codec_context.height, stream.codec_context.width
        track_id = stream.id if "mp4" in container.format.name else None
        pts, is_key = _read_packets(address, container, stream)
    if pts is None:
        order, times_us = np.arange(len(is_key)), None
    else:
        order = np.argsort(pts, kind="stable")
        pts, is_key = pts[order], is_key[order]
        _check_increasing(pts, time_base, address)
        times_us = _to_us(pts, time_base, address)
    rotation = _find_rotation(address) if track_id is None else read_rotation(address, track_id)
    height, width = turn_size((stored_height, stored_width), rotation)
    return VideoInfo(
        height=height,
        width=width,
        pts=pts,
        frame_times_us=times_us,
        is_key_frame=is_key,
        decode_order=np.argsort(order, kind="stable"),
        time_base=time_base,
        fps_median=0.0 if times_us is None else median_rate_hz(times_us),
        rotation=rotation,
        codec=codec,
    )


@contextlib.contextmanager
def open_video(
    address: VideoAddress, num_threads: int = 1, options: dict[str, str] | None = None
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video file or zip member and find its video stream; FFmpeg's errors name the file.

    Raises:
        VideoError: It cannot be opened, has no video stream, or breaks while it is read.
    """
    with open_address(address) as place:
        try:
            with av.open(place, buffer_size=1 << 18, options=options or {}) as container:
                stream = _find_stream(container, address)
                stream.thread_count = num_threads
                stream.thread_type = "AUTO"
                yield container, stream
        except av.error.FFmpegError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # it is what is being written that failed
            raise VideoError(
                f"{address} cannot be read as a video ({error.strerror}): it is cut short or damaged; download it again"
            ) from error


def _find_rotation(address: VideoAddress) -> int:
    """As the first frame tells it: containers other than mp4 say it in many ways, or in the pixels' own stream."""
    with open_video(address) as (container, stream):
        try:
            first = next(container.decode(stream), None)
        except av.error.InvalidDataError:
            return 0  # found, and named, when it is decoded
        return 0 if first is None else read_frame_rotation(address, first)


def _find_stream(container: av.container.InputContainer, address: VideoAddress) -> av.VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(s.type for s in container.streams) or "nothing"
        raise VideoError(f"{address} has no video stream (it holds: {kinds}); remove it from the input")
    if streams[0].codec_context is None:
        raise VideoError(f"{address} is coded in a way this FFmpeg cannot decode; convert it to H.264")
    return streams[0]


def _read_packets(
    address: VideoAddress, container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[np.ndarray | None, np.ndarray]:
    """(pts, is_key) of the shown packets in file order; no pts for a bare stream, which has none at all."""
    pts: list[int | None] = []
    is_key: list[bool] = []
    num_packets = num_skipped = 0
    for packet in container.demux(stream):
        if packet.size == 0:
            continue  # the flush packet that ends every stream
        num_packets += 1
        if packet.is_corrupt:
            raise VideoError(f"{address} breaks off in the middle of frame {num_packets - 1}; download it again")
        if packet.is_discard:
            continue  # an edit list hides it; the decoder does not show it either
        pts.append(packet.pts)
        is_key.append(packet.is_keyframe)
    if container.format.name == "avi" and pts and pts[-1] is not None:
        num_skipped = max(0, pts[-1] + 1 - num_packets)  # its header counts the intervals, those without a frame too
    if num_packets + num_skipped < stream.frames:
        raise VideoError(
            f"{address} is cut short: {num_packets} of the {stream.frames} frames that its header promises are there; "
            "download it again"
        )
    if not pts:
        raise VideoError(f"{address} holds no frame; download it again")
    num_untimed = pts.count(None)
    if 0 < num_untimed < len(pts):
        raise VideoError(f"{address} has no timestamp at frame {pts.index(None)}; remux it into mp4")
    return None if num_untimed else np.array(pts, dtype=np.int64), np.array(is_key, dtype=bool)


def _check_increasing(pts: np.ndarray, time_base: Fraction, address: VideoAddress) -> None:
    repeats = np.flatnonzero(np.diff(pts) <= 0)
    if len(repeats):
        index = int(repeats[0])
        raise VideoError(
            f"{address} shows frames {index} and {index + 1} at the same time, {float(pts[index] * time_base):.3f} s; "
            "its timestamps are damaged"
        )


def _to_us(pts: np.ndarray, time_base: Fraction, address: VideoAddress) -> np.ndarray:
    """Exact: whole microseconds, rounded to nearest, without floating point."""
    furthest = max(abs(int(pts[0])), abs(int(pts[-1])))
    if furthest * time_base * US_PER_S >= 2**63:
        raise VideoError(f"{address} shows a frame {float(furthest * time_base):.3g} s from zero; remux it")
    numerator, denominator = time_base.numerator * US_PER_S, time_base.denominator
    return np.array([(2 * int(p) * numerator + denominator) // (2 * denominator) for p in pts], dtype=np.int64)


def _probe_pictures(address: VideoAddress) -> VideoInfo:
    for name in address.frames:
        check_picture(Path(address.path) / name)
    height, width = probe_picture(Path(address.path) / address.frames[0])
    return VideoInfo(
        height=height,
        width=width,
        pts=None,
        frame_times_us=None,
        is_key_frame=np.ones(len(address.frames), dtype=bool),
        decode_order=np.arange(len(address.frames)),
        time_base=Fraction(1),
        fps_median=0.0,
        rotation=0,
        codec="pictures",
    )
