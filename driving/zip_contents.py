"""Archives read member by member: the table of contents is read once for all of them, and every sum is checked.

zipfile reads the table anew for each `ZipFile`; of a chunk with 300 members that takes longer than a member's bytes.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 1 << 20
PACKED_BLOCK_BYTES = 1 << 16  # which unpack to 64 MB at most
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the extra field


def read_contents(archive: BinaryIO) -> Mapping[str, zipfile.ZipInfo]:
    """Name -> entry of an archive that is open; of two members with one name the later one.

    Raises:
        zipfile.BadZipFile, OSError and others (see `driving.zip_errors`): It is no whole archive.
    """
    status = os.fstat(archive.fileno())
    return _read_contents(os.fspath(Path(archive.name).absolute()), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=8)  # a recording's files lie in two or three archives
def _read_contents(path: str, num_bytes: int, changed_ns: int, inode: int) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(path) as archive:
        return dict(archive.NameToInfo)


def iter_member(archive: BinaryIO, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member's bytes in blocks; the last one comes only where its sum is right.

    Raises:
        zipfile.BadZipFile, EOFError and others (see `driving.zip_errors`): It is damaged, encrypted, or packed in a way
            that this Python does not know.
    """
    is_plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not entry.flag_bits & 0x1
    if not is_plain:
        with zipfile.ZipFile(archive) as opened, opened.open(entry) as member:
            yield from iter(lambda: member.read(BLOCK_BYTES), b"")
        return
    archive.seek(find_data(archive, entry))
    unpack = zlib.decompressobj(-zlib.MAX_WBITS) if entry.compress_type == zipfile.ZIP_DEFLATED else None
    block_bytes = BLOCK_BYTES if unpack is None else PACKED_BLOCK_BYTES
    crc, missing, promised = 0, entry.compress_size, entry.file_size
    last = b""
    while missing:
        block = archive.read(min(block_bytes, missing))
        if not block:
            raise EOFError(f"{entry.filename!r} is cut short by {missing:,} bytes")
        missing -= len(block)
        if last:
            yield last
        last = block if unpack is None else unpack.decompress(block) + (b"" if missing else unpack.flush())
        crc, promised = zlib.crc32(last, crc), promised - len(last)
        if promised < 0:
            break  # more than it said: the sum of what it said cannot be right either
    if promised or crc != entry.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {entry.filename!r}")
    if last:
        yield last


def find_data(archive: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where a member's first byte is: its local header has its own lengths, not those of the table of contents.

    Raises:
        zipfile.BadZipFile: There is no header, or it is another member's.
    """
    archive.seek(entry.header_offset)
    header = archive.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise zipfile.BadZipFile("Bad magic number for file header")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    name = archive.read(name_bytes).decode("utf-8" if entry.flag_bits & 0x800 else "cp437", errors="replace")
    if name != entry.orig_filename:
        raise zipfile.BadZipFile(f"File name in directory {entry.orig_filename!r} and header {name!r} differ.")
    return entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
