"""Copy a range of frames into a file of its own without touching the pixels, where the coding allows it."""

from __future__ import annotations

from fractions import Fraction
from typing import IO

import av
import numpy as np

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io.probe import VideoInfo, open_video


def check_copyable(info: VideoInfo, start: int, num_frames: int) -> bool:
    """Whether frames [start, start + num_frames) can be copied as packets and decode alike on their own.

    A packet needs only packets before it in the file, back to a key frame. So the range must begin with a key frame,
    and the packets from there on must hold these frames and no others: B-frames that lean on a neighbour outside, in
    front or behind, show up as a foreign or a missing frame.
    """
    if info.pts is None or not info.is_key_frame[start]:
        return False
    first = int(np.flatnonzero(info.decode_order == start)[0])
    held = np.sort(info.decode_order[first : first + num_frames])
    return np.array_equal(held, np.arange(start, start + num_frames))


def copy_range(
    address: VideoAddress,
    info: VideoInfo,
    start: int,
    num_frames: int,
    file: IO[bytes] | str,
    *,
    fps: float | None = None,
) -> None:
    """Copy the packets of frames [start, start + num_frames) into an mp4 whose first frame is shown at 0 s.

    Args:
        file: opened for writing in binary, seekable, or better its path: a Ctrl-C while FFmpeg calls back into Python
            to write is lost, and the bytes with it. The caller closes and renames it.
        fps: show frame i of the range at i / fps, not at its own time; for videos without B-frames.

    Raises:
        VideoError: The range cannot be copied (see `check_copyable`), or the packets are not there.
    """
    if not check_copyable(info, start, num_frames):
        raise VideoError(f"{address}: frames {start} to {start + num_frames} do not stand alone; encode them instead")
    if fps is not None and np.any(np.diff(info.decode_order) < 0):
        raise VideoError(f"{address} has B-frames and cannot be shown at an even rate by copying; encode it instead")
    seconds = None if fps is None else 1 / Fraction(fps).limit_denominator(100_000)
    num_copied = 0
    with open_video(address) as (source, stream), av.open(
        file, "w", format="mp4", options={"fflags": "+bitexact"}
    ) as target:  # fmt: skip
        copy = target.add_stream_from_template(stream)
        if fps is not None:
            copy.time_base = stream.time_base
        if start > 0:
            source.seek(int(info.pts[start]), stream=stream, backward=True)
        first_pts, last_pts = int(info.pts[start]), int(info.pts[start + num_frames - 1])
        for packet in source.demux(stream):
            if packet.pts is None or not first_pts <= packet.pts <= last_pts:
                continue
            packet.pts -= first_pts
            packet.dts -= first_pts
            if seconds is not None:
                packet.pts = packet.dts = round(num_copied * seconds / stream.time_base)
                packet.duration = round((num_copied + 1) * seconds / stream.time_base) - packet.pts
            packet.stream = copy
            target.mux_one(packet)
            num_copied += 1
            if num_copied == num_frames:
                break
    if num_copied != num_frames:
        raise VideoError(f"{address}: {num_copied} of the packets of frames {start} to {start + num_frames} were found")
