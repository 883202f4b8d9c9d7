"""Segments few enough to be written one by one, as the columns that splitting takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.split_rows import Labeller, Labels, SplitRows


class SplitRow(NamedTuple):
    """One segment, see SplitRows."""

    segment: str
    recording: str
    group: str
    official: str
    start_s: float
    stop_s: float
    video: str


def pack(rows: Sequence[SplitRow]) -> SplitRows:
    return SplitRows(
        _label(row.recording for row in rows),
        _label(row.group for row in rows),
        _label(row.official for row in rows),
        np.array([row.start_s for row in rows], dtype=np.float64),
        np.array([row.stop_s for row in rows], dtype=np.float64),
        np.array([hash(row.segment) for row in rows], dtype=np.int64),
        np.array([hash(row.video) for row in rows], dtype=np.int64),
        lambda places: (rows[place].segment for place in places),
        lambda places: (rows[place].video for place in places),
    )


def _label(names: Iterable[str]) -> Labels:
    labeller = Labeller()
    codes = np.array(labeller.number(names), dtype=np.int32)
    return Labels(codes, list(labeller.places))
