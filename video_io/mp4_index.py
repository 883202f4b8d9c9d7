"""What a plain mp4 holds, told by its index alone: no packet is read, so a long video costs no more than a short one.

    peek_video ──▶ VideoInfo, the one that probe_video gives; of anything but one H.264 track without B-frames it does

Source: ISO/IEC 14496-12, 8.2 to 8.7 (movie, track, sample tables, edit list) and 12.1.3 (visual sample entry).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from driving.clock import US_PER_S
from driving.recording import VideoAddress
from driving.sampling import median_rate_hz
from video_io.address import open_address
from video_io.probe import VideoInfo, probe_video
from video_io.rotation import plan_rotation, turn_size

MAX_MOOV_BYTES = 1 << 26
_TABLES = (b"trak", b"mdia", b"minf", b"stbl", b"edts")  # boxes that hold boxes
_EXPECTED = (b"tkhd", b"mdhd", b"stsd", b"stts")


def peek_video(address: VideoAddress) -> VideoInfo:
    """As `probe_video`, in a tenth of the time where the file is one of those that this toolkit writes.

    That the pictures are whole is seen only when they are decoded.

    Raises:
        VideoError: See `probe_video`.
    """
    if address.frames:
        return probe_video(address)
    with open_address(address) as place:
        if isinstance(place, str):
            with open(place, "rb") as file:  # noqa: PTH123 - a plain name, as open_address gives it
                moov = _read_moov(file)
        else:
            moov = _read_moov(place)
    try:
        info = None if moov is None else _parse_moov(moov, address)
    except (struct.error, IndexError, ValueError):
        info = None  # a damaged index: FFmpeg will say so
    return probe_video(address) if info is None else info


def _read_moov(file: BinaryIO) -> memoryview | None:
    """The movie box of a file whose boxes are all there."""
    num_bytes = file.seek(0, 2)
    found, start = None, 0
    while start < num_bytes:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return None
        size, kind = struct.unpack_from(">I4s", header)
        skip = 8
        if size == 1 and len(header) == 16:
            size, skip = struct.unpack_from(">Q", header, 8)[0], 16
        if size < skip or start + size > num_bytes or kind == b"moof":
            return None
        if kind == b"moov":
            if size > MAX_MOOV_BYTES:
                return None
            file.seek(start + skip)
            found = memoryview(file.read(size - skip))
        start += size
    return found


def _walk(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(kind, content) of all boxes, also of those within tables."""
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > len(data):
            raise ValueError(kind)
        content = data[start + 8 : start + size]
        yield kind, content
        if kind in _TABLES:
            yield from _walk(content)
        start += size


def _parse_moov(moov: memoryview, address: VideoAddress) -> VideoInfo | None:
    boxes: dict[bytes, memoryview] = {}
    for kind, content in _walk(moov):
        if kind in (b"trak", b"mvex", b"ctts") and kind in boxes or kind in (b"mvex", b"ctts"):
            return None  # several tracks, fragments, or B-frames
        boxes[kind] = content
    if any(kind not in boxes for kind in (*_EXPECTED, b"mvhd")):
        return None
    num_entries, entry_format = struct.unpack_from(">I4x4s", boxes[b"stsd"], 4)
    if num_entries != 1 or entry_format != b"avc1":
        return None
    width, height = struct.unpack_from(">HH", boxes[b"stsd"], 8 + 32)
    durations = _read_table(boxes[b"stts"], 2)
    shown_from = np.concatenate([[0], np.cumsum(np.repeat(durations[:, 1], durations[:, 0]))])
    timescale = _read_timescale(boxes[b"mdhd"])
    late = _read_lateness(boxes.get(b"elst"), _read_timescale(boxes[b"mvhd"]), timescale, int(shown_from[-1]))
    if late is None or len(shown_from) < 2 or np.any(np.diff(shown_from[:-1]) <= 0):
        return None
    pts = shown_from[:-1] + late
    is_key = np.ones(len(pts), dtype=bool)
    if b"stss" in boxes:
        is_key[:] = False
        is_key[_read_table(boxes[b"stss"], 1)[:, 0] - 1] = True
    is_long = boxes[b"tkhd"][0] == 1  # 64-bit times
    a, b, _, c, d = struct.unpack_from(">5i", boxes[b"tkhd"], 52 if is_long else 40)
    rotation = plan_rotation(address, a, b, c, d)
    times_us = (2 * pts * US_PER_S + timescale) // (2 * timescale)
    height, width = turn_size((height, width), rotation)
    return VideoInfo(
        height=height,
        width=width,
        pts=pts,
        frame_times_us=times_us,
        is_key_frame=is_key,
        decode_order=np.arange(len(pts)),
        time_base=Fraction(1, timescale),
        fps_median=median_rate_hz(times_us),
        rotation=rotation,
        codec="h264",
    )


def _read_table(box: memoryview, num_columns: int) -> np.ndarray:
    """(n, num_columns) int64: the rows of a table of 32-bit numbers behind its own count."""
    num_rows = struct.unpack_from(">I", box, 4)[0]
    return np.frombuffer(box, ">u4", num_rows * num_columns, 8).reshape(num_rows, num_columns).astype(np.int64)


def _read_timescale(header: memoryview) -> int:
    """Units a second, of a movie or media header."""
    return struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0]


def _read_lateness(edits: memoryview | None, movie_scale: int, timescale: int, length: int) -> int | None:
    """Units of `timescale` by which an edit list shows the first frame late; None where it does something else too."""
    if edits is None:
        return 0
    layout = struct.Struct(">QqI" if edits[0] == 1 else ">IiI")
    num_edits = struct.unpack_from(">I", edits, 4)[0]
    rows = [layout.unpack_from(edits, 8 + number * layout.size) for number in range(num_edits)]
    late = 0
    if len(rows) == 2 and rows[0][1] == -1 and rows[0][0] * timescale % movie_scale == 0:
        late = rows.pop(0)[0] * timescale // movie_scale
    is_plain = len(rows) == 1 and rows[0][1] == 0 and rows[0][2] == 1 << 16
    return late if is_plain and rows[0][0] * timescale >= length * movie_scale else None
