"""One file of the Hub onto the disk: continued where it stopped, and kept only when every byte is the one promised.

part (kept by a kill) ──append──▶ size and hash as the hub says ──▶ zips: directory and every CRC ──▶ renamed
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep.download.hub import Hub, HubFile
from data_prep.download.patience import FetchError
from data_prep.download.ranges import stream_range
from data_prep.download.records import STATE, Records
from driving.whole_files import explain_disk_full
from driving.zip_errors import ZIP_ERRORS

DIGEST_TRIES = 3
READ_BYTES = 1 << 22


def part_path(root: Path, file: HubFile, target: str) -> Path:
    """Where the unfinished file waits: its name holds the hash, so that another revision's part is never continued."""
    return root / STATE / "parts" / f"{target.replace('/', '__')}.{file.digest.partition(':')[2][:16]}.part"


def is_whole(root: Path, target: str, file: HubFile, records: Records) -> bool:
    """Whether the file is there as the hub has it: by the record of an earlier run, else by reading it."""
    if records.is_kept(target, file.digest):
        return True
    path = root / target
    if not path.is_file() or path.stat().st_size != file.size or not file.is_digest(_read_digest(path, file)):
        return False
    records.add(target, file.digest)
    return True


def fetch_file(
    hub: Hub, file: HubFile, root: Path, target: str, records: Records, on_bytes: Callable[[int], None] = lambda n: None
) -> None:
    """Fetch a file to `root / target`.

    Args:
        on_bytes: told how many bytes came; a negative number takes back what turned out to be wrong.

    Raises:
        FetchError: The bytes are not those that the hub promises, or it is a damaged zip.
        AccessError, Stopped: Nothing more can be fetched.
        LedgerError: The disk is full.
    """
    part = part_path(root, file, target)
    part.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(DIGEST_TRIES):
        seen, num_bytes = _fetch_part(hub, file, part, on_bytes)
        if file.is_digest(seen):
            _check_zip(part, target)
            path = root / target
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, path)
            records.add(target, file.digest)
            return
        part.unlink()
        on_bytes(-num_bytes)
    raise FetchError(
        f"{file.path}: {DIGEST_TRIES} times its {file.size:,} bytes were not those that the hub promises "
        f"({file.digest[:23]}...); something between the hub and this machine changes them"
    )


def _fetch_part(hub: Hub, file: HubFile, part: Path, on_bytes: Callable[[int], None]) -> tuple[Any, int]:
    """Bring the part to its full size; returns the hash of all its bytes, and how many of them came now."""
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    seen = _read_digest(part, file) if part.exists() else file.start_digest()
    with explain_disk_full(part), part.open("ab") as handle:
        start = handle.tell()

        def write(block: bytes) -> None:
            handle.write(block)
            seen.update(block)
            on_bytes(len(block))

        stream_range(hub, file, start, file.size, write)
        handle.flush()
        os.fsync(handle.fileno())
    return seen, file.size - start


def _read_digest(path: Path, file: HubFile) -> Any:
    seen = file.start_digest()
    with path.open("rb") as handle:
        while block := handle.read(READ_BYTES):
            seen.update(block)
    return seen


def _check_zip(part: Path, target: str) -> None:
    """The hub's own file may be damaged: its hash is right then, its members are not."""
    if not target.endswith(".zip"):
        return
    try:
        with zipfile.ZipFile(part) as archive:
            damaged = archive.testzip()
    except ZIP_ERRORS as error:
        raise FetchError(
            f"{target}: the hub's own file is no whole zip archive ({error}); its hash is right"
        ) from error
    if damaged:
        raise FetchError(f"{target}: member {damaged} is damaged in the hub's own file; its hash is right")
