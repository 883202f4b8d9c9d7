"""Which rows make which batch: a pure function of seed and epoch, the same rows in the same order on every machine.

units of (seed, epoch): rows, or bins of rows ──cut by batch x ranks──▶ global batches ──▶ this rank's part of each
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from qwenvl.data.child_process import hold_stop_signals
from qwenvl.data.packing import plan_bins

SORT_WINDOW_BATCHES = 50
PREFETCH_FACTOR = 2  # batches that a worker makes ahead, where --dataloader_prefetch_factor does not say


class EpochBatches:
    """Row numbers of each batch of one rank.

    At the ragged end of an epoch the units left over are dealt to the ranks one by one; a rank may get none, and takes
    its step with an empty batch. No row is used twice and none is left out.

    Attributes:
        batch_size: rows, or bins where `bin_tokens` is given.
        num_tokens: (N,) length of each row; rows of similar length are then put into one batch.
        num_visual: (N,) visual tokens of each row; bins with similar numbers of them are then given to the ranks of
            one step, so that none waits long for another's vision tower.
        bin_tokens: room of a bin; 0 = a row is a unit of its own.
        mirror: the probability that a row is shown mirrored in an epoch; it is then named as ~row.
        group_size: units whose loads are evened out, those of one global batch; where a run goes on with other ranks
            it stays what it was, since the order depends on it.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        num_tokens: Sequence[int] | np.ndarray | None = None,
        num_visual: Sequence[int] | np.ndarray | None = None,
        bin_tokens: int = 0,
        mirror: float = 0.0,
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_tokens = None if num_tokens is None else np.asarray(num_tokens)
        self.num_visual = None if num_visual is None else np.asarray(num_visual)
        self.bin_tokens = bin_tokens
        self.mirror = mirror
        self.group_size = batch_size * world_size
        self.epoch = 0
        self.num_units = len(self._plan_units(0)) if bin_tokens else num_rows

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_units // (self.batch_size * self.world_size))

    def _plan_units(self, epoch: int) -> list[np.ndarray]:
        if self.bin_tokens:
            return plan_bins(self.num_tokens, self.bin_tokens, self.seed, epoch)
        return [np.array([row]) for row in range(self.num_rows)]

    def plan_epoch(self, epoch: int) -> list[np.ndarray]:
        """The units of an epoch in order, each an array of row numbers."""
        units = self._plan_units(epoch)
        order = plan_order(len(units), self.seed, epoch)
        weights = self.num_visual if self.bin_tokens else self.num_tokens
        if weights is not None:
            loads = np.array([int(weights[rows].sum()) for rows in units])
            order = group_by_load(order, loads, self.group_size, self.seed, epoch)
        return [units[index] for index in order]

    def __iter__(self) -> Iterator[list[int]]:
        units = self.plan_epoch(self.epoch)
        is_mirrored = plan_mirror(self.num_rows, self.mirror, self.seed, self.epoch)
        global_size = self.batch_size * self.world_size
        for start in range(0, len(units), global_size):
            chosen = units[start : start + global_size]
            if len(chosen) == global_size:
                mine = chosen[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            else:
                mine = chosen[self.rank :: self.world_size]
            yield [~int(row) if is_mirrored[row] else int(row) for unit in mine for row in unit]


def plan_order(num_units: int, seed: int, epoch: int) -> np.ndarray:
    """(N,) the order of one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_units)


def plan_mirror(num_rows: int, probability: float, seed: int, epoch: int) -> np.ndarray:
    """(N,) bool: which rows are mirrored in an epoch; a function of seed, epoch and row alone."""
    return np.random.default_rng([seed, epoch, 2]).random(num_rows) < probability


def group_by_load(order: np.ndarray, loads: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Sort by load within windows of 50 batches, then shuffle the full batches; the ragged one stays last."""
    window = size * SORT_WINDOW_BATCHES
    parts = [order[start : start + window] for start in range(0, len(order), window)]
    order = np.concatenate([part[np.argsort(loads[part], kind="stable")] for part in parts])
    num_full = len(order) // size
    shuffled = np.random.default_rng([seed, epoch, 1]).permutation(num_full)
    full = order[: num_full * size].reshape(num_full, size)[shuffled].reshape(-1)
    return np.concatenate([full, order[num_full * size :]])


class EpochLoader(DataLoader):
    """A DataLoader whose batches know the epoch: the trainer announces it before each."""

    def _get_iterator(self) -> Any:
        with hold_stop_signals():
            return super()._get_iterator()

    def stop_workers(self) -> None:
        """End the workers; a Ctrl-C meanwhile waits until they are gone."""
        if self._iterator is not None:
            with hold_stop_signals():
                self._iterator._shutdown_workers()
                self._iterator = None

    def set_epoch(self, epoch: int) -> None:
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)
