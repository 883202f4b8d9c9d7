"""Videos whose frame number is their grey level, so that "which frame did I get" is ==."""

from __future__ import annotations

import numpy as np
import pytest

from driving.recording import VideoAddress
from video_io import write_video

FIRST_GREY, GREY_STEP = 8, 4  # H.264 moves a flat picture by less than half a step; room for 61 frames


def draw(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W) uint8: one grey for the whole picture."""
    return np.full((height, width), FIRST_GREY + GREY_STEP * index, np.uint8)


@pytest.fixture
def draw_video(tmp_path):
    """Make a video of `num_frames` numbered frames; returns its address."""

    def make(num_frames=40, name="drawn.mp4", *, height=48, width=64, fps=30, **encoding) -> VideoAddress:
        path = tmp_path / name
        write_video(path, (draw(i, height, width) for i in range(num_frames)), fps, **{"crf": 1, **encoding})
        return VideoAddress(str(path))

    return make


@pytest.fixture
def read_numbers():
    """The frame numbers that (N, H, W, 3) pictures carry."""

    def read(frames: np.ndarray) -> list[int]:
        return np.round((frames.mean((1, 2, 3)) - FIRST_GREY) / GREY_STEP).astype(int).tolist()

    return read
