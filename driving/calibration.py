"""A camera as people measure it: a small JSON file in pixels, metres and degrees.

    {"width": 1920, "height": 1080, "fx": 1400, "fy": 1400, "cx": 960, "cy": 540,
     "position_m": [1.6, 0.0, 1.3], "pitch_down_deg": 2.0, "yaw_left_deg": 0.0, "roll_right_deg": 0.0}

`fw_poly` (px by rad, constant first) in place of fx and fy is an f-theta lens. The numbers belong to the picture as it
is seen, after any rotation that the file asks for. What `driving.camera.format_camera` writes is taken too.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from driving.camera import AHEAD_XYZW, CameraModel, build_camera, build_f_theta, build_pinhole
from driving.errors import SourceError
from driving.rotation import quaternions_from_matrices, rotation_matrices

NEEDED = ("width", "height", "cx", "cy", "position_m")
ANGLES = ("pitch_down_deg", "yaw_left_deg", "roll_right_deg")
LENS = ("fx", "fy", "fw_poly")


def read_calibration(path: Path) -> CameraModel:
    """Read a camera from a calibration file.

    Raises:
        SourceError: The file is not there, is not JSON, or lacks a number.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"the calibration {path} is not there; leave --calibration out to draw from above") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"the calibration {path} is not JSON ({error}); see driving/calibration.py") from error
    try:
        return parse_calibration(values)
    except SourceError as error:
        raise SourceError(f"{path}: {error}; see driving/calibration.py for its keys") from error


def parse_calibration(values: Any) -> CameraModel:
    """A camera from the JSON values of a calibration file.

    Raises:
        SourceError: A key is missing or unknown, or a value is wrong.
    """
    if not isinstance(values, dict):
        raise SourceError(f"a calibration is a JSON object, this is {str(values)[:80]}")
    if "lens" in values:
        return build_camera(values)
    unknown = [name for name in values if name not in (*NEEDED, *ANGLES, *LENS)]
    wanted = [*NEEDED, *(("fw_poly",) if "fw_poly" in values else ("fx", "fy"))]
    missing = [name for name in wanted if name not in values]
    if unknown or missing:
        raise SourceError(f"a calibration lacks {missing[0]}" if missing else f"a calibration knows no {unknown[0]}")
    try:
        size = (int(values["height"]), int(values["width"]))
        center = (float(values["cx"]), float(values["cy"]))
        rotation = build_rotation(*(float(values.get(name, 0.0)) for name in ANGLES))
        position = tuple(float(part) for part in values["position_m"])
        if "fw_poly" in values:
            return build_f_theta(size, [float(part) for part in values["fw_poly"]], center, position, rotation)
        return build_pinhole(size, (float(values["fx"]), float(values["fy"])), center, position, rotation)
    except (TypeError, ValueError) as error:
        raise SourceError(f"a calibration holds something else than numbers ({error})") from error


def build_rotation(pitch_down_deg: float, yaw_left_deg: float, roll_right_deg: float) -> tuple[float, ...]:
    """Unit quaternion (xyzw) of a camera that is rolled, then pitched, then turned, camera axes to vehicle axes."""
    pitch, yaw, roll = (math.radians(angle) for angle in (pitch_down_deg, yaw_left_deg, roll_right_deg))
    about_z = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    about_y = np.array([[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0], [-math.sin(pitch), 0, math.cos(pitch)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]])
    ahead = rotation_matrices(np.array([AHEAD_XYZW]))[0]
    return tuple(quaternions_from_matrices((about_z @ about_y @ about_x @ ahead)[None])[0].tolist())
