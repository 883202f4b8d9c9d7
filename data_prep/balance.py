"""How often each training row should be drawn, so that straight roads at one speed are not all that is learnt.

    train split ──bins of its labels──▶ rows of each bin ──plan_weights──▶ a weight a bin ──▶ "sampling_weight" of a row

A weight says how often a row is used in an epoch. The commonest bin has 1, so no row is ever used less than without
balance; a bin half as common has 2, and none more than `max_weight`: a bin of three rows must not be learnt by heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.arrow_dataset import iter_split
from data_prep.dataset_rows import read_arrays
from driving.motion_bins import SPEED_BINS, TURN_BINS, mean_speed_mps, speed_bin, turn_bin, turn_deg

NONE = "none"
AXES = {"turn": TURN_BINS, "speed": SPEED_BINS}
BALANCE_NAME = "balance.json"
BATCH_ROWS = 2_000
DECIMALS = 4  # of a weight, as it is written


@dataclass(frozen=True)
class Balance:
    """The weights of one split.

    Attributes:
        axis: "turn" or "speed".
        bins: (N,) bin of each row.
        weights: of each bin; 0 for a bin without rows.
    """

    axis: str
    bins: np.ndarray
    weights: np.ndarray
    max_weight: float

    def row_weights(self) -> np.ndarray:
        """(N,) how often each row is used in an epoch."""
        return self.weights[self.bins]

    def to_json(self) -> dict[str, Any]:
        """balance.json: rows and weight of each bin, and what becomes of an epoch."""
        counts = np.bincount(self.bins, minlength=len(self.weights))
        named = zip(AXES[self.axis], counts.tolist(), self.weights.tolist(), strict=True)
        return {
            "axis": self.axis,
            "max_weight": self.max_weight,
            "bins": {name: {"rows": count, "weight": weight} for name, count, weight in named},
            "rows": int(counts.sum()),
            "rows_an_epoch": round(float(counts @ self.weights)),
        }

    def describe(self) -> str:
        """One line for the screen."""
        facts = self.to_json()
        weights = ", ".join(f"{name} x{bin['weight']:g}" for name, bin in facts["bins"].items() if bin["rows"])
        return (
            f"balanced by {self.axis}: {weights}; an epoch uses {facts['rows_an_epoch']:,} rows where it used "
            f"{facts['rows']:,}"
        )


def plan_balance(split: Path, axis: str, max_weight: float) -> Balance:
    """Weigh the rows of a split's folder by the bins of their labels; the labels are read in pieces."""
    tables = iter_split(split, BATCH_ROWS, ("targets", "future_pose"))
    bins = np.concatenate([assign_bins(table, axis).astype(np.int8) for table in tables])
    return Balance(axis, bins, plan_weights(np.bincount(bins, minlength=len(AXES[axis])), max_weight), max_weight)


def assign_bins(table: Any, axis: str) -> np.ndarray:
    """(B,) bin of each row of a piece of a dataset, over the window that is asked for."""
    targets = np.stack(read_arrays(table["targets"], 2))
    if axis == "speed":
        return speed_bin(mean_speed_mps(targets[..., 0]))
    poses = [pose[: targets.shape[1] + 1] for pose in read_arrays(table["future_pose"], 3)]
    return turn_bin(turn_deg(np.stack(poses)))


def plan_weights(counts: np.ndarray, max_weight: float) -> np.ndarray:
    """(K,) rows of each bin -> (K,) weight: the commonest bin's rows over this one's, at most `max_weight`."""
    is_there = counts > 0
    weights = np.minimum(counts.max() / np.maximum(counts, 1), max_weight)
    return np.where(is_there, np.round(weights, DECIMALS), 0.0)
