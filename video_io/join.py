"""Many small videos of one kind into one file, packet by packet: nothing is decoded, nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import av

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io.probe import open_video


def join_videos(paths: Sequence[Path], file: IO[bytes] | str, *, fps: float, num_frames: int) -> None:
    """Write one mp4 in which video k is shown from k * num_frames / fps on, each frame as it was.

    Args:
        paths: videos with the same codec settings and size, `num_frames` frames each at a constant `fps`.
        file: opened for writing in binary, seekable, or better its path, see `copy_range`.

    Raises:
        VideoError: One of them is of another kind than the first, or of another length.
    """
    duration_s = num_frames / Fraction(fps).limit_denominator(100_000)
    first_kind = None
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as target:
        for number, path in enumerate(paths):
            address = VideoAddress(str(path))
            with open_video(address) as (source, stream):
                codec = stream.codec_context
                kind = (codec.name, codec.height, codec.width, codec.extradata, stream.time_base)
                if first_kind is None:
                    first_kind, copy = kind, target.add_stream_from_template(stream)
                    copy.time_base = stream.time_base
                if kind != first_kind:
                    raise VideoError(f"{address} is coded otherwise than {paths[0]}; cut all segments with one run")
                offset = round(number * duration_s / stream.time_base)
                num_found = 0
                for packet in source.demux(stream):
                    if packet.pts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = copy
                    target.mux_one(packet)
                    num_found += 1
            if num_found != num_frames:
                raise VideoError(
                    f"{address} has {num_found} frames, {num_frames} were expected; cut the segments again"
                )
