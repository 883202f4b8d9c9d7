"""The rule of a split and the plan that comes of it. No decision is taken here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from driving.errors import DrivingError

SIDES = ("train", "val", "test")
LEFT_OUT = ""
TIME_TOLERANCE_S = 1e-6  # seconds that touch do not overlap, whatever their last binary digit
RANK = {side: rank for rank, side in enumerate(SIDES)}  # higher = held out further; also a side's number in arrays
OUT = -1  # LEFT_OUT's number


@dataclass(frozen=True)
class SplitRule:
    """How sides are chosen.

    Attributes:
        test_ratio, val_ratio: share of the groups; 0 for no such side.
        by: "official" (the dataset's split first) or "hash" (as if it had none).
        allow_one_recording: split inside groups, in time, where there are fewer groups than sides.

    Raises:
        DrivingError: The ratios leave nothing to train on.
    """

    test_ratio: float = 0.1
    val_ratio: float = 0.05
    seed: int = 7
    by: str = "official"
    allow_one_recording: bool = False

    def __post_init__(self) -> None:
        if min(self.test_ratio, self.val_ratio) < 0 or self.test_ratio + self.val_ratio >= 1:
            raise DrivingError(
                f"--test-ratio {self.test_ratio} and --val-ratio {self.val_ratio} must not be negative "
                "and must leave something to train on (sum below 1)"
            )

    @property
    def ratios(self) -> dict[str, float]:
        """The held-out sides asked for and their shares."""
        return {side: ratio for side, ratio in (("test", self.test_ratio), ("val", self.val_ratio)) if ratio > 0}


@dataclass(frozen=True)
class SplitPlan:
    """The side of every row, in the order of the rows.

    Attributes:
        codes: (N,) int8 RANK of a row's side, or OUT for a row in the gap between two sides of one recording.
        rule: "official", "hash", "official and hash" or "time".
        moved: groups that changed side so that none is empty -> their side now.
        cut: groups that the official split cuts -> the held-out side they went to.
    """

    codes: np.ndarray
    rule: str
    moved: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)
    without_val: tuple[str, ...] = ()

    @property
    def sides(self) -> list[str]:
        """The same in words: "train", "val", "test" or LEFT_OUT."""
        words = (*SIDES, LEFT_OUT)
        return [words[code] for code in self.codes]

    @property
    def is_one_recording(self) -> bool:
        """Whether sides share a recording: such a test says little about other roads, and reports are stamped."""
        return self.rule == "time"

    def to_json(self) -> dict[str, Any]:
        """Plain values for dataset.json; long lists of groups are cut to 20 and counted."""
        return {
            "rule": self.rule,
            "one_recording": self.is_one_recording,
            "num_moved_groups": len(self.moved),
            "moved_groups": dict(sorted(self.moved.items())[:20]),
            "num_cut_groups": len(self.cut),
            "cut_groups": dict(sorted(self.cut.items())[:20]),
            "groups_without_val": list(self.without_val[:20]),
            "num_left_out": int((self.codes == OUT).sum()),
        }


def hash_fraction(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the key: equal on every machine, for ever."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
