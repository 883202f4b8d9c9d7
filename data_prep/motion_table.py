"""How many segments of an index stand, turn or brake: counted while the index is written, kept beside it, printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.segment_rows import MOTION_COLUMNS
from driving.motion_bins import MOTION_BINS, SPEED_BINS, TURN_BINS, motion_bin, speed_bin, turn_bin
from driving.whole_files import write_json

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_NAME = "motion.json"
_Bin = Callable[[np.ndarray], np.ndarray]
AXES: dict[str, tuple[tuple[str, ...], _Bin]] = {  # in the order of MOTION_COLUMNS
    "speed": (SPEED_BINS, speed_bin),
    "turn": (TURN_BINS, turn_bin),
    "acceleration": (MOTION_BINS, motion_bin),
}


class MotionTable:
    """Counts of segments in each bin of each axis.

    Attributes:
        num_unlabelled: segments without labels, which are in no bin.
    """

    def __init__(self) -> None:
        self.counts = {axis: np.zeros(len(names), np.int64) for axis, (names, _) in AXES.items()}
        self.num_unlabelled = 0

    def add(self, table: pa.Table) -> None:
        """Count the rows of a piece of the index."""
        for axis, column in zip(AXES, MOTION_COLUMNS, strict=True):
            values = table[column].drop_null().to_numpy()
            names, assign = AXES[axis]
            self.counts[axis] += np.bincount(assign(values), minlength=len(names))
        self.num_unlabelled += table[MOTION_COLUMNS[0]].null_count

    def add_counts(self, counts: dict[str, Any]) -> None:
        """Add what another table counted, as `to_json` gives it."""
        for axis, bins in counts["axes"].items():
            self.counts[axis] += np.array(list(bins.values()), np.int64)
        self.num_unlabelled += counts["num_unlabelled"]

    def to_json(self) -> dict[str, Any]:
        axes = {axis: dict(zip(names, self.counts[axis].tolist(), strict=True)) for axis, (names, _) in AXES.items()}
        return {"axes": axes, "num_unlabelled": self.num_unlabelled}

    def write(self, path: Path) -> None:
        write_json(path, self.to_json())


def format_motion(path: Path) -> str:
    """The table as people read it; "" where there is none, or nothing is labelled."""
    if not path.is_file():
        return ""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    num_labelled = sum(kept["axes"]["speed"].values())
    if not num_labelled:
        return ""
    lines = [f"motion of {num_labelled:,} segments in the window that is asked for"]
    for axis, bins in kept["axes"].items():
        for place, (name, count) in enumerate(bins.items()):
            head = axis if place == 0 else ""
            lines.append(f"  {head:<12}  {name:<14}  {count:>11,}  {count / num_labelled:>6.1%}")
    return "\n".join(lines)
