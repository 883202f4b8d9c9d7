"""The files of a prepared cache: a few large ones with frames and token ids, and beside each what lies where in it.

    rows ──write_shard──▶ shard-00012.bin   frames uint8 (T, H, W, 3), each from a page of its own; then token ids
                          shard-00012.json  one Entry a row; written last, so that its presence means *whole*
         ◀──read_shards── [Entry]           ◀──ShardMaps── views of the mapped files, nothing is copied

T = frames, H x W = frame size in px, L = tokens
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from driving.errors import DrivingError, LedgerError
from driving.records import media_paths
from driving.whole_files import write_atomically, write_json
from qwenvl.data.clips import Record, find_media, read_clips, read_images
from qwenvl.data.dataset import tokenize_record
from qwenvl.data.decode_guard import DecodeHangError
from qwenvl.data.frame_cache import Clip
from qwenvl.data.identity import HASH_BYTES, hash_frames, hash_row, identify_media
from qwenvl.data.labels import IGNORED
from qwenvl.data.preprocessing import Preprocessing

SHARD_BYTES = 2**30
PAGE_BYTES = 4096  # a clip starts on a page: its pages are read ahead in one piece, and shared with no other
SAMPLED_BLOCKS, BLOCK_BYTES = 16, 2**16
SUPERVISED = 4  # flag beside a token's modality (0 text, 1 image, 2 video)


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """The frames of one video or picture, and the file that they came from.

    Attributes:
        kind: "video" or "image".
        name: as the record writes it.
        num_bytes, changed_ns, digest: of the file then.
        offset: where the frames begin in the shard.
        shape: frames, height, width.
        fps: nominal rate; 0 for a picture.
    """

    kind: str
    name: str
    num_bytes: int
    changed_ns: int
    digest: str
    offset: int
    shape: tuple[int, int, int]
    fps: float

    @property
    def frame_bytes(self) -> int:
        return int(np.prod(self.shape)) * 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a prepared cache.

    Attributes:
        row, frames: hashes of what the record says (qwenvl.data.identity).
        shard: name of its files, without ending.
        media: its videos, then its pictures.
        offset: where its token ids begin in the shard.
        counts: tokens, visual tokens, supervised tokens.
        reason: why it cannot be used; "" where it can.
    """

    row: str
    frames: str
    shard: str
    media: tuple[StoredMedia, ...] = ()
    offset: int = 0
    counts: tuple[int, int, int] = (0, 0, 0)
    reason: str = ""

    @classmethod
    def parse(cls, shard: str, values: dict[str, Any]) -> Entry:
        media = tuple(StoredMedia(**{**one, "shape": tuple(one["shape"])}) for one in values.pop("media"))
        return cls(shard=shard, media=media, **{**values, "counts": tuple(values["counts"])})

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        del values["shard"]
        return values


