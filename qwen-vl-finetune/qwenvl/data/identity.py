"""What a sample depends on, as short hashes: anything kept from an earlier run is only used where these agree.

identify_rendering(preprocessing, processor) ──▶ {"video_fps": ..., "tokenizer": hash, ...}   the same for all rows
hash_row(record)                              ──▶ turns, files by name, window in time
identify_media(path)                          ──▶ size and time of change of a file, or of all files of a folder
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from driving.records import MEDIA, media_paths
from qwenvl.data.clips import Record, find_media
from qwenvl.data.dataset import tokenize_record
from qwenvl.data.preprocessing import Preprocessing

HASH_BYTES = 16
EXAMPLE = {
    "id": "example",
    "video": "a.mp4",
    "image": "a.png",
    "conversations": [
        {"from": "system", "value": "You drive."},
        {"from": "human", "value": "<video>\n<image>\nWhere to?"},
        {"from": "gpt", "value": "[(12.3, -0.0042)]"},
        {"from": "human", "value": "And then?"},
        {"from": "gpt", "value": "Left."},
    ],
}
# Of a record: which pixels it shows.
FRAME_KEYS = (*MEDIA, "member", "byte_range", "video_start", "video_end", "frame_indices")
# What decides frames and tokens; the rest of a Preprocessing is told about the data, not asked of it.
PIXEL_RULES = (
    "video_fps", "video_min_frames", "video_max_frames", "video_frame_pixels", "video_max_pixels", "video_min_pixels",
    "max_pixels", "min_pixels", "factor_px", "scaler",
)  # fmt: skip


def identify_rendering(preprocessing: Preprocessing, processor: Any) -> dict[str, Any]:
    """JSON values that decide how any row becomes tokens and frames: pixel rules, tokenizer, template, versions."""
    return identify_pixels(preprocessing) | _identify_tokens(processor)


def identify_pixels(preprocessing: Preprocessing) -> dict[str, Any]:
    """JSON values that decide a video's frames; `blind` only where it is on, as before there was such a thing."""
    rules = {name: getattr(preprocessing, name) for name in PIXEL_RULES}
    return {**rules, "blind": True} if preprocessing.blind else rules


@lru_cache(maxsize=8)
def _identify_tokens(processor: Any) -> dict[str, Any]:
    """Tokenizer and template, and how this version of the library renders a conversation with each kind of media."""
    vocabulary = processor.tokenizer.backend_tokenizer.to_str()
    pictures = processor.image_processor
    side = processor.video_processor.patch_size * processor.video_processor.merge_size
    tokens = tokenize_record(EXAMPLE, processor, [(4, side, side, 2.0)], [(side, side)], with_answer=True)
    return {
        "image_size": [pictures.size["shortest_edge"], pictures.size["longest_edge"]],
        "tokenizer": hash_text(vocabulary),
        "chat_template": hash_text(str(processor.chat_template)),
        "prompt": hash_text(f"{tokens.input_ids} {tokens.labels} {tokens.mm_token_type_ids}"),
    }


def identify_processor(processor: Any) -> dict[str, Any]:
    """What of a model folder's processor decides what a run learns: tokens as above, and how pixels are normalised."""
    names = ("image_mean", "image_std", "rescale_factor", "patch_size", "temporal_patch_size", "merge_size")
    pixels = {
        kind: {name: getattr(settings, name, None) for name in names}
        for kind, settings in (("image", processor.image_processor), ("video", processor.video_processor))
    }
    return {**_identify_tokens(processor), **pixels}


def hash_text(text: str) -> str:
    """Thirty-two hex digits of a text."""
    return hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).hexdigest()


def hash_row(record: Record) -> str:
    """Of all that a record itself says about its sample; its name, group and numbers are not in it."""
    return _hash_values(record, ("conversations", *FRAME_KEYS))


def hash_frames(record: Record) -> str:
    """Of what a record says about its pixels alone: rows that ask different questions about one clip agree."""
    return _hash_values(record, FRAME_KEYS)


def _hash_values(record: Record, keys: Sequence[str]) -> str:
    values = {key: record[key] for key in keys if record.get(key) is not None}
    return hash_text(json.dumps(values, ensure_ascii=False, sort_keys=True))


def identify_files(record: Record, folders: Sequence[Path]) -> list[tuple[int, int]]:
    """(bytes, time of change in ns) of each file or folder that a record shows.

    Raises:
        VideoError: One is not there.
    """
    return [identify_media(find_media(path, folders)) for kind in MEDIA for path in media_paths(record, kind)]


@lru_cache(maxsize=4096)
def identify_media(path: Path) -> tuple[int, int]:
    """(bytes, time of change in ns) of a file; of a folder of pictures the sum of all bytes and the latest change.

    Kept, since a thousand rows may point into one folder of a thousand pictures: whoever begins to look through rows
    calls `identify_media.cache_clear()` first.
    """
    status = path.stat()
    if not path.is_dir():
        return status.st_size, status.st_mtime_ns
    with os.scandir(path) as entries:
        states = [entry.stat() for entry in entries]
    changes = [status.st_mtime_ns, *(state.st_mtime_ns for state in states)]
    return sum(state.st_size for state in states), max(changes)
