"""Recordings whose every frame carries its number in eight bars, bright for a one. Not a test itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from video_io import write_video

NUM_BARS, BAR_PX, HEIGHT = 8, 32, 64
WIDTH = NUM_BARS * BAR_PX
DARK, BRIGHT = 40, 200


def draw_number(number: int) -> np.ndarray:
    """(64, 256) uint8: the lowest bit on the left."""
    bars = [BRIGHT if number >> bit & 1 else DARK for bit in range(NUM_BARS)]
    return np.repeat(np.repeat([bars], HEIGHT, 0), BAR_PX, 1).astype(np.uint8)


def write_numbered(path: Path, times_us: Sequence[int], fps: float) -> None:
    """A video of as many frames as there are times, each shown at its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, map(draw_number, range(len(times_us))), fps, pts_us=list(times_us))


def read_numbers(frames: np.ndarray) -> list[int]:
    """The numbers of (N, H, W, 3) pictures."""
    bars = frames[:, 4:-4, :, 1].reshape(len(frames), frames.shape[1] - 8, NUM_BARS, -1).mean((1, 3))
    return ((bars > (DARK + BRIGHT) / 2) << np.arange(NUM_BARS)).sum(1).tolist()
