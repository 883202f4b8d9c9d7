"""Rows that are never in memory: `--streaming True` over shards, or over a training JSON of any size.

    DatasetUse ──find_shards──▶ shards ──load_shard──▶ (rows, places of each, mapped)        once, kept between runs
    shards' sizes, seed, epoch ──StreamOrder──▶ the row at position k of the epoch           computed, not remembered
    row ──StreamRecords──▶ record ──StreamDataset──▶ sample          one seek; a video of a tar is decoded where it lies

The order of an epoch is a function of the shards' sizes, the seed and the epoch, and of nothing that was read before.
So a run that is continued begins at its very next row without reading those before it, and whoever reads a row (which
worker, which rank) changes no batch: a stream is continued as exactly as rows in memory are.

What is shuffled: shards are cut into blocks of 256 neighbouring rows at most, the blocks are put into a drawn order,
and each 4,096 rows of it are shuffled together. A batch is drawn from 16 places of the data (more where shards are
small), not from all, and reading stays near those places. Up to 4,096 rows that is a full shuffle.

What it costs: nothing can be known of all rows before the first step. Each row is checked when it is read, and goes to
the ledger then; packing, sorting by length, shares (%N), sampling weights and the caches of frames need all rows first
and are refused. In memory are: two numbers a shard, the blocks' order (8 bytes per 256 rows), a window of 4,096
numbers, a bit of the index's mapped pages, and while a checkpoint is written the names of the recordings.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from driving.ego_history import check_told
from driving.errors import DrivingError, RecordError
from driving.records import record_name
from qwenvl.data import DatasetUse
from qwenvl.data.dataset import BadSample, DrivingDataset, check_static, read_records
from qwenvl.data.rows import Rows
from qwenvl.data.stream_index import Shard, load_shards
from qwenvl.data.stream_rows import JSON_SUFFIXES, Record, find_shards

BLOCK_ROWS = 256
WINDOW_ROWS = 4_096
ORDER_VERSION = 2  # another way of shuffling gives another order; a run must not be continued under it
BLOCKS, WINDOW, MIRROR = 3, 4, 5  # what is drawn, beside the seed and the epoch


class StreamOrder:
    """Which row stands at which position of an epoch.

    Args:
        shard_rows: rows of each shard.

    Attributes:
        num_rows: in all.
    """

    def __init__(self, shard_rows: Sequence[int], seed: int) -> None:
        self.seed = seed
        starts, sizes, first = [], [], 0
        for num_rows in shard_rows:
            for start in range(0, num_rows, BLOCK_ROWS):
                starts.append(first + start)
                sizes.append(min(BLOCK_ROWS, num_rows - start))
            first += num_rows
        self.num_rows = first
        self._starts, self._sizes = np.array(starts, np.int64), np.array(sizes, np.int64)
        # Kept for the epoch and the window that are being read, and the ones that a prefetching reader comes from.
        self._shuffle_blocks = functools.lru_cache(maxsize=2)(self._draw_blocks)
        self._shuffle_window = functools.lru_cache(maxsize=2)(self._draw_window)

    def _draw_blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the blocks in their order, with which of them each window begins, and at which position); with the end."""
        order = np.random.default_rng([self.seed, epoch, BLOCKS]).permutation(len(self._starts))
        ends = np.cumsum(self._sizes[order])
        begins = ends - self._sizes[order]
        # By rows, not by blocks: of many small shards each block is small, and 16 of them would be few rows.
        firsts = np.flatnonzero(np.diff(begins // WINDOW_ROWS, prepend=-1))
        return order, np.append(firsts, len(order)), np.append(begins[firsts], ends[-1])

    def _draw_window(self, epoch: int, window: int) -> np.ndarray:
        """The rows of a window in their order."""
        order, firsts, _ = self._shuffle_blocks(epoch)
        chosen = order[firsts[window] : firsts[window + 1]]
        rows = np.concatenate([self._starts[block] + np.arange(self._sizes[block]) for block in chosen])
        return np.random.default_rng([self.seed, epoch, WINDOW, window]).permutation(rows)

    def rows_at(self, epoch: int, start: int, stop: int) -> list[int]:
        """The rows at positions [start, stop) of an epoch."""
        edges = self._shuffle_blocks(epoch)[2]
        rows: list[int] = []
        while start < min(stop, self.num_rows):
            window = int(np.searchsorted(edges, start, side="right")) - 1
            first, end = int(edges[window]), min(int(edges[window + 1]), stop)
            rows += self._shuffle_window(epoch, window)[start - first : end - first].tolist()
            start = end
        return rows

    def is_mirrored(self, epoch: int, row: int, probability: float) -> bool:
        """Whether a row is shown mirrored: a function of seed, epoch and row alone."""
        return np.random.default_rng([self.seed, epoch, MIRROR, row]).random() < probability


class StreamRecords(Sequence[Record]):
    """The records of all shards by row number, each read when it is asked for; the last one is kept."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self._ends = list(accumulate(shard.num_rows for shard in shards))
        self._last: tuple[int, Record] | None = None

    def __len__(self) -> int:
        return self._ends[-1]

    def find_shard(self, row: int) -> int:
        """The place of the shard that holds a row."""
        return bisect.bisect_right(self._ends, row)

    @overload
    def __getitem__(self, row: int) -> Record: ...
    @overload
    def __getitem__(self, row: slice) -> list[Record]: ...
    def __getitem__(self, row: int | slice) -> Record | list[Record]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        if self._last is None or self._last[0] != row:
            place = self.find_shard(row)
            shard = self.shards[place]
            self._last = row, shard.read_row(row - self._ends[place] + shard.num_rows)
        return self._last[1]


class StreamFolders(Sequence[tuple[Path, ...]]):
    """Where the files of each row are looked for, by row number."""

    def __init__(self, records: StreamRecords, folders: Sequence[tuple[Path, ...]]) -> None:
        self._records = records
        self._folders = folders  # of each shard

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: Any) -> Any:
        return self._folders[self._records.find_shard(row)]


@dataclass
class StreamRows(Rows):
    """What a run streams; see `Rows`. Nothing is skipped before a row is read.

    Attributes:
        digests: 16 hex digits of what the rows of each dataset say.
        shard_rows: rows of each shard.
        told: of each shard, whether its rows must tell the ego motion; None where that is not known.
    """

    digests: dict[str, str] = field(default_factory=dict)
    shard_rows: list[int] = field(default_factory=list)
    told: list[bool | None] = field(default_factory=list)

    @property
    def groups(self) -> Any:
        """The recordings, read from disk each time they are gone through; one may come more than once."""
        return _Groups(self.records.shards)


class _Groups:
    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from shard.iter_groups()


def load_stream(uses: Sequence[DatasetUse], settled: list | None = None, *, show_progress: bool = False) -> StreamRows:
    """Find the shards of all datasets and index those that are new.

    Args:
        settled: what the run that is continued has skipped.

    Raises:
        RecordError: There are none, one cannot be read, or they ask for what needs all rows at once.
    """
    shards: list[Shard] = []
    folders: list[tuple[Path, ...]] = []
    rows = StreamRows(settled=settled)
    for use in uses:
        if use.percent != 100:
            raise RecordError(
                f"--dataset_use {use.name}%{use.percent:g} with --streaming True: a share is drawn from all rows at "
                "once; name fewer shards, or leave --streaming out"
            )
        found = load_shards(list_files(use), show_progress=show_progress)
        folder = found[0].path.parent
        for shard in found:
            if shard.weighted:
                raise RecordError(
                    f"{shard.path}: {shard.weighted} carries a sampling weight (--balance), which --streaming True "
                    "cannot heed: all rows would have to be known at once; leave --streaming out, or make rows "
                    "without --balance"
                )
        answer_format = rows.join_format(use, folder)
        shards += found
        folders += [(use.data_path, folder, Path())] * len(found)
        rows.told += [bool(answer_format.get("history_pairs")) if answer_format else None] * len(found)
        num_rows = sum(shard.num_rows for shard in found)
        rows.num_by_name[use.name] = rows.num_by_name.get(use.name, 0) + num_rows
        rows.digests[use.name] = found[0].digest if len(found) == 1 else _join_digests(found)
    rows.shard_rows = [shard.num_rows for shard in shards]
    rows.records = StreamRecords(shards)
    rows.folders = StreamFolders(rows.records, folders)
    return rows


def list_files(use: DatasetUse) -> list[Path]:
    """The shards of a dataset.

    Raises:
        RecordError: There are none.
    """
    path = use.annotation_path
    if path.suffix in JSON_SUFFIXES:
        return [path]
    found = find_shards(path)
    if not found:
        raise RecordError(
            f"--streaming True: there are no shards at {path} ({path.name}-000000.tar and so on, or a folder of .tar); "
            "name what scripts/export_dataset.py wrote, or a training JSON"
        )
    return found


def _join_digests(shards: Sequence[Shard]) -> str:
    text = " ".join(f"{shard.path.name} {shard.digest}" for shard in shards)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_any_records(path: Path) -> list[Record]:
    """All rows of a training JSON, or of shards, in memory: for the held-out rows, of which there are few."""
    shards = find_shards(path)
    return [*StreamRecords(load_shards(shards))] if shards else read_records(path)


class StreamDataset(DrivingDataset):
    """A DrivingDataset whose rows are checked when they are read."""

    def __init__(self, rows: StreamRows, processor: Any, preprocessing: Any, model_max_length: int) -> None:
        super().__init__(rows.records, rows.folders, processor, preprocessing, model_max_length)
        self._told = rows.told

    def __getitem__(self, index: int) -> dict[str, Any] | BadSample:
        row = ~index if index < 0 else index
        try:
            record = self.records[row]
        except RecordError as error:
            return BadSample(f"row {row}", str(error), stops_run=True, row=row)
        try:
            check_static(record, self.folders[row])
            told = self._told[self.records.find_shard(row)]
            if told is not None:
                check_told(record, is_told=told)
        except DrivingError as error:
            return BadSample(record_name(record), str(error), row=row)
        return super().__getitem__(index)
