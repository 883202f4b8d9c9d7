"""PhysicalAI-AV's `egomotion.parquet`: one table of a clip's poses, velocities and curvature.

Columns: timestamp (int64 us from the clip anchor), qx qy qz qw, x y z, vx vy vz (all in the clip-anchor frame: the
velocity too), ax ay az (not read), curvature (1/m, positive = left; a revision without it is accepted).
Rows are kept as they are: a NaN is found by the windows that need it, a disorder by `EgoMotion` itself.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from driving.ego_motion import EgoMotion
from driving.errors import MotionError

QUATERNION = ("qx", "qy", "qz", "qw")
POSITION = ("x", "y", "z")
VELOCITY = ("vx", "vy", "vz")
SUFFIX = ".egomotion.parquet"


def read_ego_motion_file(path: Path) -> EgoMotion:
    """Read one clip's `*.egomotion.parquet`.

    Raises:
        MotionError: The file is missing, is no parquet table, or lacks what ego motion needs.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MotionError(f"ego motion {path} cannot be read ({error.strerror}); download it again") from error
    return parse_ego_motion(data, str(path))


def find_ego_motion(folder: Path, clip_id: str) -> Path:
    """Where a clip's ego motion is: in `folder` itself, or in one of its `ego_motion_chunk_*` folders.

    Raises:
        MotionError: It is nowhere, or in two chunks.
    """
    name = clip_id + SUFFIX
    found = [folder / name] if (folder / name).is_file() else sorted(folder.glob(f"ego_motion_chunk_*/{name}"))
    if len(found) != 1:
        where = " and ".join(map(str, found)) or "missing"
        raise MotionError(f"ego motion of clip {clip_id} in {folder} and its ego_motion_chunk_* folders: {where}")
    return found[0]


def parse_ego_motion(data: bytes, place: str) -> EgoMotion:
    """Turn the bytes of an `egomotion.parquet` into ego motion. `place` is named in errors.

    Raises:
        MotionError: No parquet table, a column missing or of the wrong kind, or values that `EgoMotion` refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)  # read_table takes 3 ms to begin
    except (pa.ArrowException, OSError) as error:
        raise MotionError(f"ego motion {place} is not a whole parquet table ({error}); download it again") from error
    missing = [name for name in ("timestamp", *QUATERNION, *POSITION, *VELOCITY) if name not in table.column_names]
    if missing:
        raise MotionError(f"ego motion {place} lacks the columns {', '.join(missing)}; it has {table.column_names}")
    try:
        return EgoMotion(
            timestamps_us=_read_timestamps(table["timestamp"]),
            position_m=_read_columns(table, POSITION),
            quaternion_xyzw=_read_columns(table, QUATERNION),
            velocity_mps=_read_columns(table, VELOCITY),
            curvature_per_m=_read_columns(table, ("curvature",))[:, 0] if "curvature" in table.column_names else None,
        )
    except MotionError as error:
        raise MotionError(f"{place}: {error}") from error


def _read_timestamps(column) -> np.ndarray:
    import pyarrow as pa

    if not pa.types.is_integer(column.type):
        raise MotionError(f"column timestamp holds {column.type}, whole microseconds (int64) were expected")
    if column.null_count:
        raise MotionError(f"column timestamp is empty in {column.null_count} rows")
    return column.to_numpy().astype(np.int64)


def _read_columns(table, names: tuple[str, ...]) -> np.ndarray:
    """(N, len(names)) float64; an empty cell is NaN."""
    import pyarrow as pa

    for name in names:
        kind = table[name].type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise MotionError(f"column {name} holds {kind}, numbers were expected")
    return np.stack([table[name].cast(pa.float64()).to_numpy() for name in names], axis=1)
