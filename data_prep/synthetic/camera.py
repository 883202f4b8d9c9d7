"""The drawn camera: a pinhole looking straight ahead over a flat ground, and its calibration columns.

Pixel centres are at + 0.5. Ground point of pixel (row, column) seen by a level camera of height h, focal length f:

    forward X = f h / (row + 0.5 - cy)        left Y = -(column + 0.5 - cx) X / f
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOCAL_OVER_WIDTH = 0.8  # 64 degrees across: the road fills the picture, unlike in the real 120 degree camera
HORIZON_OVER_HEIGHT = 0.42
CAMERA_FORWARD_M = 1.7  # of the rear axle
CAMERA_HEIGHT_M = 1.4
# Camera axes (x right, y down, z ahead) -> vehicle axes (x ahead, y left, z up), xyzw.
CAMERA_QUATERNION = (-0.5, 0.5, -0.5, 0.5)


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera of `height` x `width` px."""

    height: int
    width: int

    @property
    def focal_px(self) -> float:
        return FOCAL_OVER_WIDTH * self.width

    @property
    def cx(self) -> float:
        return self.width / 2

    @property
    def cy(self) -> float:
        return HORIZON_OVER_HEIGHT * self.height

    @property
    def first_ground_row(self) -> int:
        """The first row whose pixel centres look at least half a pixel below the horizon."""
        return int(np.ceil(self.cy))

    def ground_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Forward (rows,) and left (rows, width) metres from the camera's foot, from `first_ground_row` down."""
        rows = np.arange(self.first_ground_row, self.height) + 0.5 - self.cy
        forward_m = self.focal_px * CAMERA_HEIGHT_M / rows
        columns = np.arange(self.width) + 0.5 - self.cx
        return forward_m, -columns[None, :] * forward_m[:, None] / self.focal_px

    def project(self, forward_m: np.ndarray, left_m: np.ndarray, up_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row (continuous pixel coordinates) of points in front of the camera; `up_m` from the ground."""
        scale = self.focal_px / forward_m
        return self.cx - left_m * scale, self.cy + (CAMERA_HEIGHT_M - up_m) * scale

    def intrinsics(self) -> dict[str, float]:
        """The f-theta columns of PhysicalAI-AV: radius in px as a polynomial of the angle, and back.

        A pinhole's radius is f tan(angle); degree 4 over the picture's angles follows it to well under a pixel.
        """
        corner_px = np.hypot(max(self.cx, self.width - self.cx), max(self.cy, self.height - self.cy))
        angles = np.linspace(0.0, np.arctan(corner_px / self.focal_px), 400)
        radii = self.focal_px * np.tan(angles)
        forward = _fit_without_constant(angles, radii)
        backward = _fit_without_constant(radii, angles)
        columns: dict[str, float] = {"width": self.width, "height": self.height, "cx": self.cx, "cy": self.cy}
        columns |= {f"bw_poly_{power}": value for power, value in enumerate(backward)}
        columns |= {f"fw_poly_{power}": value for power, value in enumerate(forward)}
        return columns


def _fit_without_constant(x: np.ndarray, y: np.ndarray, degree: int = 4) -> list[float]:
    scale = x.max()
    powers = (x[:, None] / scale) ** np.arange(1, degree + 1)
    coefficients = np.linalg.lstsq(powers, y, rcond=None)[0]
    return [0.0] + [float(value / scale**power) for power, value in enumerate(coefficients, start=1)]
