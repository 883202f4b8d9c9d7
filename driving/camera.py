"""Where a point of the road is in the picture: one camera on a vehicle, in units of the picture.

    vehicle frame (x forward, y left, z up, on the road) ──pose──▶ camera frame (x right, y down, z ahead)
        ──lens: radius of the angle from the optical axis──▶ parts of the picture ──x width, height──▶ px

A pinhole's radius is tan(angle), an f-theta lens's a polynomial of the angle. Nothing here is in pixels, so the model
holds for the recording and for every size that it is scaled to. Pixel coordinates are continuous: (0, 0) is the
picture's upper left corner, the first pixel's centre is (0.5, 0.5).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driving.errors import SourceError
from driving.rotation import rotation_matrices

LENSES = ("pinhole", "f_theta")
WIDEST_PINHOLE_RAD = math.radians(89.0)
AHEAD_XYZW = (0.5, -0.5, 0.5, -0.5)  # a level camera that looks along the vehicle's x axis


@dataclass(frozen=True)
class CameraModel:
    """One camera: its lens and its place on the vehicle.

    Attributes:
        lens: "pinhole" or "f_theta".
        focal: (horizontal, vertical) parts of the picture's width and height for one unit of radius.
        center: (horizontal, vertical) of the optical axis, as parts of width and height.
        position_m: of the camera in the vehicle frame; z is its height above the road.
        rotation_xyzw: unit quaternion that turns camera axes into vehicle axes.
        radius: of an f-theta lens, the polynomial of the angle [rad], constant first; () for a pinhole.

    Raises:
        SourceError: The lens is unknown, or a number is missing, not finite or cannot be.
    """

    lens: str
    focal: tuple[float, float]
    center: tuple[float, float]
    position_m: tuple[float, float, float]
    rotation_xyzw: tuple[float, float, float, float]
    radius: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.lens not in LENSES:
            raise SourceError(f"camera lens {self.lens!r} is not one of {', '.join(LENSES)}")
        lengths = {"focal": 2, "center": 2, "position_m": 3, "rotation_xyzw": 4}
        for name in (*lengths, "radius"):
            object.__setattr__(self, name, _read_numbers(getattr(self, name), name, lengths.get(name)))
        if min(self.focal) <= 0:
            raise SourceError(f"camera focal {list(self.focal)} must be above 0")
        if abs(math.hypot(*self.rotation_xyzw) - 1) > 0.01:
            raise SourceError(f"camera rotation_xyzw {list(self.rotation_xyzw)} is no unit quaternion")
        if (self.lens == "f_theta") != bool(self.radius):
            raise SourceError("an f_theta camera has a radius polynomial, a pinhole has none")
        if self.radius and self.widest_angle_rad <= 0:
            raise SourceError(f"camera radius {list(self.radius)} does not grow with the angle")

    @property
    def widest_angle_rad(self) -> float:
        """Angle from the optical axis up to which the lens is described: where its radius stops growing."""
        if self.lens == "pinhole":
            return WIDEST_PINHOLE_RAD
        slope = np.polynomial.Polynomial(self.radius).deriv()
        if slope(0.0) <= 0:
            return 0.0
        turns = [root.real for root in slope.roots() if abs(root.imag) < 1e-9 and 0 < root.real < math.pi]
        return min([math.pi, *turns])

    def project(self, points_m: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
        """(..., 3) points in the vehicle frame -> (..., 2) column and row in px of a picture of this size.

        NaN where the lens does not see: behind a pinhole, or beyond an f-theta lens's polynomial. A point that it sees
        may still lie outside the picture.
        """
        to_vehicle = rotation_matrices(np.array([self.rotation_xyzw]))[0]
        seen = (np.asarray(points_m, dtype=np.float64) - np.array(self.position_m)) @ to_vehicle
        across = np.hypot(seen[..., 0], seen[..., 1])
        angle = np.arctan2(across, seen[..., 2])
        angle = np.where(angle < self.widest_angle_rad, angle, np.nan)
        radius = np.tan(angle) if self.lens == "pinhole" else np.polynomial.polynomial.polyval(angle, self.radius)
        scale = np.where(across > 0, radius / np.where(across > 0, across, 1.0), 0.0 * radius)
        parts = np.array(self.center) + np.array(self.focal) * seen[..., :2] * scale[..., None]
        return parts * np.array([width_px, height_px])


def build_pinhole(
    size_px: tuple[int, int],
    focal_px: tuple[float, float],
    center_px: tuple[float, float],
    position_m: Sequence[float],
    rotation_xyzw: Sequence[float] = AHEAD_XYZW,
) -> CameraModel:
    """A pinhole from its pixel quantities.

    Args:
        size_px: (height, width) of the picture they were measured in.
        focal_px, center_px: (horizontal, vertical).
    """
    height, width = size_px
    focal, center = _to_parts(focal_px, height, width), _to_parts(center_px, height, width)
    return CameraModel("pinhole", focal, center, tuple(position_m), tuple(rotation_xyzw))


def build_f_theta(
    size_px: tuple[int, int],
    radius_px: Sequence[float],
    center_px: tuple[float, float],
    position_m: Sequence[float],
    rotation_xyzw: Sequence[float] = AHEAD_XYZW,
) -> CameraModel:
    """An f-theta lens from its pixel quantities.

    Args:
        size_px: (height, width) of the picture they were measured in.
        radius_px: px from the optical axis as a polynomial of the angle in rad, constant first.
    """
    height, width = size_px
    radius = tuple(value / width for value in radius_px)
    focal, center = (1.0, width / height), _to_parts(center_px, height, width)
    return CameraModel("f_theta", focal, center, tuple(position_m), tuple(rotation_xyzw), radius)


def _to_parts(pair_px: tuple[float, float], height: int, width: int) -> tuple[float, float]:
    if not (height >= 1 and width >= 1):
        raise SourceError(f"camera picture of {height}x{width} px has no area")
    return pair_px[0] / width, pair_px[1] / height


def format_camera(camera: CameraModel) -> str:
    """One line of JSON that `parse_camera` reads back to an equal camera."""
    values = dict(vars(camera))
    if not camera.radius:
        del values["radius"]
    return json.dumps(values, allow_nan=False)


def parse_camera(text: str) -> CameraModel:
    """Read a camera from what `format_camera` wrote, such as the column `camera` of truth.parquet.

    Raises:
        SourceError: It is not that.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise SourceError(f"a camera that is not JSON ({error}): {text[:80]!r}") from error
    return build_camera(values)


def build_camera(values: Any) -> CameraModel:
    """A camera from its JSON values.

    Raises:
        SourceError: A key is missing or unknown, or a value is wrong.
    """
    try:
        return CameraModel(**values)
    except TypeError as error:
        raise SourceError(f"a camera needs lens, focal, center, position_m and rotation_xyzw ({error})") from error


def _read_numbers(values: Any, name: str, length: int | None) -> tuple[float, ...]:
    """A tuple of finite floats of this length."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)) or (length is not None and len(numbers) != length):
        wanted = "finite numbers" if length is None else f"{length} finite numbers"
        raise SourceError(f"camera {name} {str(values)[:80]} must be {wanted}")
    return numbers
