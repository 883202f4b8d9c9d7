"""Open what a `VideoAddress` names: a file, or a member of an archive where it lies.

    VideoAddress(path)                      ──▶ the path itself
    VideoAddress(path, member)              ──▶ zip: a seekable byte range (stored), or the unpacked bytes (compressed)
    VideoAddress(path, member, byte_range)  ──▶ tar: that byte range

Seeking readers never see all bytes, so they cannot check a member's checksum: `check_crc` does, on its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from driving.errors import VideoError
from driving.recording import VideoAddress
from driving.zip_contents import iter_member, read_contents
from driving.zip_errors import ZIP_ERRORS

BLOCK_BYTES = 1 << 20
STORED_BLOCK_BYTES = 1 << 18  # a reader looks at the index, then at one second: more would be read for nothing
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the extra field


class ByteRange(io.RawIOBase):
    """A part of an open file, `[start, start + size)`, that reads and seeks like a file of its own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        num_bytes = min(len(buffer), max(0, self._size - self._position))
        self._file.seek(self._start + self._position)
        num_read = self._file.readinto(memoryview(buffer)[:num_bytes])
        self._position += num_read
        return num_read


@contextlib.contextmanager
def open_address(address: VideoAddress) -> Iterator[str | BinaryIO]:
    """Give a path, or a seekable file, that a video reader can open; nothing is extracted beside the archive.

    A stored member is read where it lies. A compressed member cannot be seeked, so it is unpacked (and its checksum
    checked) into a temporary file without name.

    Raises:
        VideoError: The file or member is missing, empty, encrypted or damaged.
    """
    path = Path(address.path)
    if not path.is_file():
        raise VideoError(f"{path} is missing; download it again, or remove the recording from the input")
    if not address.member:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} has zero bytes; download it again")
        yield str(path)
        return
    if address.byte_range is not None:
        start, size = address.byte_range
        if size == 0 or start + size > path.stat().st_size:
            raise VideoError(f"{address} should be {size:,} bytes from {start:,}; copy the shard again")
        with path.open("rb") as archive, io.BufferedReader(ByteRange(archive, start, size), BLOCK_BYTES) as member:
            yield member
        return
    with path.open("rb") as archive:
        with _explain_zip(address):  # around the opening alone: what the reader raises may be no fault of the archive
            member = _open_member(archive, address)
        with member:
            yield member


def check_crc(address: VideoAddress) -> None:
    """Read a zip member through once and compare its checksum with the archive's; silent for files and tars.

    Raises:
        VideoError: The member is missing, cut short, or its bytes are not those that were stored.
    """
    if not address.member or address.byte_range is not None:
        return
    path = Path(address.path)
    if not path.is_file():
        raise VideoError(f"{path} is missing; download it again")
    with path.open("rb") as archive, _explain_zip(address):
        for _ in iter_member(archive, _find_member(archive, address)):
            pass


def _open_member(archive: BinaryIO, address: VideoAddress) -> BinaryIO:
    status = os.fstat(archive.fileno())
    stored = _find_stored(os.path.abspath(archive.name), address.member, status.st_size, status.st_mtime_ns)
    if stored is None:
        return _unpack(archive, _find_member(archive, address))
    return io.BufferedReader(ByteRange(archive, *stored), STORED_BLOCK_BYTES)


@lru_cache(maxsize=4096)  # every clip of a recording is read out of one member, in every epoch
def _find_stored(path: str, member: str, num_bytes: int, changed_ns: int) -> tuple[int, int] | None:
    """(first byte, number of bytes) of a stored member; None for a compressed one."""
    address = VideoAddress(path, member)
    with Path(path).open("rb") as archive:
        entry = _find_member(archive, address)
        is_stored = entry.compress_type == zipfile.ZIP_STORED
        return (_find_data(archive, entry, address), entry.file_size) if is_stored else None


def _find_member(archive: BinaryIO, address: VideoAddress) -> zipfile.ZipInfo:
    try:
        entry = read_contents(archive)[address.member]
    except KeyError:
        raise VideoError(f"{address.path} has no member {address.member}; download the archive again") from None
    if entry.flag_bits & 0x1:
        raise VideoError(f"{address} is encrypted; unpack the archive first")
    if entry.file_size == 0:
        raise VideoError(f"{address} has zero bytes; download the archive again")
    return entry


def _find_data(archive: BinaryIO, entry: zipfile.ZipInfo, address: VideoAddress) -> int:
    """Where a member's first byte is: its local header has its own lengths, not those of the central directory."""
    archive.seek(entry.header_offset)
    header = archive.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise VideoError(f"{address} has no local header at byte {entry.header_offset}; download the archive again")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    return entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes


def _unpack(archive: BinaryIO, entry: zipfile.ZipInfo) -> BinaryIO:
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with zipfile.ZipFile(archive) as opened, opened.open(entry) as member:
        shutil.copyfileobj(member, unpacked, BLOCK_BYTES)
    unpacked.seek(0)
    return unpacked


@contextlib.contextmanager
def _explain_zip(address: VideoAddress) -> Iterator[None]:
    try:
        yield
    except ZIP_ERRORS as error:
        raise VideoError(f"{address} cannot be read from its archive ({error}); download the archive again") from error
