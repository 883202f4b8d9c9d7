"""What splitting needs to know of many segments, as columns: some 60 bytes a row, whatever the names are.

Names that repeat (recordings, groups) are numbered. Those of single segments and videos are not kept: their hashes
tell most of them apart, and where two are equal, or one has to be named, the names are read again.
N = rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

ReadNames = Callable[[np.ndarray], Iterator[str]]  # of rows given by increasing numbers


@dataclass(frozen=True)
class Labels:
    """A column of names of which many are equal.

    Attributes:
        codes: (N,) int32 places in `names`.
        names: in the order of their first row; some may have no row.
    """

    codes: np.ndarray
    names: Sequence[str]

    def list_used(self) -> list[int]:
        """Codes of the names that have a row."""
        return np.flatnonzero(np.bincount(self.codes, minlength=len(self.names))).tolist()


class Labeller:
    """Numbers names as they come."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def number(self, names: Iterable[str]) -> list[int]:
        return [self.places.setdefault(name, len(self.places)) for name in names]


@dataclass(frozen=True)
class SplitRows:
    """Many segments.

    Attributes:
        recording: its id; `start_s` and `stop_s` are on that recording's clock.
        group: what must stay on one side.
        official: "train", "val", "test", or "" where the dataset does not say.
        start_s, stop_s: (N,) float64, from the start of the input to the end of the target, half-open.
        segment_hashes, video_hashes: (N,) int64 hashes of the names, equal for equal names within one process.
        read_segments, read_videos: the names themselves; a video's is path, member and start.
    """

    recording: Labels
    group: Labels
    official: Labels
    start_s: np.ndarray
    stop_s: np.ndarray
    segment_hashes: np.ndarray
    video_hashes: np.ndarray
    read_segments: ReadNames
    read_videos: ReadNames

    def __len__(self) -> int:
        return len(self.start_s)

    def take(self, places: np.ndarray) -> SplitRows:
        """Some of the rows, given by increasing numbers."""
        if len(places) == len(self):
            return self
        labels = {
            name: Labels(getattr(self, name).codes[places], getattr(self, name).names)
            for name in ("recording", "group", "official")
        }
        arrays = {name: getattr(self, name)[places] for name in ("start_s", "stop_s", "segment_hashes", "video_hashes")}
        return replace(
            self,
            **labels,
            **arrays,
            read_segments=lambda rows: self.read_segments(places[rows]),
            read_videos=lambda rows: self.read_videos(places[rows]),
        )
