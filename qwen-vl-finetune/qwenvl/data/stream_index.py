"""Where each row of a shard lies: found once, kept in the user's cache folder, and mapped, never held.

    shard ──iter_rows──▶ rows/<path>/<size, time of change>.places   (N, 2) int64: first byte, bytes of each row
                                                           .groups   its recordings, one a line
                                                           .json     rows, digest, ...; written last

A shard whose size or time of change is another one is read again; its digest tells whether its rows are others.
N = rows
"""

from __future__ import annotations

import array
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import RecordError
from driving.executors import count_cores, run_jobs
from driving.records import WEIGHT_KEY
from driving.whole_files import write_atomically, write_json
from qwenvl.data.identity import hash_text
from qwenvl.data.lengths import SHOW_AFTER_S, cache_folder
from qwenvl.data.stream_rows import Record, iter_rows, read_row

FORMAT_VERSION = 1
MOST_WORKERS = 8
HELD_PLACES = 2 * 4_096  # numbers of the index that wait to be written


@dataclass(frozen=True)
class Shard:
    """One shard and its index.

    Attributes:
        path: the shard.
        index: its index, without ending.
        num_bytes: of the shard, when it was indexed.
        num_rows: in it.
        digest: 16 hex digits of what its rows say.
        weighted: the first row that carries a sampling weight other than 1; "" for none.
    """

    path: Path
    index: Path
    num_bytes: int
    num_rows: int
    digest: str
    weighted: str

    def read_row(self, row: int) -> Record:
        """One row; it gets an id where it has none.

        Raises:
            RecordError: The shard has changed since it was indexed.
        """
        try:
            start, size = _map_places(self.index)[row].tolist()
        except OSError as error:
            raise RecordError(f"the index of {self.path} is gone ({error}); run the same command again") from error
        record = read_row(self.path, start, size, self.num_bytes)
        return record if "id" in record else {"id": f"{self.path.stem}:{row}", **record}

    def iter_groups(self) -> Iterator[str]:
        """Its recordings; one that stands in several places of it may come more than once."""
        with self.index.with_suffix(".groups").open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def load_shards(paths: Sequence[Path], *, show_progress: bool = False) -> list[Shard]:
    """The indexes of shards; those that are new are read by several processes."""
    from tqdm import tqdm

    new = [
        path for path in dict.fromkeys(paths) if path.is_file() and _read_facts(_find_index(path.absolute())[1]) is None
    ]
    made = run_jobs(load_shard, new, min(count_cores(), MOST_WORKERS, len(new)), forked=True)
    for _ in tqdm(made, "indexing", len(new), unit=" shards", disable=not show_progress or None, delay=SHOW_AFTER_S):
        pass
    return [load_shard(path) for path in paths]


def load_shard(path: Path) -> Shard:
    """The index of a shard, made anew where there is none for its size and time of change.

    Raises:
        RecordError: The shard is missing, is not of its shape, or holds no row.
    """
    path = path.absolute()
    try:
        num_bytes, index = _find_index(path)
    except FileNotFoundError:
        index = path.with_suffix(f".index{path.suffix}")
        named = f"there is {index}, name that" if index.exists() else "name a training JSON, or exported shards"
        raise RecordError(f"{path} does not exist; {named}") from None
    facts = _read_facts(index)
    if facts is None:
        for old in index.parent.glob("*"):
            if not old.name.startswith(index.name):  # those another process may be writing at this moment
                old.unlink(missing_ok=True)
        facts = _write_index(path, index)
    if not facts["rows"]:
        raise RecordError(f"{path} holds no rows; there is nothing to train on")
    return Shard(path, index, num_bytes, facts["rows"], facts["digest"], facts["weighted"])


def index_folder(path: Path) -> Path:
    """Where the index of a shard lies; of each shard in a folder of its own, as there are thousands."""
    return cache_folder() / "rows" / hash_text(str(path))


def _find_index(path: Path) -> tuple[int, Path]:
    """(bytes of a shard, its index without ending)."""
    if path.is_dir():
        raise RecordError(f"{path} is a folder; name a training JSON, or shards (a folder of .tar, or their prefix)")
    status = path.stat()
    state = hash_text(f"{status.st_size} {status.st_mtime_ns} {FORMAT_VERSION}")
    return status.st_size, index_folder(path) / state


def _read_facts(index: Path) -> dict[str, Any] | None:
    """What an index says of itself; None where it is not whole."""
    try:
        facts = json.loads(index.with_suffix(".json").read_text(encoding="utf-8"))
        is_whole = index.with_suffix(".places").stat().st_size == 16 * facts["rows"]
        return facts if is_whole and index.with_suffix(".groups").is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_index(path: Path, index: Path) -> dict[str, Any]:
    digest, places, num_rows, weighted, group = hashlib.sha256(), array.array("q"), 0, "", None
    index.parent.mkdir(parents=True, exist_ok=True)
    with (
        write_atomically(index.with_suffix(".places")) as places_file,
        write_atomically(index.with_suffix(".groups"), "w") as groups_file,
    ):
        for row in iter_rows(path, digest):
            name = row.record.get("id", f"{path.stem}:{num_rows}")
            if row.record.get(WEIGHT_KEY, 1) != 1:
                weighted = weighted or str(name)
            if (found := str(row.record.get("group", name))) != group:
                group = found
                groups_file.write(json.dumps(group) + "\n")
            places.extend((row.start, row.size))
            num_rows += 1
            if len(places) >= HELD_PLACES:
                places.tofile(places_file)
                del places[:]
        places.tofile(places_file)
    facts = {"path": os.fspath(path), "rows": num_rows, "digest": digest.hexdigest()[:16], "weighted": weighted}
    write_json(index.with_suffix(".json"), facts)
    return facts


@functools.lru_cache(maxsize=256)
def _map_places(index: Path) -> np.ndarray:
    """(N, 2) int64: first byte and number of bytes of each row."""
    return np.memmap(index.with_suffix(".places"), dtype=np.int64, mode="r").reshape(-1, 2)
