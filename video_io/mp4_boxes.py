"""How an mp4 wants a track to be turned, read from its boxes: FFmpeg tells it only with a decoded frame.

    moov ─▶ trak ─▶ tkhd: track id, 3 x 3 matrix of 16.16 fixed-point numbers

Source: ISO/IEC 14496-12, 8.3.2 (track header box).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from driving.recording import VideoAddress
from video_io.address import open_address
from video_io.rotation import plan_rotation


def read_rotation(address: VideoAddress, track_id: int) -> int:
    """Degrees anticlockwise by which a track's stored pictures must be turned: 0, 90, 180 or 270.

    Raises:
        VideoError: The track asks for a mirror image, or for an angle between quarter turns.
    """
    with open_address(address) as place:
        if not isinstance(place, str):
            matrix = _find_matrix(place, track_id)
        else:
            with open(place, "rb") as file:  # noqa: PTH123 - a plain name, as open_address gives it
                matrix = _find_matrix(file, track_id)
    return 0 if matrix is None else plan_rotation(address, *matrix)


def _find_matrix(file: BinaryIO, track_id: int) -> tuple[int, int, int, int] | None:
    file_bytes = file.seek(0, 2)
    for kind, start, stop in _walk(file, 0, file_bytes):
        if kind != b"moov":
            continue
        for inner, trak_start, trak_stop in _walk(file, start, stop):
            if inner != b"trak":
                continue
            for box, header_start, _ in _walk(file, trak_start, trak_stop):
                if box == b"tkhd":
                    found_id, matrix = _read_track_header(file, header_start)
                    if found_id == track_id:
                        return matrix
    return None


def _walk(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte of the content, first byte after the box) of the boxes in a range of the file."""
    while start + 8 <= stop:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if size == 1:  # the true size follows in 64 bits
            size = struct.unpack(">Q", file.read(8))[0]
            content += 8
        end = stop if size == 0 else start + size
        if end <= start or end > stop:
            return  # a damaged box; FFmpeg will have said so
        yield kind, content, end
        start = end


def _read_track_header(file: BinaryIO, start: int) -> tuple[int, tuple[int, int, int, int]]:
    file.seek(start)
    header = file.read(96)
    is_long = header[0] == 1  # 64-bit times
    track_id = struct.unpack_from(">I", header, 20 if is_long else 12)[0]
    a, b, _, c, d = struct.unpack_from(">5i", header, 52 if is_long else 40)
    return track_id, (a, b, c, d)
