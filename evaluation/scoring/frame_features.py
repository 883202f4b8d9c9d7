"""How much a clip moves and where to, in a few hundred numbers and without a network.

    frames (T, H, W, 3) ──shrink──▶ grey (T, h, w) ──measure_frames──▶ features (F,)
                                                   of three sizes of the picture, 3 x 5 cells, two halves of the clip:
                                                   difference between neighbouring frames, texture, flow

Flow is Lucas and Kanade's: the shift (x, y) of a cell that explains best, by least squares, how its grey changed from
one frame to the next ("An iterative image registration technique", IJCAI 1981), here one step of it. A shift of more
than a pixel or so of a size is seen at the next smaller one.

T = frames, H x W px = as the model sees them, h x w px = grey picture, C = 3 x 5 cells
"""

from __future__ import annotations

import numpy as np

FEATURE_VERSION = 1  # of what is measured: stored features of another one are measured again
HEIGHT_PX = 64  # a larger picture is shrunk to about this
NUM_SIZES = 3  # each half as high and wide as the one before
GRID = (3, 5)  # cells: rows, columns
NUM_PARTS = 2
_SMOOTH = 1.0  # grey levels squared; a cell without texture has no flow, not any


def measure_frames(frames: np.ndarray, fps: float) -> np.ndarray:
    """(T, H, W, 3) uint8, at least 32 x 32 px -> (F,) float32; all differences are 0 where there is one frame.

    Flow is in picture heights a second, differences and texture in grey levels.
    """
    grey = shrink(frames)
    if len(grey) < 2:
        grey = np.repeat(grey, 2, axis=0)
    found = []
    for _ in range(NUM_SIZES):
        flow, difference, texture = _measure_size(grey)
        flow *= fps / grey.shape[1]
        speed = difference / np.maximum(texture, 1.0) * fps / grey.shape[1]  # the flow along the grey's own slope
        found += [*_split_time(flow), *_split_time(difference), *_split_time(speed), texture.mean(axis=0)]
        grey = _halve(grey)
    return np.concatenate([part.ravel() for part in found]).astype(np.float32)


def shrink(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 -> (T, h, w) float32 grey: means of equal squares, h about HEIGHT_PX; the edge is cut."""
    side = max(1, frames.shape[1] // HEIGHT_PX)
    height, width = frames.shape[1] // side, frames.shape[2] // side
    cut = frames[:, : height * side, : width * side]
    squares = cut.reshape(len(cut), height, side, width, side * 3)
    return squares.sum(axis=(2, 4), dtype=np.uint32).astype(np.float32) / (side * side * 3)


def _halve(grey: np.ndarray) -> np.ndarray:
    height, width = grey.shape[1] // 2, grey.shape[2] // 2
    return grey[:, : height * 2, : width * 2].reshape(len(grey), height, 2, width, 2).mean(axis=(2, 4))


def _measure_size(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, h, w) -> flow (T - 1, C, 2) in px a frame, difference and texture (T - 1, C), roots of mean squares."""
    between = (grey[1:] + grey[:-1]) / 2
    slope_y = (between[:, 2:, 1:-1] - between[:, :-2, 1:-1]) / 2
    slope_x = (between[:, 1:-1, 2:] - between[:, 1:-1, :-2]) / 2
    step = (grey[1:] - grey[:-1])[:, 1:-1, 1:-1]
    change = _mean_cells(step**2)
    xx, yy, xy = (_mean_cells(product) for product in (slope_x**2, slope_y**2, slope_x * slope_y))
    xt, yt = _mean_cells(slope_x * step), _mean_cells(slope_y * step)
    texture = np.sqrt(xx + yy)
    xx, yy = xx + _SMOOTH, yy + _SMOOTH
    determinant = xx * yy - xy**2
    flow = np.stack([xy * yt - yy * xt, xy * xt - xx * yt], axis=-1) / determinant[..., None]
    return flow, np.sqrt(change), texture


def _mean_cells(values: np.ndarray) -> np.ndarray:
    """(N, h, w) -> (N, C) means over the cells."""
    rows, columns = (
        np.linspace(0, size, count + 1).astype(int) for size, count in zip(values.shape[1:], GRID, strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(values, rows[:-1], axis=1), columns[:-1], axis=2)
    return (sums / (np.diff(rows)[:, None] * np.diff(columns))).reshape(len(values), -1)


def _split_time(values: np.ndarray) -> list[np.ndarray]:
    """(T - 1, ...) -> the medians of NUM_PARTS parts of the clip; of a clip of two frames both are the same."""
    edges = np.linspace(0, len(values), NUM_PARTS + 1).astype(int)
    return [
        np.median(values[min(start, len(values) - 1) : max(stop, start + 1)], axis=0)
        for start, stop in zip(edges[:-1], edges[1:], strict=True)
    ]
