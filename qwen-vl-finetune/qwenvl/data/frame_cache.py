"""Decoded frames of a small dataset, kept in memory that all loader workers share.

Each slot holds one clip; the first worker to decode it fills it, and every later epoch reads it. The memory is an
anonymous map, not /dev/shm: containers often give the latter 64 MiB.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

import numpy as np


class Clip(NamedTuple):
    """One video as the model sees it: frames (T, H, W, 3) uint8 at the final size, and their nominal rate."""

    frames: np.ndarray
    fps: float


class FrameCache:
    """Room for `num_slots` clips of one shape (T, H, W, 3). Clips of another shape are not kept.

    Made before the workers start; they inherit the map. Two workers never hold the same row at once, and the rate,
    which marks a slot as filled, is written after the frames.
    """

    def __init__(self, num_slots: int, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)
        size = int(np.prod(shape))
        self._frames = np.frombuffer(mmap.mmap(-1, max(1, num_slots * size)), dtype=np.uint8)[: num_slots * size]
        self._frames = self._frames.reshape(num_slots, *shape)
        self._fps = np.frombuffer(mmap.mmap(-1, max(8, num_slots * 8)), dtype=np.float64)

    @staticmethod
    def count_bytes(num_slots: int, shape: tuple[int, ...]) -> int:
        """Memory that such a cache takes when full."""
        return num_slots * int(np.prod(shape))

    def read(self, slot: int) -> Clip | None:
        """The clip, as a view of the shared memory that must not be written to; None where it was not decoded yet."""
        fps = float(self._fps[slot])
        return Clip(self._frames[slot], fps) if fps > 0 else None

    def write(self, slot: int, clip: Clip) -> None:
        """Keep a clip, if it has the cache's shape."""
        if clip.frames.shape == self.shape:
            self._frames[slot] = clip.frames
            self._fps[slot] = clip.fps
