"""Write the pixels of a recording's segments: decoded once, whatever the number of segments.

frames, in order ──scale──▶ every segment that shows this frame ──encode──▶ one small file each
packets          ─────────▶ a segment whose frames stand alone  ──copy────▶ the recording's own bits
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driving.recording import VideoAddress
from driving.whole_files import write_atomically
from video_io import VideoEncoder, VideoInfo, check_copyable, copy_range
from video_io.decode import iter_scaled
from video_io.decoders import PYAV


@dataclass(frozen=True)
class Encoding:
    """How frames become H.264: x264's preset, constant rate factor (lower is better and larger), further options."""

    preset: str
    crf: int
    options: str = ""

    def __str__(self) -> str:
        return f"x264 {self.preset} crf {self.crf} {self.options}".rstrip()


# A second of real road video at 256x448: 43-44 dB in 140-180 kB, encoded at 0.6 ms a frame and decoded in 9 ms. Against
# plain ultrafast, half-pixel motion (subme) and intra blocks save 11 % of the bytes at 1 dB more; superfast would save
# another 20 %, but its files take twice as long to decode, and training reads them again in every epoch.
RESIZED = Encoding("ultrafast", 20, "subme=1:partitions=i8x8,i4x4:8x8dct=1")
COPY = Encoding("superfast", 14)
# What an mp4 may hold and every reader of the training JSON can decode.
COPYABLE_CODECS = ("h264", "hevc")


@dataclass(frozen=True)
class SegmentFile:
    """A file to write: the frames it shows, strictly increasing indices into the recording."""

    path: Path
    frame_indices: np.ndarray


def encode_segments(
    address: VideoAddress,
    info: VideoInfo,
    files: Sequence[SegmentFile],
    *,
    fps: float,
    size: tuple[int, int],
    encoding: Encoding,
    num_threads: int = 1,
    decoder: str = PYAV,
) -> None:
    """Decode the recording once and encode each segment at a constant `fps`, scaled to (height, width) `size`.

    Raises:
        VideoError: A frame cannot be decoded; files begun are not left behind, whole ones are.
        LedgerError: The disk is full.
    """
    uses: dict[int, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        for index in file.frame_indices:
            uses[int(index)].append(number)
    unfinished: dict[int, tuple[ExitStack, VideoEncoder]] = {}  # one or two segments at a time
    frames = iter_scaled(
        address, sorted(uses), "yuv420p", info=info, size=size, num_threads=num_threads, decoder=decoder
    )
    with ExitStack() as all_open:
        for index, scaled in frames:
            for number in uses[index]:
                if number not in unfinished:
                    opened = all_open.enter_context(ExitStack())
                    file = opened.enter_context(write_atomically(files[number].path))
                    # By its path: a Ctrl-C while FFmpeg calls back into Python is lost, and the bytes with it.
                    unfinished[number] = opened, _open_encoder(file.name, size, fps, encoding)
                opened, encoder = unfinished[number]
                encoder.write(scaled)
                if index == files[number].frame_indices[-1]:
                    del unfinished[number]
                    encoder.close()
                    opened.close()  # takes its name


def copy_segments(
    address: VideoAddress,
    info: VideoInfo,
    files: Sequence[SegmentFile],
    *,
    fps: float,
    num_threads: int = 1,
    decoder: str = PYAV,
) -> None:
    """Write segments at full resolution, even sides: packets copied where frames are contiguous and stand alone, else
    encoded (an odd side is scaled down by one pixel, since yuv420p has none).
    """
    size = info.height // 2 * 2, info.width // 2 * 2
    is_plain = info.rotation == 0 and info.codec in COPYABLE_CODECS and size == (info.height, info.width)
    others = []
    for file in files:
        start, num_frames = int(file.frame_indices[0]), len(file.frame_indices)
        is_contiguous = int(file.frame_indices[-1]) - start == num_frames - 1
        if is_plain and is_contiguous and check_copyable(info, start, num_frames):
            with write_atomically(file.path) as target:
                copy_range(address, info, start, num_frames, target.name)
        else:
            others.append(file)
    if others:
        encode_segments(
            address, info, others, fps=fps, size=size, encoding=COPY, num_threads=num_threads, decoder=decoder
        )


def _open_encoder(path: str, size: tuple[int, int], fps: float, encoding: Encoding) -> VideoEncoder:
    options = {"x264-params": encoding.options} if encoding.options else {}
    return VideoEncoder(path, size, fps, crf=encoding.crf, preset=encoding.preset, options=options)
