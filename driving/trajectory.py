"""Speed and path curvature over time, and the path they drive.

T = samples. Sample i holds for the whole of its interval: the path is T circular arcs, which is exact for constant
(v, kappa) and has no singularity on a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trajectory:
    """Speed and path curvature at evenly spaced instants.

    Attributes:
        velocity_mps: (T,) float64, metres per second along the path; negative when reversing.
        curvature_per_m: (T,) float64, 1 / metres, positive = left.

    Raises:
        ValueError: The two arrays differ in shape or are not 1-D.
    """

    velocity_mps: np.ndarray
    curvature_per_m: np.ndarray

    def __post_init__(self) -> None:
        if self.velocity_mps.ndim != 1 or self.velocity_mps.shape != self.curvature_per_m.shape:
            raise ValueError(
                f"velocity {self.velocity_mps.shape} and curvature {self.curvature_per_m.shape} must be 1-D and equal"
            )

    def __len__(self) -> int:
        return len(self.velocity_mps)

    @classmethod
    def from_pairs(cls, pairs: np.ndarray) -> Trajectory:
        """(T, 2) array or nested list of (velocity, curvature) -> Trajectory."""
        array = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
        return cls(array[:, 0].copy(), array[:, 1].copy())

    def to_pairs(self) -> np.ndarray:
        """(T, 2) float64 of (velocity, curvature)."""
        return np.stack([self.velocity_mps, self.curvature_per_m], axis=1)


def integrate(trajectory: Trajectory, interval_s: float) -> np.ndarray:
    """Drive the trajectory from the origin, heading along x.

    Returns:
        (T + 1, 3) float64: x forward [m], y left [m], heading [rad] at the start and after every interval.

    Source: exact circular arcs, research/field.md 2.1: ds = v dt, dpsi = kappa ds,
    chord ds sinc(dpsi / 2) at the mean heading of the interval.
    """
    return integrate_batch(trajectory.velocity_mps[None], trajectory.curvature_per_m[None], interval_s)[0]


def integrate_batch(velocity_mps: np.ndarray, curvature_per_m: np.ndarray, interval_s: float) -> np.ndarray:
    """`integrate` for (B, T) speeds and curvatures at once -> (B, T + 1, 3)."""
    way_m = np.asarray(velocity_mps, dtype=np.float64) * interval_s
    turn_rad = curvature_per_m * way_m
    heading = np.cumsum(turn_rad, axis=1) - turn_rad
    chord_m = way_m * np.sinc(turn_rad / (2 * np.pi))  # numpy's sinc(u) is sin(pi u) / (pi u)
    steps = [chord_m * np.cos(heading + turn_rad / 2), chord_m * np.sin(heading + turn_rad / 2), turn_rad]
    path = np.cumsum(np.stack(steps, axis=-1), axis=1)
    return np.concatenate([np.zeros_like(path[:, :1]), path], axis=1)


def average_to_rate(trajectory: Trajectory, num_pairs: int) -> Trajectory:
    """Fewer, longer intervals: the mean speed and the way-weighted mean curvature of each run of samples.

    Weighting by the way keeps the heading turned in each interval; where the car stands the plain mean is taken.

    Raises:
        ValueError: `num_pairs` does not divide the number of samples.
    """
    if num_pairs == len(trajectory):
        return trajectory
    if num_pairs < 1 or len(trajectory) % num_pairs:
        raise ValueError(f"{len(trajectory)} samples cannot be averaged into {num_pairs} equal intervals")
    velocity = trajectory.velocity_mps.reshape(num_pairs, -1)
    curvature = trajectory.curvature_per_m.reshape(num_pairs, -1)
    way = velocity.sum(axis=1)
    is_moving = np.abs(way) > 1e-6 * velocity.shape[1]
    turned = (velocity * curvature).sum(axis=1)
    mean_curvature = np.where(is_moving, turned / np.where(is_moving, way, 1.0), curvature.mean(axis=1))
    return Trajectory(velocity.mean(axis=1), mean_curvature)


def repeat_to_rate(trajectory: Trajectory, num_samples: int) -> Trajectory:
    """The same arcs cut finer: each interval's values hold for all of its parts.

    Raises:
        ValueError: The number of samples is not a multiple of the trajectory's.
    """
    if num_samples % len(trajectory):
        raise ValueError(f"{len(trajectory)} intervals cannot be cut into {num_samples}")
    times = num_samples // len(trajectory)
    return Trajectory(np.repeat(trajectory.velocity_mps, times), np.repeat(trajectory.curvature_per_m, times))
