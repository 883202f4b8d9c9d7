"""A Hugging Face dataset folder, written in a stream and equal in every byte: what `datasets.load_from_disk` reads.

    open_writer(folder/train) ──write, a table at a time──▶ data-00000-of-00001.arrow, dataset_info.json, state.json
    write_dataset_dict(folder, splits) ──▶ dataset_dict.json, last
    read_split_names, iter_split ──▶ the tables again, in pieces of one size

`save_to_disk` wants the whole split first and stamps it with random fingerprints; ours are hashes of what made it.
`load_from_disk` maps the file into memory, where all that was read of it counts as used; `iter_split` reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.pieces import cut_pieces
from driving.whole_files import write_atomically, write_json

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

DATA_NAME = "data-00000-of-00001.arrow"
INFO_NAME = "dataset_info.json"
DICT_NAME = "dataset_dict.json"


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


def decode_messages(stored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages of one row as `to_pylist` gives them -> as they were."""
    return [{**message, "content": [json.loads(block) for block in message["content"]]} for message in stored]


class SplitWriter:
    """One split while it is written.

    Attributes:
        num_rows: written so far.
    """

    def __init__(self, stream: Any, schema: pa.Schema) -> None:
        self._stream, self._schema, self.num_rows = stream, schema, 0

    def write(self, table: pa.Table) -> None:
        """Add rows; columns may come in any order."""
        self._stream.write_table(table.select(self._schema.names).cast(self._schema).combine_chunks())
        self.num_rows += table.num_rows


@contextlib.contextmanager
def open_writer(folder: Path, split: str, features: Features) -> Iterator[SplitWriter]:
    """Write one split; it is complete when the block ends, and not there when the block fails."""
    import pyarrow as pa

    schema = features.arrow_schema
    digest = hashlib.sha256(split.encode())
    with write_atomically(folder / DATA_NAME) as handle:
        hashing = _HashingWriter(handle, digest)
        with pa.ipc.new_stream(hashing, schema) as stream:
            writer = SplitWriter(stream, schema)
            yield writer
        num_bytes = hashing.num_bytes
    write_json(folder / INFO_NAME, _describe_info(features, split, writer.num_rows, num_bytes))
    write_json(folder / "state.json", _describe_state(split, digest.hexdigest()[:16]))


def write_dataset_dict(folder: Path, splits: list[str]) -> None:
    """Name the splits; with this file the folder loads."""
    write_json(folder / DICT_NAME, {"splits": splits}, indent=None)


def read_split_names(folder: Path) -> list[str]:
    """The splits of a dataset folder, in its order."""
    return json.loads((folder / DICT_NAME).read_text(encoding="utf-8"))["splits"]


def count_rows(folder: Path) -> int:
    """Rows of one split, as it was finished with."""
    (split,) = json.loads((folder / INFO_NAME).read_text(encoding="utf-8"))["splits"].values()
    return split["num_examples"]


def read_columns(folder: Path) -> list[str]:
    """Names of the columns of one split."""
    import pyarrow as pa

    with pa.OSFile(str(folder / DATA_NAME)) as file, pa.ipc.open_stream(file) as stream:
        return stream.schema.names


def iter_split(folder: Path, num_rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """One split in tables of `num_rows` rows, the last one smaller; no more of it is in memory."""
    return cut_pieces(_iter_stored(folder, num_rows, columns), num_rows)


def _iter_stored(folder: Path, num_rows: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """The record batches as they were written, each into its own memory, in parts of at most `num_rows`.

    The parts are those that `datasets` iterates over: where they meet, a parquet file that is written of them may end a
    page, and its bytes are to stay what they were.
    """
    import pyarrow as pa

    with pa.OSFile(str(folder / DATA_NAME)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            table = pa.Table.from_batches([batch])
            table = table if columns is None else table.select(columns)
            for start in range(0, table.num_rows, num_rows):
                yield table.slice(start, num_rows)


class _HashingWriter:
    """A file that keeps the hash and the length of what goes through it; no more of a file than Arrow asks for."""

    closed = False

    def __init__(self, handle: Any, digest: Any) -> None:
        self._handle, self._digest, self.num_bytes = handle, digest, 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._digest.update(view)
        self.num_bytes += view.nbytes
        return self._handle.write(view)

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
