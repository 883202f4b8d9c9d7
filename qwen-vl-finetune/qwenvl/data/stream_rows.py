"""The rows of one shard with their places in it, read from front to back; or one row alone, by its place.

    train.json, train.jsonl   ──iter_rows──▶ ShardRow(start, size, record) ...   one row in memory at a time
    train-000012.tar          (WebDataset: a .json and at most one video a row, under one key)
    (start, size)             ──read_row───▶ record

A row of a tar is the bytes of its members, headers included; its video is not copied out: the record names the tar,
the member and the bytes that it lies in ("video", "member", "byte_range"), and is decoded from there.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from driving.errors import RecordError
from video_io.address import ByteRange

Record = dict[str, Any]
JSON_SUFFIXES = (".json", ".jsonl")
TAR_SUFFIX = ".tar"
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
NUMBER = re.compile(r"-\d+\.tar")  # what follows the prefix that a set of shards is named by
ANY_NUMBER = re.compile(r"-?\d*\.tar$")
BLOCK_BYTES = 1 << 18
MAX_ROW_BYTES = 1 << 24  # of a row of a JSON; a file that has no end of a row within it is no list of rows
TAR_BLOCK_BYTES = 512
_BETWEEN = re.compile(r"[\s,\[\]]*", re.ASCII)


class ShardRow(NamedTuple):
    """A row and the bytes of its shard that hold it."""

    start: int
    size: int
    record: Record


def find_shards(path: Path) -> list[Path]:
    """The tars that a path names, in order: a tar itself, a folder of them, or the prefix before -000000.tar.

    Raises:
        RecordError: A folder holds several sets of shards, such as those of train and test.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(one for one in path.glob(f"*{TAR_SUFFIX}") if one.is_file())
        sets = sorted({ANY_NUMBER.sub("", one.name) for one in found})
        if len(sets) > 1:
            named = "train" if "train" in sets else sets[0]
            raise RecordError(f"{path} holds shards of {', '.join(sets[:5])}; name one of them: {path / named}")
        return found
    if path.suffix == TAR_SUFFIX:
        return [path] if path.is_file() else []
    beside = path.parent.glob(f"*{TAR_SUFFIX}") if path.parent.is_dir() else ()
    return sorted(one for one in beside if NUMBER.fullmatch(one.name.removeprefix(path.name)) and one.is_file())


def iter_rows(path: Path, digest: Any = None) -> Iterator[ShardRow]:
    """Every row of a shard, front to back.

    Args:
        digest: a hashlib object that takes in what the rows say: all bytes of a JSON; of a tar the names and sizes of
            its members and the texts, not the pixels.

    Raises:
        RecordError: It is cut short, or not of its shape.
    """
    digest = digest or hashlib.sha256()
    return _iter_tar(path, digest) if path.suffix == TAR_SUFFIX else _iter_json(path, digest)


