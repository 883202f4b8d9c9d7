"""Exactly known motion: a speed over time along a road whose curvature is given over distance.

    Motion ──trace_path──▶ Path (pose at a distance)
      └──── sample(times_us) ──▶ MotionState (x, y, heading, v, a, kappa at recorded instants)

This is the oracle that labels are tested against, so nothing here is shared with driving.trajectory.
The pose is a function of the signed distance alone, so reversing retraces the road and the heading rate is kappa v in
both directions. Everything is in the anchor frame: the pose at t = 0 is the identity. x forward, y left, metres,
radians, curvature positive = left. K = speed knots, J = road knots, T = instants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

US_PER_S = 1_000_000
PATH_STEP_M = 0.01


@dataclass(frozen=True)
class MotionState:
    """A vehicle at T instants, in the anchor frame.

    Attributes:
        x_m, y_m, heading_rad: (T,) pose of the rear axle.
        velocity_mps: (T,) along the path, negative in reverse.
        acceleration_mps2: (T,) along the path, d velocity / dt.
        curvature_per_m: (T,) of the path at this place, also while standing.
        distance_m: (T,) signed way along the path since t = 0.
    """

    x_m: np.ndarray
    y_m: np.ndarray
    heading_rad: np.ndarray
    velocity_mps: np.ndarray
    acceleration_mps2: np.ndarray
    curvature_per_m: np.ndarray
    distance_m: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Speed, piecewise linear in time, along a road with curvature piecewise linear over distance; ends are held.

    Attributes:
        speed_times_s: (K,) increasing, seconds on the clip's clock.
        speeds_mps: (K,) signed speed at those times.
        road_m: (J,) increasing, distance along the road from where the car is at t = 0.
        curvatures_per_m: (J,) curvature of the road there, positive = left.

    Raises:
        ValueError: Knots that do not increase, or lists of different length.
    """

    speed_times_s: Sequence[float]
    speeds_mps: Sequence[float]
    road_m: Sequence[float]
    curvatures_per_m: Sequence[float]

    def __post_init__(self) -> None:
        for places, values in (("speed_times_s", "speeds_mps"), ("road_m", "curvatures_per_m")):
            place = np.asarray(getattr(self, places), dtype=np.float64)
            value = np.asarray(getattr(self, values), dtype=np.float64)
            if place.ndim != 1 or len(place) == 0 or place.shape != value.shape or np.any(np.diff(place) <= 0):
                raise ValueError(f"{places} must increase and have one entry in {values} each")
            object.__setattr__(self, places, place)
            object.__setattr__(self, values, value)

    def distance_m(self, times_s: np.ndarray) -> np.ndarray:
        """(T,) signed way since t = 0: the exact integral of the piecewise linear speed."""
        return self._way_since_first_knot(times_s) - self._way_since_first_knot(np.zeros(1))

    def _way_since_first_knot(self, times_s: np.ndarray) -> np.ndarray:
        knots, speeds = self.speed_times_s, self.speeds_mps
        way_at_knots = np.concatenate([[0.0], np.cumsum(np.diff(knots) * (speeds[1:] + speeds[:-1]) / 2)])
        before = np.clip(np.searchsorted(knots, times_s, side="right") - 1, 0, len(knots) - 1)
        speed_now = np.interp(times_s, knots, speeds)
        # In front of the first knot the speed is held, so the same trapezoid gives the (negative) way.
        return way_at_knots[before] + (times_s - knots[before]) * (speeds[before] + speed_now) / 2

    def sample(self, times_us: np.ndarray) -> MotionState:
        """The vehicle at instants of the clip's clock. (T,) int64 us -> MotionState."""
        times_s = np.asarray(times_us) / US_PER_S
        distance = self.distance_m(times_s)
        path = trace_path(self, distance.min(), distance.max())
        x, y, heading = path.pose(distance)
        return MotionState(
            x_m=x,
            y_m=y,
            heading_rad=heading,
            velocity_mps=np.interp(times_s, self.speed_times_s, self.speeds_mps),
            acceleration_mps2=self._acceleration(times_s),
            curvature_per_m=np.interp(distance, self.road_m, self.curvatures_per_m),
            distance_m=distance,
        )

    def _acceleration(self, times_s: np.ndarray) -> np.ndarray:
        knots = self.speed_times_s
        slopes = np.concatenate([[0.0], np.diff(self.speeds_mps) / np.diff(knots), [0.0]])
        return slopes[np.searchsorted(knots, times_s, side="right")]


@dataclass(frozen=True)
class Path:
    """A road centre line as a chain of circular arcs of PATH_STEP_M.

    Attributes:
        first_m: distance of the first node.
        x_m, y_m, heading_rad, curvature_per_m: (M,) at the nodes; curvature is that of the arc that starts there.
    """

    first_m: float
    x_m: np.ndarray
    y_m: np.ndarray
    heading_rad: np.ndarray
    curvature_per_m: np.ndarray

    def pose(self, distance_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, heading at distances along the road; between nodes along the arc, exactly."""
        node = ((distance_m - self.first_m) / PATH_STEP_M).astype(np.int64)
        node = np.clip(node, 0, len(self.x_m) - 1)
        rest_m = distance_m - (self.first_m + node * PATH_STEP_M)
        turn = self.curvature_per_m[node] * rest_m
        chord = rest_m * np.sinc(turn / (2 * np.pi))
        middle = self.heading_rad[node] + turn / 2
        return (
            self.x_m[node] + chord * np.cos(middle),
            self.y_m[node] + chord * np.sin(middle),
            self.heading_rad[node] + turn,
        )


def trace_path(motion: Motion, first_m: float, last_m: float) -> Path:
    """Lay the road from `first_m` to `last_m`, with the identity pose at distance 0."""
    first = int(np.floor(min(first_m, 0.0) / PATH_STEP_M)) - 1
    last = int(np.ceil(max(last_m, 0.0) / PATH_STEP_M)) + 1
    nodes_m = np.arange(first, last + 1) * PATH_STEP_M
    curvature = np.interp(nodes_m + PATH_STEP_M / 2, motion.road_m, motion.curvatures_per_m)
    turn = curvature * PATH_STEP_M
    heading = np.concatenate([[0.0], np.cumsum(turn[:-1])])
    chord = PATH_STEP_M * np.sinc(turn / (2 * np.pi))
    x = np.concatenate([[0.0], np.cumsum(chord * np.cos(heading + turn / 2))[:-1]])
    y = np.concatenate([[0.0], np.cumsum(chord * np.sin(heading + turn / 2))[:-1]])
    x, y, heading = _seen_from(x, y, heading, -first)
    return Path(nodes_m[0], x, y, heading, curvature)


def _seen_from(
    x: np.ndarray, y: np.ndarray, heading: np.ndarray, origin: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cosine, sine = np.cos(heading[origin]), np.sin(heading[origin])
    dx, dy = x - x[origin], y - y[origin]
    return cosine * dx + sine * dy, cosine * dy - sine * dx, heading - heading[origin]


def constant_motion(speed_mps: float, curvature_per_m: float = 0.0) -> Motion:
    """A circle (or a straight, or standing still) driven at constant speed, for ever."""
    return Motion([0.0], [speed_mps], [0.0], [curvature_per_m])
