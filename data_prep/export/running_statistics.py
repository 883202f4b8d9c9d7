"""Least, largest, mean and spread of what goes by, for LeRobot's meta/stats.json."""

from __future__ import annotations

from typing import Any

import numpy as np


class RunningStatistics:
    """Of `width` numbers a row; holds sums, never the rows."""

    def __init__(self, width: int) -> None:
        self._count = 0
        self._sum, self._squares = np.zeros(width), np.zeros(width)
        self._min, self._max = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, rows: Any) -> None:
        """Take (n, width) numbers."""
        rows = np.asarray(rows, np.float64)
        self._count += len(rows)
        self._sum += rows.sum(axis=0)
        self._squares += np.square(rows).sum(axis=0)
        self._min, self._max = np.minimum(self._min, rows.min(axis=0)), np.maximum(self._max, rows.max(axis=0))

    def to_json(self, shape: tuple[int, ...] | None = None) -> dict[str, Any]:
        """Plain values to six decimals; `shape` of each, where it is not flat."""
        mean = self._sum / self._count
        spread = np.sqrt(np.maximum(0.0, self._squares / self._count - np.square(mean)))
        values = {"min": self._min, "max": self._max, "mean": mean, "std": spread}
        shaped = {name: value.reshape(shape or value.shape) for name, value in values.items()}
        return {**{name: value.round(6).tolist() for name, value in shaped.items()}, "count": [self._count]}


def describe_steps(num_episodes: int, num_frames: int, fps: int) -> dict[str, Any]:
    """The statistics of the columns that only count, by arithmetic."""
    total = num_episodes * num_frames
    return {
        "timestamp": _of_range(num_frames, total, 1 / fps),
        "frame_index": _of_range(num_frames, total),
        "episode_index": _of_range(num_episodes, total),
        "index": _of_range(total, total),
        "task_index": _of_range(1, total),
    }


def _of_range(stop: int, count: int, step: float = 1) -> dict[str, Any]:
    """Of 0, step, 2 step, ..., each as often as the others."""
    values = {"min": 0, "max": (stop - 1) * step, "mean": (stop - 1) / 2 * step}
    values["std"] = float(np.sqrt((stop**2 - 1) / 12)) * step
    return {**{name: [round(value, 6)] for name, value in values.items()}, "count": [count]}