def read_row(path: Path, start: int, size: int, num_bytes: int) -> Record:
    """One row, by its place.

    Args:
        num_bytes: of the shard when its rows were found.

    Raises:
        RecordError: The shard has changed since.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, io.SEEK_END) != num_bytes:
                raise RecordError(f"it holds {file.tell():,} bytes, not {num_bytes:,}")
            if path.suffix != TAR_SUFFIX:
                file.seek(start)
                return json.loads(file.read(size))
            within = io.BufferedReader(ByteRange(file, start, size), TAR_BLOCK_BYTES * 8)
            with tarfile.TarFile(fileobj=within) as tar:
                return _build_record(path, tar, list(_iter_members(tar)), start)
    except (OSError, ValueError, tarfile.TarError, RecordError) as error:
        reason = f"{path} is not as it was when the run began ({error}); put it back and run the same command again"
        raise RecordError(reason) from error


def _iter_json(path: Path, digest: Any) -> Iterator[ShardRow]:
    """Rows of a JSON list or JSON lines, however they are laid out over lines."""
    decode, utf8 = json.JSONDecoder().raw_decode, codecs.getincrementaldecoder("utf-8")()
    first = last = b""  # of all that is no white space
    try:
        with path.open("rb") as file:
            start = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0  # some editors put it in front
            digest.update(codecs.BOM_UTF8[:start])
            file.seek(start)
            held = ""  # one character a byte: places in it are places in the file
            while True:
                block = file.read(BLOCK_BYTES)
                digest.update(block)
                utf8.decode(block, final=not block)
                first, last = first or block.lstrip()[:1], block.rstrip()[-1:] or last
                held += block.decode("latin-1")
                if first not in (b"", b"[") and path.suffix != ".jsonl":
                    raise RecordError(f"{path} must hold a list of rows with video and conversations")
                place = 0
                while (place := _BETWEEN.match(held, place).end()) < len(held):
                    if held[place] != "{":
                        raise RecordError(f"{path}, byte {start + place:,}: {held[place : place + 40]!r} is no row")
                    try:
                        stop = decode(held, place)[1]
                    except ValueError as error:
                        if block and len(held) - place < MAX_ROW_BYTES:
                            break  # the rest of the row comes with the next block
                        raise _explain_json(path, start + place, error) from error
                    text = held[place:stop].encode("latin-1")
                    yield ShardRow(start + place, len(text), json.loads(text))
                    place = stop
                held, start = held[place:], start + place
                if not block:
                    break
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not UTF-8 text ({error.reason}); it should be a training JSON") from error
    if path.suffix != ".jsonl" and last != b"]":
        raise RecordError(f"{path} is cut short: its list has no end; run ./convert_to_training_format.py again")


def _explain_json(path: Path, place: int, error: ValueError) -> RecordError:
    reason = getattr(error, "msg", error)
    return RecordError(
        f"{path} is not JSON ({reason}, in the row that begins at byte {place:,}); "
        "run ./convert_to_training_format.py again"
    )


def _iter_tar(path: Path, digest: Any) -> Iterator[ShardRow]:
    try:
        with tarfile.open(path, "r:") as tar:
            for _, group in itertools.groupby(_iter_members(tar), key=_key_of):
                members = list(group)
                for member in members:
                    digest.update(f"{member.name} {member.size} ".encode())
                record = _build_record(path, tar, members, 0, digest)
                start, last = members[0].offset, members[-1]
                stop = last.offset_data + -(-last.size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
                yield ShardRow(start, stop - start, record)
            _check_end(path, tar.offset)
    except (tarfile.TarError, EOFError) as error:
        raise RecordError(
            f"{path} cannot be read as a shard ({error}): it is cut short, compressed or damaged; export it again"
        ) from error


def _check_end(path: Path, end: int) -> None:
    """Raise unless nothing but zeros follows: tarfile takes a damaged header, or two tars in one file, for the end."""
    num_zeros = 0
    with path.open("rb") as file:
        file.seek(end)
        while block := file.read(BLOCK_BYTES):
            if any(block):
                raise tarfile.ReadError(f"after byte {end:,} comes more that is no member of it")
            num_zeros += len(block)
    if num_zeros < 2 * TAR_BLOCK_BYTES:
        raise tarfile.ReadError("it does not end as a tar does")


def _iter_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # it would remember them all
        if member.isreg():
            yield member


def _key_of(member: tarfile.TarInfo) -> str:
    """A row's key, as WebDataset takes it: the name up to the first dot after the folder."""
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _build_record(
    path: Path, tar: tarfile.TarFile, members: Sequence[tarfile.TarInfo], offset: int, digest: Any = None
) -> Record:
    """The record of a row from its members; `offset` is where the tar begins that they were found in."""
    name = f"{path}, row {_key_of(members[0])}" if members else str(path)
    texts = [member for member in members if member.name.endswith(".json")]
    videos = [member for member in members if member.name.lower().endswith(VIDEO_SUFFIXES)]
    if len(texts) != 1 or len(videos) > 1:
        raise RecordError(
            f"{name}: {len(texts)} .json and {len(videos)} videos; a row is one .json with conversations and one "
            "video; they stand one behind the other: tar the files sorted by name"
        )
    data = tar.extractfile(texts[0])
    text = b"" if data is None else data.read()
    if digest is not None:
        digest.update(text)
    try:
        record = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{name}: {texts[0].name} is not JSON ({error}); export the shards again") from error
    if not isinstance(record, dict):
        raise RecordError(f"{name}: {texts[0].name} holds no row; export the shards again")
    for member in videos:
        within = [offset + member.offset_data, member.size]
        record = {**record, "video": str(path.absolute()), "member": member.name, "byte_range": within}
    return record
