"""A Hugging Face dataset folder, written in a stream and equal in every byte: what `datasets.load_from_disk` reads.

    write_split(folder/train, tables) ──▶ data-00000-of-00001.arrow, dataset_info.json, state.json
    write_dataset_dict(folder, splits) ──▶ dataset_dict.json, last

`save_to_disk` wants the whole split first and stamps it with random fingerprints; ours are hashes of what made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.ledger import write_atomically, write_json

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

DATA_NAME = "data-00000-of-00001.arrow"


def build_features(extra: dict[str, str]) -> Features:
    """The columns of `qwen_video_dataset`.

    A block of `content` is stored as JSON, not as an Arrow struct: a struct gives every block every key, with None,
    and Qwen3-VL's chat template then takes the question for a second video. Reloaded blocks hold exactly their keys.

    Args:
        extra: further scalar columns, name -> datasets type ("string", "float64", ...).
    """
    from datasets import Features, Json, List, Value

    pairs = List(List(Value("float64")))
    text, number, whole = Value("string"), Value("float64"), Value("int64")
    return Features(
        {
            "messages": List({"role": text, "content": List(Json())}),
            "videos": List(text),
            "segment_uuid": text,
            "clip_uuid": text,
            "start_second": number,
            "video_fps": number,
            "video_num_frames": whole,
            "targets_text": text,
            "targets": pairs,
            "group": text,
            "observed": pairs,
            "future_pose": pairs,
            **{name: List(whole) if kind == "list<int64>" else Value(kind) for name, kind in extra.items()},
        }
    )


def encode_messages(rows: list[list[dict[str, Any]]], features: Features) -> pa.Array:
    """Chat messages -> the Arrow array of the `messages` column."""
    import pyarrow as pa

    stored = [
        [
            {
                "role": message["role"],
                "content": [json.dumps(block, ensure_ascii=False) for block in message["content"]],
            }
            for message in messages
        ]
        for messages in rows
    ]
    storage = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(pa.string()))]))
    return pa.array(stored, type=storage).cast(features.arrow_schema.field("messages").type)


def write_split(
    folder: Path, split: str, features: Features, tables: Iterable[pa.Table], on_rows: Callable[[int], None]
) -> int:
    """Write one split; `on_rows` is told how many rows each table added.

    Returns:
        The number of rows written.
    """
    import pyarrow as pa

    schema = features.arrow_schema
    num_rows = 0
    digest = hashlib.sha256(split.encode())
    with write_atomically(folder / DATA_NAME) as handle:
        hashing = _HashingWriter(handle, digest)
        with pa.ipc.new_stream(hashing, schema) as stream:
            for table in tables:
                stream.write_table(table.select(schema.names).cast(schema).combine_chunks())
                num_rows += table.num_rows
                on_rows(table.num_rows)
        num_bytes = hashing.num_bytes
    write_json(folder / "dataset_info.json", _describe_info(features, split, num_rows, num_bytes))
    write_json(folder / "state.json", _describe_state(split, digest.hexdigest()[:16]))
    return num_rows


def write_dataset_dict(folder: Path, splits: list[str]) -> None:
    """Name the splits; with this file the folder loads."""
    write_json(folder / "dataset_dict.json", {"splits": splits}, indent=None)


class _HashingWriter:
    """A file that keeps the hash and the length of what goes through it; no more of a file than Arrow asks for."""

    closed = False

    def __init__(self, handle: Any, digest: Any) -> None:
        self._handle, self._digest, self.num_bytes = handle, digest, 0

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._digest.update(data)
        self.num_bytes += len(data)
        return self._handle.write(data)

    def flush(self) -> None:
        self._handle.flush()


def _describe_info(features: Features, split: str, num_rows: int, num_bytes: int) -> dict[str, Any]:
    splits = {split: {"name": split, "num_bytes": num_bytes, "num_examples": num_rows, "dataset_name": None}}
    return {"citation": "", "description": "", "features": features.to_dict(), "license": "", "splits": splits}


def _describe_state(split: str, fingerprint: str) -> dict[str, Any]:
    return {
        "_data_files": [{"filename": DATA_NAME}],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
