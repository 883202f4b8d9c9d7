"""A vehicle's recorded motion, and the speed, curvature and future pose read off it by time.

    EgoMotion (poses at recorded instants)
        ├─ sample_motion(instants) ──▶ Trajectory  (v, kappa)      labels
        └─ future_pose(window)     ──▶ (n, 3) x, y, heading        truth for scoring

Body frame: x forward, y left, z up. N = recorded samples, T = instants asked for.
Values are read between samples, never beyond the first or last, never across a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driving.clock import US_PER_S, Window
from driving.errors import MotionError
from driving.rotation import align_hemisphere, heading_rad, rotation_matrices, slerp
from driving.trajectory import Trajectory

MAX_GAP_S = 0.25
MOVING_MPS = 0.3  # below this speed a heading change divided by the way made is noise
CURVATURE_HALF_WINDOW_US = 50_000


@dataclass(frozen=True)
class EgoMotion:
    """Poses of the vehicle in a fixed frame, with what else the recording measured.

    Attributes:
        timestamps_us: (N,) int64, strictly increasing, on the recording's clock.
        position_m: (N, 3) rear axle (or camera) position in the fixed frame.
        quaternion_xyzw: (N, 4) rotation body -> fixed frame.
        velocity_mps: (N, 3) in the fixed frame, or None: then speed is the derivative of the position.
        curvature_per_m: (N,) the dataset's own column, positive = left, or None.

    Raises:
        MotionError: Too few samples, shapes that differ, timestamps out of order, or a quaternion that is no rotation.
    """

    timestamps_us: np.ndarray
    position_m: np.ndarray
    quaternion_xyzw: np.ndarray
    velocity_mps: np.ndarray | None = None
    curvature_per_m: np.ndarray | None = None

    def __post_init__(self) -> None:
        times = self.timestamps_us
        if len(times) < 2:
            raise MotionError(f"ego motion holds {len(times)} samples, at least 2 are needed")
        shapes = {"position_m": (len(times), 3), "quaternion_xyzw": (len(times), 4)}
        shapes |= {"velocity_mps": (len(times), 3), "curvature_per_m": (len(times),)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise MotionError(f"ego motion {name} has shape {value.shape}, {shape} was expected")
        steps = np.diff(times)
        if np.any(steps <= 0):
            row = int(np.argmax(steps <= 0)) + 1
            raise MotionError(
                f"ego motion timestamps do not increase at row {row}: {times[row - 1]} us, then {times[row]} us"
            )
        norms = np.linalg.norm(self.quaternion_xyzw, axis=1)
        if np.any(np.abs(norms - 1) > 0.01):  # NaN norms compare False and are found per window
            row = int(np.argmax(np.abs(norms - 1) > 0.01))
            raise MotionError(f"ego motion quaternion at row {row} has norm {norms[row]:.3f}, a rotation has 1")

    @cached_property
    def heading_rad(self) -> np.ndarray:
        """(N,) heading, unwrapped, positive = left. A row that is not finite spoils itself, not what follows."""
        heading = np.full(len(self.timestamps_us), np.nan)
        heading[self.is_finite] = heading_rad(self.quaternion_xyzw[self.is_finite])
        return heading

    @cached_property
    def is_finite(self) -> np.ndarray:
        """(N,) whether pose and velocity of a row are finite; a derived velocity is not beside a bad position."""
        columns = [self.position_m, self.quaternion_xyzw, self._velocity]
        return np.isfinite(np.concatenate(columns, axis=1)).all(axis=1)

    @cached_property
    def speed_mps(self) -> np.ndarray:
        """(N,) signed forward speed: the velocity seen along the body's x axis; negative when reversing."""
        forward = rotation_matrices(self.quaternion_xyzw)[:, :, 0]
        return np.sum(self._velocity * forward, axis=1)

    def is_unbroken(self, max_gap_s: float = MAX_GAP_S) -> bool:
        """Whether it has neither a gap nor a bad row, so that every window within it is covered."""
        steps_us = np.diff(self.timestamps_us)
        return bool(steps_us.max() <= max_gap_s * US_PER_S and steps_us.max() / US_PER_S <= max_gap_s) and bool(
            self.is_finite.all()
        )

    @cached_property
    def _velocity(self) -> np.ndarray:
        """(N, 3) as recorded, or where nothing was the derivative of the position."""
        if self.velocity_mps is not None:
            return self.velocity_mps
        return np.gradient(self.position_m, self.timestamps_us / US_PER_S, axis=0)

    @cached_property
    def _quaternion_aligned(self) -> np.ndarray:
        return align_hemisphere(self.quaternion_xyzw)


