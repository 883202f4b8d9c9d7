"""A zip archive on the Hub, read without fetching it: its directory first, then only the members that are wanted.

zipfile does the reading (directory, zip64, local headers, CRC); it sees the archive as a file whose bytes are fetched
when they are asked for, and the bytes of a clip's members are fetched in one request before they are.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable, Sequence
from typing import IO

from data_prep.download.hub import Hub, HubFile
from data_prep.download.patience import FetchError
from data_prep.download.ranges import stream_range
from driving.zip_errors import ZIP_ERRORS

TAIL_BYTES = 1 << 17  # the directory of a hundred clips has some 40 kB
NEAR_BYTES = 1 << 16  # members that are not further apart are fetched in one request


class RangeFile(io.RawIOBase):
    """A remote file as zipfile wants one: `fetch` brings bytes here, reading outside of them fetches too."""

    def __init__(self, hub: Hub, file: HubFile) -> None:
        self.hub, self.file = hub, file
        self.place = 0
        self.pieces: dict[int, bytes] = {}

    def fetch(self, start: int, stop: int, on_bytes: Callable[[int], None] = lambda n: None) -> None:
        """Hold bytes [start, stop) from here on."""
        piece = bytearray()

        def write(block: bytes) -> None:
            piece.extend(block)
            on_bytes(len(block))

        stream_range(self.hub, self.file, start, stop, write)
        self.pieces[start] = bytes(piece)

    def holds(self, start: int, stop: int) -> bool:
        return any(first <= start and stop <= first + len(piece) for first, piece in list(self.pieces.items()))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.file.size}[whence]
        if base + offset < 0:
            raise OSError("a seek before the beginning")  # what zipfile expects of an archive that is too short
        self.place = base + offset
        return self.place

    def read(self, size: int = -1) -> bytes:
        stop = self.file.size if size is None or size < 0 else min(self.place + size, self.file.size)
        if stop <= self.place:
            return b""
        start, piece = self._find_piece(stop)
        found = piece[self.place - start : stop - start]
        self.place += len(found)
        return found

    def _find_piece(self, stop: int) -> tuple[int, bytes]:
        for start, piece in list(self.pieces.items()):
            if start <= self.place and stop <= start + len(piece):
                return start, piece
        self.fetch(self.place, stop)
        return self.place, self.pieces[self.place]


class RemoteZip:
    """The directory of a remote archive, and its members.

    Raises:
        FetchError: It is no zip archive, or the hub does not give its bytes.
    """

    def __init__(self, hub: Hub, file: HubFile) -> None:
        self.path = file.path
        self._lock = threading.Lock()  # many workers fetch from one archive; zipfile reads for one at a time
        self._file = RangeFile(hub, file)
        self._file.fetch(max(0, file.size - TAIL_BYTES), file.size)
        try:
            self._archive = zipfile.ZipFile(self._file)
        except (*ZIP_ERRORS, OSError) as error:
            raise FetchError(f"{self.path} is no zip archive that can be read in parts ({error})") from error
        self._file.pieces.clear()  # a directory is parsed now; a thousand of them are open at a time
        self.members = {info.filename: info for info in self._archive.infolist() if not info.is_dir()}
        starts = sorted({info.header_offset for info in self._archive.infolist()} | {self._archive.start_dir})
        self._stops = dict(zip(starts, starts[1:]))

    def size(self, names: Sequence[str]) -> int:
        """Bytes that fetching these members takes."""
        return sum(stop - start for start, stop in self._plan(names))

    def fetch(
        self, names: Sequence[str], write: Callable[[str, IO[bytes]], None], on_bytes: Callable[[int], None]
    ) -> None:
        """Fetch members and hand each to `write(name, file)`, which must read it to its end: that checks the CRC.

        Raises:
            FetchError: A member is damaged, encrypted, or another one than the directory says.
        """
        spans = [span for span in self._plan(names) if not self._file.holds(*span)]
        try:
            for start, stop in spans:
                self._file.fetch(start, stop, on_bytes)
            for name in names:
                try:
                    with self._lock, self._archive.open(self.members[name]) as member:
                        write(name, member)
                except ZIP_ERRORS as error:
                    raise FetchError(f"{self.path}:{name} cannot be read ({error})") from error
        finally:
            for start, _ in spans:
                self._file.pieces.pop(start, None)

    def _plan(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """The spans [start, stop) of the archive that hold some members, near ones together."""
        spans: list[tuple[int, int]] = []
        for start in sorted(self.members[name].header_offset for name in names):
            if spans and start - spans[-1][1] <= NEAR_BYTES:
                spans[-1] = (spans[-1][0], self._stops[start])
            else:
                spans.append((start, self._stops[start]))
        return spans
