"""Which rows make which batch: a pure function of seed and epoch, the same rows in the same order on every machine.

permutation of (seed, epoch) ──cut by batch x ranks──▶ global batches ──▶ this rank's part of each
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

SORT_WINDOW_BATCHES = 50


class EpochBatches:
    """Row numbers of each batch of one rank.

    At the ragged end of an epoch the rows left over are dealt to the ranks one by one; a rank may get none, and takes
    its step with an empty batch. No row is used twice and none is left out.

    Attributes:
        lengths: (N,) rough length of each row; rows of similar length are then put into one batch.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.lengths = lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_rows // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        order = plan_order(self.num_rows, self.seed, self.epoch)
        global_size = self.batch_size * self.world_size
        if self.lengths is not None:
            order = _group_by_length(order, np.asarray(self.lengths), global_size, self.seed, self.epoch)
        for start in range(0, self.num_rows, global_size):
            rows = order[start : start + global_size]
            if len(rows) == global_size:
                mine = rows[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            else:
                mine = rows[self.rank :: self.world_size]
            yield [int(row) for row in mine]


def plan_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    """(N,) the order of one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


def _group_by_length(order: np.ndarray, lengths: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Sort by length within windows of 50 batches, then shuffle the full batches; the ragged one stays last."""
    window = size * SORT_WINDOW_BATCHES
    parts = [order[start : start + window] for start in range(0, len(order), window)]
    order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    num_full = len(order) // size
    shuffled = np.random.default_rng([seed, epoch, 1]).permutation(num_full)
    full = order[: num_full * size].reshape(num_full, size)[shuffled].reshape(-1)
    return np.concatenate([full, order[num_full * size :]])


class EpochLoader(DataLoader):
    """A DataLoader whose batches know the epoch: the trainer announces it before each."""

    def set_epoch(self, epoch: int) -> None:
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)