def count_stored_bytes(frame_shapes: Sequence[tuple[int, int, int]], num_tokens: int) -> int:
    """What one row takes in a shard."""
    pictures = sum(-(-int(np.prod(shape)) * 3 // PAGE_BYTES) * PAGE_BYTES for shape in frame_shapes)
    return pictures + 5 * num_tokens + PAGE_BYTES


def write_shard(
    folder: Path,
    name: str,
    rows: Sequence[tuple[Record, Sequence[Path]]],
    processor: Any,
    preprocessing: Preprocessing,
    note_row: Callable[[], None] = lambda: None,
    read: Callable[..., list[Clip]] = read_clips,
) -> None:
    """Decode and tokenize rows into one shard; a row that cannot be used leaves an Entry with the reason.

    Args:
        read: as `read_clips`, which it may call in a process that can be killed.
        note_row: called after each row, for a progress bar.

    Raises:
        LedgerError: The disk is full.
        DecodeHangError: A file's decoding does not end.
    """
    entries = []
    shared: dict[Any, tuple[StoredMedia, ...]] = {}  # rows that ask different questions about one clip
    with write_atomically(folder / f"{name}.bin") as file:
        for record, folders in rows:
            entries.append(_write_row(file, record, folders, processor, preprocessing, shared, read))
            note_row()
        num_bytes = file.tell()
    values = [entry.to_json() for entry in entries]
    write_json(folder / f"{name}.json", {"bytes": num_bytes, "entries": values}, indent=None)


def _write_row(
    file: IO[bytes],
    record: Record,
    folders: Sequence[Path],
    processor: Any,
    preprocessing: Preprocessing,
    shared: dict[Any, tuple[StoredMedia, ...]],
    read: Callable[..., list[Clip]],
) -> Entry:
    empty = Entry(hash_row(record), hash_frames(record), "")
    try:
        files = [
            (kind, name, *_identify(name, folders)) for kind in ("video", "image") for name in media_paths(record, kind)
        ]
    except DrivingError as error:
        return dataclasses.replace(empty, reason=str(error))
    key = (empty.frames, *files)
    try:
        if key not in shared:
            clips = read(record, preprocessing, folders)
            pictures = [(clip.frames, clip.fps) for clip in clips]
            pictures += [(image, 0.0) for image in read_images(record, preprocessing, processor, folders)]
            shapes = [(frames.shape[:3], fps) for frames, fps in pictures]
            tokens = _tokenize(record, processor, shapes)
            shared[key] = tuple(
                StoredMedia(*origin, _append(file, frames), frames.shape[:3], fps)
                for origin, (frames, fps) in zip(files, pictures, strict=True)
            )
        else:
            tokens = _tokenize(record, processor, [(one.shape, one.fps) for one in shared[key]])
    except DecodeHangError:
        raise
    except DrivingError as error:
        unread = tuple(StoredMedia(*origin, 0, (0, 0, 0), 0.0) for origin in files)
        return dataclasses.replace(empty, media=unread, reason=str(error))
    ids = np.asarray(tokens.input_ids, dtype="<i4")
    kinds = np.asarray(tokens.mm_token_type_ids, dtype=np.uint8)
    is_supervised = np.asarray(tokens.labels) != IGNORED
    offset = file.tell()
    file.write(ids.tobytes())
    file.write((kinds + SUPERVISED * is_supervised).astype(np.uint8).tobytes())
    counts = (len(ids), int((kinds > 0).sum()), int(is_supervised.sum()))
    return dataclasses.replace(empty, media=shared[key], offset=offset, counts=counts)


def _tokenize(record: Record, processor: Any, shapes: Sequence[tuple[tuple[int, int, int], float]]) -> Any:
    videos = [(*shape, fps) for shape, fps in shapes if fps]
    images = [shape[1:3] for shape, fps in shapes if not fps]
    return tokenize_record(record, processor, videos, images, with_answer=True)


def _append(file: IO[bytes], frames: np.ndarray) -> int:
    file.seek(-file.tell() % PAGE_BYTES, os.SEEK_CUR)
    offset = file.tell()
    file.write(np.ascontiguousarray(frames).data)
    return offset


def _identify(name: str, folders: Sequence[Path]) -> tuple[int, int, str]:
    path = find_media(name, folders)
    num_bytes, changed_ns = identify_media(path)
    return num_bytes, changed_ns, digest_media(path, num_bytes, changed_ns)


@lru_cache(maxsize=256)
def digest_media(path: Path, num_bytes: int, changed_ns: int) -> str:
    """Hash of a file's content: of all of it up to 1 MiB, of sixteen blocks spread over a larger one.

    Of a folder of pictures: the name, size and end of each. It tells a copy, whose time of change is new, from another
    file.
    """
    digest = hashlib.blake2b(str(num_bytes).encode(), digest_size=HASH_BYTES)
    if path.is_dir():
        for picture in sorted(one for one in path.iterdir() if one.is_file()):
            digest.update(f"{picture.name} {picture.stat().st_size} ".encode())
            _digest_blocks(digest, picture, [max(0, picture.stat().st_size - PAGE_BYTES)])
    elif num_bytes <= SAMPLED_BLOCKS * BLOCK_BYTES:
        digest.update(path.read_bytes())
    else:
        last = num_bytes - BLOCK_BYTES
        _digest_blocks(digest, path, [last * block // (SAMPLED_BLOCKS - 1) for block in range(SAMPLED_BLOCKS)])
    return digest.hexdigest()


def _digest_blocks(digest: Any, path: Path, starts: Sequence[int]) -> None:
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(BLOCK_BYTES))


def read_shards(folder: Path) -> list[Entry]:
    """The entries of every whole shard.

    Raises:
        LedgerError: A description of a shard is damaged.
    """
    return [entry for path in sorted(Path(folder).glob("shard-*.json")) for entry in _read_shard(path)]


def _read_shard(path: Path) -> list[Entry]:
    """What a description says; nothing where its data are not those that it describes."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        entries = [Entry.parse(path.stem, values) for values in held["entries"]]
        num_bytes = held["bytes"]
    except (ValueError, TypeError, KeyError) as error:
        raise LedgerError(f"{path} is damaged ({error!r}); remove it, run scripts/prepare_cache.py again") from error
    data = path.with_suffix(".bin")
    return entries if data.is_file() and data.stat().st_size == num_bytes else []


def remove_halves(folder: Path) -> None:
    """Delete data without description (their run was killed between the two) and descriptions without data."""
    for data in folder.glob("shard-*.bin"):
        if not data.with_suffix(".json").exists():
            data.unlink()
    for path in folder.glob("shard-*.json"):
        if not _read_shard(path):
            path.with_suffix(".bin").unlink(missing_ok=True)
            path.unlink()


class ShardMaps:
    """The mapped files of a folder of shards, opened when they are first read, each process for itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._maps: dict[tuple[int, str], mmap.mmap] = {}

    def read_frames(self, shard: str, media: StoredMedia) -> np.ndarray:
        """(T, H, W, 3) uint8: a private view of the file, which a change of it does not reach."""
        opened = self._open(shard)
        # Read ahead in one piece: a page at a time, a disk gives a tenth of what it can.
        start = media.offset // mmap.PAGESIZE * mmap.PAGESIZE
        opened.madvise(mmap.MADV_WILLNEED, start, media.offset + media.frame_bytes - start)
        view = np.frombuffer(opened, np.uint8, media.frame_bytes, media.offset)
        return view.reshape(*media.shape, 3)

    def read_tokens(self, entry: Entry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids, labels, modalities) of a row, each (L,) int64."""
        opened, length = self._open(entry.shard), entry.counts[0]
        ids = np.frombuffer(opened, "<i4", length, entry.offset).astype(np.int64)
        flags = np.frombuffer(opened, np.uint8, length, entry.offset + 4 * length)
        return ids, np.where(flags >= SUPERVISED, ids, IGNORED), (flags % SUPERVISED).astype(np.int64)

    def _open(self, shard: str) -> mmap.mmap:
        key = (os.getpid(), shard)
        if key not in self._maps:
            with (self.folder / f"{shard}.bin").open("rb") as file:
                self._maps[key] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._maps[key]
