"""Write video that is the same bytes every time on machines of one kind.

H.264 in mp4, yuv420p, one encoder thread (more change the slices), no clock times in the file, and no picture types
left over from the decoder (they would force key frames).
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import IO, Self

import av
import numpy as np
from av.video.frame import PictureType

from driving.errors import VideoError
from driving.whole_files import write_atomically
from video_io.scale import FrameScaler

CRF = 18
PRESET = "superfast"
TIME_BASE = Fraction(1, 90_000)
US = Fraction(1, 1_000_000)  # a time base in which recorded times are kept exactly


class VideoEncoder:
    """An H.264 mp4 being written to an open, seekable file. Frames in, in order; `close` finishes the file.

    Args:
        file: opened for writing in binary, or a file's path; the caller closes and renames it.
        size: (height, width) px; an odd side loses its last row or column, since yuv420p has none.
        fps: of the frames; with `pts` given for each frame, only a hint.
        time_base: seconds per unit of the file's own times.
        index_first: whether the index stands before the pictures, so that one look at the file's beginning finds any
            frame; an open `file` must be open for reading, too.
    """

    def __init__(
        self,
        file: IO[bytes] | str,
        size: tuple[int, int],
        fps: float,
        *,
        crf: int | None = CRF,
        preset: str = PRESET,
        key_interval: int | None = None,
        options: dict[str, str] | None = None,
        time_base: Fraction = TIME_BASE,
        index_first: bool = False,
    ) -> None:
        self._fps = fps
        self._time_base = time_base
        self._num_frames = 0
        container_options = {"fflags": "+bitexact"}
        if index_first:
            container_options["movflags"] = "+faststart"
        if time_base != TIME_BASE:  # a late first frame is told in the movie's unit, FFmpeg's own is 1 ms
            container_options["movie_timescale"] = str(time_base.denominator)
        self._container = av.open(file, "w", format="mp4", options=container_options)
        rate = Fraction(fps).limit_denominator(100_000)
        stream = self._container.add_stream("libx264", rate=rate)
        stream.height, stream.width = size[0] // 2 * 2, size[1] // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = time_base
        stream.codec_context.time_base = time_base
        stream.thread_count = 1
        stream.options = {**({} if crf is None else {"crf": str(crf)}), "preset": preset, **(options or {})}
        if key_interval is not None:
            stream.codec_context.gop_size = key_interval
            stream.options = {**stream.options, "sc_threshold": "0", "keyint_min": str(key_interval)}
        self._stream = stream

    def write(self, frame: av.VideoFrame, pts_us: int | None = None, *, is_key: bool = False) -> None:
        """Add one yuv420p frame, shown at `pts_us`, or at its turn of a constant rate; decoding can start at a key."""
        if self._num_frames == 0:
            context = self._stream.codec_context
            context.colorspace, context.color_range = frame.colorspace, frame.color_range
            context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
        seconds = Fraction(self._num_frames) / Fraction(self._fps) if pts_us is None else Fraction(pts_us, 1_000_000)
        frame.pts = round(seconds / self._time_base)
        frame.time_base = self._time_base
        frame.pict_type = PictureType.I if is_key else PictureType.NONE
        self._container.mux(self._stream.encode(frame))
        self._num_frames += 1

    def close(self) -> None:
        """Flush the encoder and write the file's index. A video without frames is refused."""
        if self._num_frames == 0:
            raise VideoError("a video without frames cannot be written")
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    pts_us: Iterable[int] | None = None,
    crf: int | None = CRF,
    preset: str = PRESET,
    key_interval: int | None = None,
    options: dict[str, str] | None = None,
) -> int:
    """Write frames, (H, W, 3) or grey (H, W) uint8, as one mp4; the file appears under its name when it is whole.

    Args:
        pts_us: when each frame is shown, strictly increasing; without it, i / fps.
        key_interval: a key frame every so many frames and nowhere else; None leaves it to the encoder.
        crf: x264's quality, lower is better and larger; None where `options` set a bit rate instead.
        options: further x264 options.

    Returns:
        The number of frames written.
    """
    times = iter(pts_us) if pts_us is not None else None
    encoder: VideoEncoder | None = None
    num_frames = 0
    scale = FrameScaler(None, "yuv420p")
    with write_atomically(Path(path)) as file:
        for picture in frames:
            if encoder is None:
                # By its path: a Ctrl-C while FFmpeg calls back into Python to write is lost, and the bytes with it.
                encoder = VideoEncoder(
                    file.name,
                    picture.shape[:2],
                    fps,
                    crf=crf,
                    preset=preset,
                    key_interval=key_interval,
                    options=options,
                )
            encoder.write(scale(_build_frame(picture)), None if times is None else next(times))
            num_frames += 1
        if encoder is None:
            raise VideoError(f"{path}: a video without frames cannot be written")
        encoder.close()
    return num_frames


def _build_frame(picture: np.ndarray) -> av.VideoFrame:
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    even = np.ascontiguousarray(picture[:height, :width])
    return av.VideoFrame.from_ndarray(even, "gray" if picture.ndim == 2 else "rgb24")