def check_coverage(motion: EgoMotion, start_us: int, stop_us: int, max_gap_s: float = MAX_GAP_S) -> None:
    """Raise unless the motion covers [start, stop] with samples on both sides, no gap and only finite values.

    Raises:
        MotionError: With the bounds, the gap's length or the row that is not finite.
    """
    times = motion.timestamps_us
    if start_us < times[0] or stop_us > times[-1]:
        raise MotionError(
            f"ego motion covers {times[0] / US_PER_S:.3f} to {times[-1] / US_PER_S:.3f} s, "
            f"the window needs {start_us / US_PER_S:.3f} to {stop_us / US_PER_S:.3f} s"
        )
    rows = _rows_around(motion, start_us, stop_us)
    gaps_s = np.diff(times[rows]) / US_PER_S
    if gaps_s.max(initial=0.0) > max_gap_s:
        at_s = times[rows.start + int(np.argmax(gaps_s))] / US_PER_S
        raise MotionError(f"ego motion has a gap of {gaps_s.max():.3f} s at {at_s:.3f} s (allowed {max_gap_s} s)")
    is_bad = ~motion.is_finite[rows]
    if is_bad.any():
        row = rows.start + int(np.argmax(is_bad))
        raise MotionError(f"ego motion is not finite at row {row} ({times[row] / US_PER_S:.3f} s)")


def _rows_around(motion: EgoMotion, start_us: int, stop_us: int) -> slice:
    """The rows of [start, stop], with the one before and the one after where no row is exactly there."""
    times = motion.timestamps_us
    first = int(np.searchsorted(times, start_us, side="right")) - 1
    return slice(first, int(np.searchsorted(times, stop_us, side="left")) + 1)


def sample_motion(
    motion: EgoMotion,
    window: Window,
    instants_us: np.ndarray,
    max_gap_s: float = MAX_GAP_S,
    curvature: str = "pose",
    *,
    is_blind_after: bool = False,
) -> Trajectory:
    """Read speed and curvature at instants inside a window.

    Speed is interpolated linearly. Curvature from the pose is d heading / d s over +-50 ms around each instant, or over
    the recorded samples on either side where those are further apart; with s signed, so that heading rate = kappa v in
    reverse too. Near an end of the recording, a gap or a bad row the +-50 ms shrink to what was recorded.
    Below 0.3 m/s curvature is held from the last moving instant of the window (0 before the first): a standing car has
    a steering angle, not a path.

    Args:
        curvature: "pose", or "column" for the dataset's own column (leads the pose by 30-40 ms in PhysicalAI-AV).
        is_blind_after: read no pose after the window's end either, as if the recording ended there: what a model is
            told of the past must not hold the beginning of its answer.

    Raises:
        MotionError: The window is not covered, has a gap or a non-finite value, or there is no column.
    """
    check_coverage(motion, window.start_us, window.stop_us, max_gap_s)
    if curvature == "column":
        _check_column(motion, window)
    reach_us = _reach(motion, window, max_gap_s)
    until_us = min(reach_us[1], window.stop_us) if is_blind_after else reach_us[1]
    return Trajectory(*read_motion(motion, instants_us, reach_us[0], until_us, curvature))


def read_motion(
    motion: EgoMotion, instants_us: np.ndarray, from_us: int, until_us: int | np.ndarray, curvature: str
) -> tuple[np.ndarray, np.ndarray]:
    """Speed and curvature at instants of windows that are known to be covered; see `sample_motion`.

    Args:
        instants_us: (..., T); standing is held along the last axis.
        from_us, until_us: between which poses are read; may be (..., 1).

    Returns:
        ((..., T) speed, (..., T) curvature).
    """
    velocity = np.interp(instants_us, motion.timestamps_us, motion.speed_mps)
    if curvature == "column":
        kappa = np.interp(instants_us, motion.timestamps_us, motion.curvature_per_m)
    else:
        kappa = _pose_curvature(motion, instants_us, velocity, (from_us, until_us))
    return velocity, hold_while_standing(velocity, kappa)


def _check_column(motion: EgoMotion, window: Window) -> None:
    if motion.curvature_per_m is None:
        raise MotionError("ego motion has no curvature column; use --curvature pose")
    is_bad = ~np.isfinite(motion.curvature_per_m[_rows_around(motion, window.start_us, window.stop_us)])
    if is_bad.any():
        raise MotionError("ego motion curvature column is not finite in the window; use --curvature pose")


def _reach(motion: EgoMotion, window: Window, max_gap_s: float) -> tuple[int, int]:
    """The instants between which a covered window's surroundings are finite and without a gap."""
    times = motion.timestamps_us
    is_joined = (np.diff(times) <= max_gap_s * US_PER_S) & motion.is_finite[1:] & motion.is_finite[:-1]
    row = int(np.searchsorted(times, window.start_us, side="right")) - 1
    breaks = np.flatnonzero(~is_joined)
    first = breaks[breaks < row].max(initial=-1) + 1
    last = breaks[breaks >= row].min(initial=len(times) - 1)
    return int(times[first]), int(times[last])


