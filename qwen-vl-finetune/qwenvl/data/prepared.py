"""Rows that were decoded and tokenized before: read from mapped files, refused where they are not what is asked for.

    folder ──PreparedCache.read──▶ cache ──check_rendering──▶ same pixels, same tokenizer
                                         ──find_rows / find_clips──▶ an Entry for each row, or one line naming the first
                                                                      that is missing or changed

scripts/prepare_cache.py writes the folder. Training reads ids and frames from it, evaluation frames. A row's own files
need not be there any more; where they are, they must be those that were prepared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import DrivingError, VideoError
from driving.ledger import MANIFEST_NAME, PLAN_NAME, check_whole, read_manifest
from driving.records import MEDIA, media_paths, record_name
from qwenvl.data.clips import Record, find_media
from qwenvl.data.frame_cache import Clip
from qwenvl.data.identity import hash_frames, hash_row, identify_media, identify_pixels, identify_rendering
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.data.shards import Entry, ShardMaps, StoredMedia, digest_media, read_shards

TOOL_NAME = "prepare_cache"
AGAIN = "run scripts/prepare_cache.py again, it adds what is missing"


class PreparedCache:
    """A finished prepared cache.

    Attributes:
        folder: where it is.
        rendering: what it was made with (qwenvl.data.identity.identify_rendering).
        entries: one for each row, those that cannot be used among them.
    """

    def __init__(self, folder: Path, rendering: dict[str, Any], entries: Sequence[Entry]) -> None:
        self.folder = folder
        self.rendering = rendering
        self.entries = entries
        self._maps = ShardMaps(folder)

    @classmethod
    def read(cls, folder: Path) -> PreparedCache:
        """Open a finished cache.

        Raises:
            DrivingError: The folder is none, or one that was not finished, or lost files since.
        """
        folder = Path(folder)
        if not (folder / PLAN_NAME).is_file():
            raise DrivingError(f"{folder} is no prepared cache; scripts/prepare_cache.py makes one")
        if not (folder / MANIFEST_NAME).is_file():
            raise DrivingError(f"{folder} was not finished; run scripts/prepare_cache.py with the same flags again")
        plan = read_manifest(folder)["plan"]
        if plan.get("tool") != TOOL_NAME:
            raise DrivingError(f"{folder} is no prepared cache but the output of {plan.get('tool')}; give another one")
        check_whole(folder, "run scripts/prepare_cache.py with the same flags again")
        return cls(folder, plan["rendering"], read_shards(folder))

    def check_rendering(self, preprocessing: Preprocessing, processor: Any) -> None:
        """Raise unless rows would be decoded and tokenized now as they were then."""
        self._compare(json.loads(json.dumps(identify_rendering(preprocessing, processor))))

    def check_pixels(self, preprocessing: Preprocessing) -> None:
        """Raise unless videos would be decoded now as they were then."""
        self._compare(identify_pixels(preprocessing))

    def _compare(self, asked: dict[str, Any]) -> None:
        for name, value in asked.items():
            if self.rendering.get(name) != value:
                raise DrivingError(
                    f"{self.folder} was prepared with {name} = {self.rendering.get(name)}, this run has {value}; "
                    "prepare another folder with scripts/prepare_cache.py, or read the videos themselves"
                )

    def find_rows(self, records: Sequence[Record], folders: Sequence[Sequence[Path]]) -> list[Entry]:
        """The entry of each row.

        Raises:
            DrivingError: A row was not prepared, or one of its files has changed.
        """
        return self._find(records, folders, hash_row, {entry.row: [] for entry in self.entries}, "row")

    def find_clips(self, records: Sequence[Record], folders: Sequence[Sequence[Path]]) -> dict[str, Entry]:
        """For the frames of each row (by `hash_frames`) an entry that holds them; questions and answers do not matter.

        Raises:
            DrivingError: A row's videos were not prepared, or have changed.
        """
        known: dict[str, list[Entry]] = {entry.frames: [] for entry in self.entries}
        found = self._find(records, folders, hash_frames, known, "frames")
        return {entry.frames: entry for entry in found}

    def _find(
        self,
        records: Sequence[Record],
        folders: Sequence[Sequence[Path]],
        hash_record: Callable[[Record], str],
        known: dict[str, list[Entry]],
        by: str,
    ) -> list[Entry]:
        identify_media.cache_clear()
        for entry in self.entries:
            known[getattr(entry, by)].append(entry)
        found, lacking = [], []
        for record, where in zip(records, folders, strict=True):
            key = hash_record(record)
            changes = [(find_change(entry, where), entry) for entry in known.get(key, ())]
            chosen = next((entry for change, entry in changes if not change), None)
            if chosen is None and not changes:
                chosen = _note_absent(record, where, key)
            if chosen is None:
                lacking.append(changes[-1][0] if changes else f"{record_name(record)} is new")
            else:
                found.append(chosen)
        if lacking:
            raise DrivingError(
                f"{self.folder} does not hold {len(lacking):,} of {len(records):,} rows: {lacking[0]}; {AGAIN}"
            )
        return found

    def read_tokens(self, entry: Entry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids, labels, modalities) of a row, each (L,) int64."""
        return self._maps.read_tokens(entry)

    def read_clips(self, entry: Entry) -> list[Clip]:
        """The videos of a row, as views of the mapped files.

        Raises:
            VideoError: The row could not be used when it was prepared.
        """
        if entry.reason:
            raise VideoError(entry.reason)
        return [Clip(self._read(entry, one), one.fps) for one in entry.media if one.kind == "video"]

    def read_images(self, entry: Entry) -> list[np.ndarray]:
        """The still images of a row, each (1, H, W, 3) uint8."""
        return [self._read(entry, one) for one in entry.media if one.kind == "image"]

    def _read(self, entry: Entry, media: StoredMedia) -> np.ndarray:
        return self._maps.read_frames(entry.shard, media)


def _note_absent(record: Record, folders: Sequence[Path], key: str) -> Entry | None:
    """A row that was not prepared because its files are not there is a bad sample, as it is without a cache."""
    try:
        for kind in MEDIA:
            for name in media_paths(record, kind):
                find_media(name, folders)
    except VideoError as error:
        return Entry(key, key, "", reason=str(error))
    return None


def find_change(entry: Entry, folders: Sequence[Path]) -> str:
    """Which file of a row is not the one that was prepared; "" where all are, or are not here any more.

    A file of the same size and another time of change may be a copy: then its content is looked at.
    """
    for media in entry.media:
        try:
            path = find_media(media.name, folders)
        except VideoError:
            continue
        num_bytes, changed_ns = identify_media(path)
        if (num_bytes, changed_ns) == (media.num_bytes, media.changed_ns):
            continue
        if num_bytes != media.num_bytes or digest_media(path, num_bytes, changed_ns) != media.digest:
            return f"{path} has changed ({media.num_bytes:,} bytes then, {num_bytes:,} now)"
    return ""
