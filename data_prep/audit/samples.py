"""A recording as it lies in the files, before any reader has refused or mended anything.

The sources raise on disorder; the audit must see it, name it and go on, so PhysicalAI-AV tables are read here column by
column. N = ego rows, F = frames.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from driving.clock import US_PER_S
from driving.ego_motion import EgoMotion
from driving.errors import SourceError
from driving.recording import Recording, RecordingRef, VideoAddress
from driving.rotation import heading_rad, rotation_matrices

MAX_STEP_US = 150_000  # neighbours further apart say nothing about a derivative


@dataclass(frozen=True)
class Samples:
    """Raw columns of one recording.

    Attributes:
        timestamps_us: (N,) int64 in file order.
        position_m, quaternion_xyzw, velocity_mps: (N, 3), (N, 4), (N, 3) or None.
        curvature_per_m: (N,) or None.
        frame_times_us: (F,) from the sensor's own file, or None.
        video: address of the pixels, or None.
        clock_zero_us: the instant segment 0 starts at, or None for the first frame.
    """

    recording_id: str
    timestamps_us: np.ndarray
    position_m: np.ndarray
    quaternion_xyzw: np.ndarray
    velocity_mps: np.ndarray | None
    curvature_per_m: np.ndarray | None
    frame_times_us: np.ndarray | None
    video: VideoAddress | None
    clock_zero_us: int | None = 0

    @cached_property
    def ordered(self) -> Samples:
        """The same rows by time, each instant once, finite, with unit quaternions: what the other checks work on."""
        norms = np.linalg.norm(self.quaternion_xyzw, axis=1)
        is_good = np.isfinite(self.position_m).all(axis=1) & np.isfinite(norms) & (norms > 1e-6)
        times, first = np.unique(self.timestamps_us[is_good], return_index=True)
        rows = np.flatnonzero(is_good)[first]
        return replace(
            self,
            timestamps_us=times,
            position_m=self.position_m[rows],
            quaternion_xyzw=self.quaternion_xyzw[rows] / norms[rows, None],
            velocity_mps=None if self.velocity_mps is None else self.velocity_mps[rows],
            curvature_per_m=None if self.curvature_per_m is None else self.curvature_per_m[rows],
        )

    @cached_property
    def heading_rad(self) -> np.ndarray:
        """(N,) unwrapped, of ordered samples."""
        return heading_rad(self.quaternion_xyzw)

    @cached_property
    def is_inner(self) -> np.ndarray:
        """(N,) rows with a neighbour on both sides, near and about equally far: where a central difference is good."""
        steps = np.diff(self.timestamps_us)
        good = np.zeros(len(self.timestamps_us), bool)
        if len(steps) > 1:
            longer = np.maximum(steps[1:], steps[:-1])
            good[1:-1] = (longer <= MAX_STEP_US) & (longer <= 1.5 * np.minimum(steps[1:], steps[:-1]))
        return good

    @cached_property
    def derivative_mps(self) -> np.ndarray:
        """(N, 3) dX/dt by central differences; meaningful where `is_inner`."""
        out = np.zeros_like(self.position_m)
        span_s = (self.timestamps_us[2:] - self.timestamps_us[:-2]) / US_PER_S
        out[1:-1] = (self.position_m[2:] - self.position_m[:-2]) / span_s[:, None]
        return out

    def to_body(self, vectors: np.ndarray) -> np.ndarray:
        """(N, 3) vectors of the fixed frame, seen from the body: x forward, y left, z up."""
        return np.einsum("nji,nj->ni", rotation_matrices(self.quaternion_xyzw), vectors)


def read_samples(ref: RecordingRef, recording: Recording | None) -> Samples:
    """The raw columns behind a ref; `recording` is what its source read, or None where the source refused it.

    Raises:
        SourceError: The tables themselves cannot be read.
    """
    if ref.source == "physical_ai":
        return _read_physical_ai(ref)
    if ref.source == "comma2k19" and recording is None:  # its motion can be judged without its video
        from data_prep.sources.comma2k19 import read_motion

        return _from_motion(ref.recording_id, read_motion(Path(ref.place["folder"])))
    if recording is None:
        raise SourceError(f"{ref.recording_id} could not be read by the source {ref.source}")
    if recording.ego_motion is None:
        raise SourceError(f"{ref.recording_id} has no ego motion")
    return replace(
        _from_motion(ref.recording_id, recording.ego_motion),
        frame_times_us=recording.frame_times_us,
        video=recording.video,
        clock_zero_us=recording.clock_zero_us,
    )


def _from_motion(recording_id: str, motion: EgoMotion) -> Samples:
    return Samples(
        recording_id=recording_id,
        timestamps_us=motion.timestamps_us,
        position_m=motion.position_m,
        quaternion_xyzw=motion.quaternion_xyzw,
        velocity_mps=motion.velocity_mps,
        curvature_per_m=motion.curvature_per_m,
        frame_times_us=None,
        video=None,
    )


def _read_physical_ai(ref: RecordingRef) -> Samples:
    ego = _read_table(*ref.place["ego_motion"])
    frames = _read_table(*ref.place["frame_times"])
    return Samples(
        recording_id=ref.recording_id,
        timestamps_us=_column(ego, "timestamp").astype(np.int64),
        position_m=np.stack([_column(ego, name) for name in ("x", "y", "z")], axis=1),
        quaternion_xyzw=np.stack([_column(ego, name) for name in ("qx", "qy", "qz", "qw")], axis=1),
        velocity_mps=np.stack([_column(ego, name) for name in ("vx", "vy", "vz")], axis=1),
        curvature_per_m=_column(ego, "curvature") if "curvature" in ego.column_names else None,
        frame_times_us=_column(frames, "timestamp").astype(np.int64),
        video=VideoAddress(*ref.place["video"]),
    )


def _column(table, name: str) -> np.ndarray:
    if name not in table.column_names:
        raise SourceError(f"there is no column {name}; the table has {', '.join(table.column_names)}")
    return table[name].to_numpy().astype(np.float64)


def _read_table(path: str, member: str):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_prep.zips import read_member

    try:
        data = read_member(Path(path), member) if member else Path(path).read_bytes()
        return pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} {member} cannot be read as a parquet table ({error})") from error
