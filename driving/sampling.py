"""Which recorded frames stand for which nominal instants. Times in, indices out; nothing is decoded."""

from __future__ import annotations

import numpy as np

from driving.clock import US_PER_S


def choose_frames(frame_times_us: np.ndarray, grid_us: np.ndarray) -> tuple[np.ndarray, int]:
    """Choose one recorded frame for each grid instant, in order, none twice, worst distance smallest.

    Nearest-frame sampling repeats frames where a camera runs slower than the grid (9.62 Hz against 10): a repeated
    frame is a moment in which the world stands still. The strictly increasing choice whose largest distance from the
    grid is smallest is found by bisection over that distance; among equal choices the earliest frame nearest to the
    grid is taken.

    Args:
        frame_times_us: (F,) int64, strictly increasing.
        grid_us: (n,) int64, strictly increasing.

    Returns:
        (indices (n,) int64 strictly increasing, worst distance in us).

    Raises:
        ValueError: There are fewer frames than grid instants.
    """
    num_frames, num_wanted = len(frame_times_us), len(grid_us)
    if num_frames < num_wanted:
        raise ValueError(f"{num_frames} recorded frames cannot fill a grid of {num_wanted}")
    nearest = _nearest(frame_times_us, grid_us)
    if num_wanted == 1 or np.diff(nearest).min() > 0:
        return nearest, int(np.abs(frame_times_us[nearest] - grid_us).max())  # each instant has its own best frame
    low_us, high_us = -1, int(np.abs(frame_times_us[:num_wanted] - grid_us).max())
    while high_us - low_us > 1:
        middle_us = (low_us + high_us) // 2
        if _assign(frame_times_us, grid_us, middle_us) is None:
            low_us = middle_us
        else:
            high_us = middle_us
    chosen = _assign(frame_times_us, grid_us, high_us)
    assert chosen is not None
    refined = _refine(frame_times_us, grid_us, chosen)
    return refined, int(np.abs(frame_times_us[refined] - grid_us).max())


def choose_frames_of_all(frame_times_us: np.ndarray, grids_us: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """`choose_frames` of each of (S, n) grids."""
    nearest = _nearest(frame_times_us, grids_us)
    worst_us = np.abs(frame_times_us[nearest] - grids_us).max(axis=1).tolist()
    is_settled = (np.diff(nearest, axis=1) > 0).all(axis=1).tolist()
    return [
        (nearest[place], worst_us[place]) if settled else choose_frames(frame_times_us, grids_us[place])
        for place, settled in enumerate(is_settled)
    ]


def _nearest(frame_times_us: np.ndarray, grid_us: np.ndarray) -> np.ndarray:
    """The frame nearest to each instant, the earlier one of two equally near."""
    after = np.clip(np.searchsorted(frame_times_us, grid_us), 0, len(frame_times_us) - 1)
    before = np.maximum(after - 1, 0)
    is_before_nearer = np.abs(frame_times_us[before] - grid_us) <= np.abs(frame_times_us[after] - grid_us)
    return np.where(is_before_nearer, before, after)


def _assign(frame_times_us: np.ndarray, grid_us: np.ndarray, limit_us: int) -> np.ndarray | None:
    """The earliest strictly increasing choice within `limit_us` of the grid, or None where there is none."""
    first = np.searchsorted(frame_times_us, grid_us - limit_us, side="left")
    steps = np.arange(len(grid_us))
    # Earliest free frame at each instant: a running maximum of (first - step) keeps the choice strictly increasing.
    earliest = np.maximum.accumulate(first - steps) + steps
    if earliest[-1] >= len(frame_times_us) or np.any(frame_times_us[earliest] > grid_us + limit_us):
        return None
    return earliest


def _refine(frame_times_us: np.ndarray, grid_us: np.ndarray, earliest: np.ndarray) -> np.ndarray:
    """Move each choice later, from the last to the first, where a free frame lies nearer to its instant."""
    chosen = earliest.copy()
    ceiling = len(frame_times_us)
    for step in range(len(grid_us) - 1, -1, -1):
        candidates = np.arange(chosen[step], ceiling)
        distances = np.abs(frame_times_us[candidates] - grid_us[step])
        chosen[step] = candidates[int(np.argmin(distances))]
        ceiling = chosen[step]
    return chosen


def median_rate_hz(frame_times_us: np.ndarray) -> float:
    """Frames per second by the median interval; 0.0 for fewer than two frames."""
    if len(frame_times_us) < 2:
        return 0.0
    return float(US_PER_S / np.median(np.diff(frame_times_us)))
