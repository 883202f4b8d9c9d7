"""Which rows share a row of the batch: bins of at most `model_max_length` tokens, planned from lengths alone.

    lengths (N,), (seed, epoch) ──plan_bins──▶ [[row, row, ...], ...]   every row once, nothing decoded

Best fit, longest first: 98 percent full or so where samples are several to a bin. Lengths are rounded up before, so
that rows of nearly one length change places from epoch to epoch while the number of bins, which depends on the rounded
lengths alone, never changes: a schedule counted in steps stays true. N = rows
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from driving.errors import DrivingError

ROUNDING_TOKENS = 32
PLAN_VERSION = 1  # another way of packing gives another order; a run must not be continued under it


def plan_bins(num_tokens: Sequence[int] | np.ndarray, bin_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Bins of row numbers; each bin's tokens sum to at most `bin_tokens`, rows within it in drawn order.

    Raises:
        DrivingError: A row alone does not fit.
    """
    exact = np.asarray(num_tokens, np.int64)
    if len(exact) and exact.max() > bin_tokens:
        row = int(exact.argmax())
        raise DrivingError(f"row {row} holds {exact[row]:,} tokens, a bin {bin_tokens:,}; raise --model_max_length")
    capacity = bin_tokens // ROUNDING_TOKENS
    # A row longer than the rounded-down bin has a bin of its own.
    sizes = np.minimum(-(-exact // ROUNDING_TOKENS), capacity)
    drawn = np.random.default_rng([seed, epoch]).permutation(len(exact))
    longest_first = drawn[np.argsort(-sizes[drawn], kind="stable")]
    bins: list[list[int]] = []
    by_space: list[list[int]] = [[] for _ in range(capacity + 1)]  # bins by the units that are free in them
    for row in longest_first.tolist():
        size = int(sizes[row])
        space = next((space for space in range(size, capacity) if by_space[space]), None)
        if space is None:
            bins.append([row])
            by_space[capacity - size].append(len(bins) - 1)
        else:
            chosen = by_space[space].pop()
            bins[chosen].append(row)
            by_space[space - size].append(chosen)
    return [np.array(rows) for rows in bins]


def hash_lengths(num_tokens: Sequence[int] | np.ndarray, num_visual: Sequence[int] | np.ndarray, bins: int) -> str:
    """Sixteen hex digits of what a packing plan is a function of, beside seed and epoch."""
    values = np.concatenate([np.asarray(part, np.int64) for part in (num_tokens, num_visual, [bins, PLAN_VERSION])])
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]
