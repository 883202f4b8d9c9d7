"""PhysicalAI-AV's calibration: the camera of one clip, from the two tables of its chunk.

camera_intrinsics    (clip_id, camera) -> width, height, cx, cy, fw_poly_0..4 (px by rad), bw_poly_0..4
sensor_extrinsics    (clip_id, sensor) -> x, y, z [m], qx, qy, qz, qw    sensor axes -> rig axes

The rig frame is that of the ego motion: rear axle on the ground, x forward, y left, z up. Labels do not need a
calibration: a clip without one has no camera, and its path is never drawn on the road.

Source: github.com/NVlabs/physical_ai_av, calibration.py and utils/camera_models.py.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.camera import CameraModel, build_f_theta
from driving.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd

INTRINSICS, EXTRINSICS = "camera_intrinsics", "sensor_extrinsics"
RADIUS = tuple(f"fw_poly_{power}" for power in range(5))
ROTATION = ("qx", "qy", "qz", "qw")


def plan_calibration(tables: dict[str, str], camera: str) -> dict[str, Any]:
    """What a ref's place says of its camera's calibration; {} where a table is not there."""
    return {"camera": camera, "calibration": tables} if {INTRINSICS, EXTRINSICS} <= tables.keys() else {}


def read_camera(intrinsics: str, extrinsics: str, clip_id: str, camera: str) -> CameraModel | None:
    """The camera of a clip; None where the tables do not list it.

    Raises:
        SourceError: A table is damaged, or holds what no camera can be.
    """
    lens, place = (_find_row(path, clip_id, camera) for path in (intrinsics, extrinsics))
    if lens is None or place is None:
        return None
    try:
        return build_f_theta(
            (int(lens["height"]), int(lens["width"])),
            [float(lens[name]) for name in RADIUS],
            (float(lens["cx"]), float(lens["cy"])),
            [float(place[name]) for name in ("x", "y", "z")],
            [float(place[name]) for name in ROTATION],
        )
    except (KeyError, ValueError) as error:
        raise SourceError(f"{intrinsics} or {extrinsics} lacks a number of {camera} ({error}); {_ADVICE}") from error
    except SourceError as error:
        raise SourceError(f"{intrinsics}, clip {clip_id}: {error}; {_ADVICE}") from error


_ADVICE = "download both again, or delete them: labels do not need them"


def _find_row(path: str, clip_id: str, sensor: str) -> dict[str, Any] | None:
    try:
        changed_ns = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); {_ADVICE}") from error
    return _read_rows(path, changed_ns).get((clip_id, sensor))


@lru_cache(maxsize=8)  # the clips of one chunk come together
def _read_rows(path: str, changed_ns: int) -> dict[tuple[str, str], dict[str, Any]]:
    """(clip, sensor) -> its first row."""
    table = _read_table(path)
    rows = zip(table.index.tolist(), table.to_dict("records"), strict=True)
    return dict(reversed(list(rows)))


def _read_table(path: str) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} is not a whole parquet table ({error}); {_ADVICE}") from error
    if table.index.nlevels != 2:
        keys = [name for name in ("clip_id", "camera_name", "sensor_name") if name in table.columns]
        if len(keys) != 2:
            raise SourceError(f"{path} is not listed by clip and sensor (its columns: {list(table.columns)[:6]})")
        table = table.set_index(keys)
    return table
