"""Batches of a stream: each is known by its number, so that a run begins at any of them at once.

    (epoch, number) ──StreamBatches.read_batch──▶ row numbers ──SampleStream (IterableDataset)──▶ samples of the batch
    worker w of W reads the batches first + w, first + w + W, ...   DataLoader takes them in turn: the same batches,
                                                                    in the same order, with any number of workers
    resume ──jump_over_batches──▶ first = the next batch; nothing before it is read

The workers are forked once and live on; where an epoch begins is told to them in shared memory.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers.trainer
from torch.utils.data import IterableDataset

from qwenvl.data.stream import StreamOrder
from qwenvl.train.samplers import EpochBatches, EpochLoader


class StreamBatches(EpochBatches):
    """Row numbers of each batch of one rank, in the order of a stream; see `EpochBatches`."""

    def __init__(
        self, order: StreamOrder, batch_size: int, rank: int = 0, world_size: int = 1, *, mirror: float = 0.0
    ) -> None:
        super().__init__(order.num_rows, batch_size, order.seed, rank, world_size, mirror=mirror)
        self.order = order

    def read_batch(self, epoch: int, number: int) -> list[int]:
        """The rows of one batch; a mirrored one is named as ~row."""
        global_size = self.batch_size * self.world_size
        start = number * global_size
        if start + global_size <= self.num_units:
            start += self.rank * self.batch_size
            rows = self.order.rows_at(epoch, start, start + self.batch_size)
        else:
            rows = self.order.rows_at(epoch, start, self.num_units)[self.rank :: self.world_size]
        if not self.mirror:
            return rows
        return [~row if self.order.is_mirrored(epoch, row, self.mirror) else row for row in rows]

    def __iter__(self) -> Iterator[list[int]]:
        return (self.read_batch(self.epoch, number) for number in range(len(self)))


class SampleStream(IterableDataset):
    """The samples of each batch of an epoch, from the batch on that the loader names.

    Attributes:
        samples: by row number.
    """

    def __init__(self, samples: Any, batches: StreamBatches) -> None:
        self.samples = samples
        self.batches = batches
        # Epoch and first batch. Shared with the workers, which are forked before the second epoch begins.
        self._cursor = np.frombuffer(mmap.mmap(-1, 16), dtype=np.int64)

    def begin(self, epoch: int, first: int) -> None:
        """Where the next iteration begins, in all workers."""
        self._cursor[:] = epoch, first

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        worker = torch.utils.data.get_worker_info()
        offset, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch, first = self._cursor.tolist()
        for number in range(first + offset, len(self.batches), step):
            yield [self.samples[row] for row in self.batches.read_batch(epoch, number)]


class StreamLoader(EpochLoader):
    """A DataLoader over a SampleStream, which a resumed run moves to its next batch."""

    def __init__(self, stream: SampleStream, **settings: Any) -> None:
        super().__init__(stream, batch_size=None, **settings)
        self._epoch = self._first = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def jump(self, num_batches: int) -> StreamLoader:
        """Begin the next epoch that is iterated over, and that one alone, after so many batches."""
        self._first = num_batches
        return self

    def __iter__(self) -> Any:
        stream: Any = self.dataset
        stream.begin(self._epoch, self._first)
        self._first = 0
        return super().__iter__()


@contextlib.contextmanager
def jump_over_batches() -> Iterator[None]:
    """Let transformers' trainer jump in a StreamLoader: by itself it would read all batches that it skips."""
    skip = transformers.trainer.skip_first_batches

    def jump(loader: Any, num_batches: int = 0) -> Any:
        return loader.jump(num_batches) if isinstance(loader, StreamLoader) else skip(loader, num_batches)

    transformers.trainer.skip_first_batches = jump
    try:
        yield
    finally:
        transformers.trainer.skip_first_batches = skip