def _pose_curvature(
    motion: EgoMotion, instants_us: np.ndarray, velocity_mps: np.ndarray, reach_us: tuple[int, int | np.ndarray]
) -> np.ndarray:
    times = motion.timestamps_us
    sample_before = times[np.searchsorted(times, instants_us, "right") - 1]
    sample_after = times[np.minimum(np.searchsorted(times, instants_us, "left"), len(times) - 1)]
    before = np.maximum(np.minimum(instants_us - CURVATURE_HALF_WINDOW_US, sample_before), reach_us[0])
    after = np.minimum(np.maximum(instants_us + CURVATURE_HALF_WINDOW_US, sample_after), reach_us[1])
    turned_rad = np.interp(after, times, motion.heading_rad) - np.interp(before, times, motion.heading_rad)
    # The chord between two interpolated positions, stretched to the arc it spans: summing the steps between rows
    # 10 ms apart would sum the noise of the positions too.
    offset_m = [np.interp(after, times, xy) - np.interp(before, times, xy) for xy in motion.position_m[:, :2].T]
    way_m = np.sign(velocity_mps) * np.hypot(*offset_m) / np.sinc(turned_rad / (2 * np.pi))
    # Where the car changes direction inside the +-50 ms the chord nearly vanishes; such instants are slower than
    # MOVING_MPS and held. The floor keeps the division finite for them.
    floor_m = 0.5 * MOVING_MPS * (after - before) / US_PER_S
    is_moving = (np.abs(velocity_mps) >= MOVING_MPS) & (np.abs(way_m) >= floor_m)
    return np.where(is_moving, turned_rad / np.where(is_moving, way_m, 1.0), np.nan)


def hold_while_standing(velocity_mps: np.ndarray, curvature_per_m: np.ndarray) -> np.ndarray:
    """Replace curvature at standing (or undefined) instants by the last moving instant's, 0 before the first.

    Both are (..., T); what is held stays within the last axis.
    """
    is_defined = (np.abs(velocity_mps) >= MOVING_MPS) & np.isfinite(curvature_per_m)
    places = np.where(is_defined, np.arange(velocity_mps.shape[-1]), -1)
    last_defined = np.maximum.accumulate(places, axis=-1)
    held = np.take_along_axis(curvature_per_m, np.maximum(last_defined, 0), axis=-1)
    return np.where(last_defined >= 0, held, 0.0)


def future_pose(motion: EgoMotion, instants_us: np.ndarray, max_gap_s: float = MAX_GAP_S) -> np.ndarray:
    """Recorded poses at instants, seen from the pose at the first of them.

    Args:
        instants_us: (T + 1,) int64; the first is the frame of reference.

    Returns:
        (T + 1, 3) float64: x forward [m], y left [m], heading [rad, unwrapped]; the first row is 0, 0, 0.

    Raises:
        MotionError: The instants are not covered by the recording.
    """
    check_coverage(motion, int(instants_us[0]), int(instants_us[-1]), max_gap_s)
    return read_poses(motion, instants_us)


def read_poses(motion: EgoMotion, instants_us: np.ndarray) -> np.ndarray:
    """(..., T + 1) instants that are known to be covered -> (..., T + 1, 3); see `future_pose`."""
    times = motion.timestamps_us
    offset = [np.interp(instants_us, times, axis) for axis in motion.position_m[:, :2].T]
    offset = [axis - axis[..., :1] for axis in offset]
    quaternions = slerp(times, motion._quaternion_aligned, instants_us.reshape(-1))
    heading = heading_rad(quaternions.reshape(*instants_us.shape, 4))
    cosine, sine = np.cos(heading[..., :1]), np.sin(heading[..., :1])
    x = cosine * offset[0] + sine * offset[1]
    y = -sine * offset[0] + cosine * offset[1]
    return np.stack([x, y, heading - heading[..., :1]], axis=-1)


def extent_of_future(motion: EgoMotion, start_us: int, limit_us: int, max_gap_s: float = MAX_GAP_S) -> int:
    """The latest instant up to `limit_us` that the motion reaches from `start_us` without a gap or a bad value."""
    times = motion.timestamps_us
    if not times[0] <= start_us <= times[-1]:
        return start_us
    first = int(np.searchsorted(times, start_us, side="right")) - 1
    is_joined = np.concatenate([[True], np.diff(times[first:]) <= max_gap_s * US_PER_S])
    breaks = ~(motion.is_finite[first:] & is_joined)
    last = first + (int(np.argmax(breaks)) if breaks.any() else len(breaks)) - 1
    return int(min(limit_us, max(start_us, times[max(last, first)])))
