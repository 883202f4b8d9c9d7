"""NVIDIA PhysicalAI-Autonomous-Vehicles: the Hub's layout, and the folders that seed 002 extracts it into.

    features.csv, clip_index.parquet, chunk zips ──plan_hub────────┐
                                                                   ├──▶ RecordingRef ──read──▶ Recording
    camera_chunk_XXXX/, ego_motion_chunk_XXXX/   ──plan_extracted──┘

One clip is one recording and one group: no session id is published. Its clock zero is the clip anchor (0 us); the first
frame lies a little before or after it. Ego motion is the feature `egomotion`, the one that every clip has;
`egomotion.offline` is not read.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from data_prep.sources.camera_tables import EXTRINSICS, INTRINSICS, read_camera
from data_prep.sources.clip_table import DEFAULT_SPLIT, read_clip_table
from data_prep.sources.ego_motion_table import find_ego_motion, parse_ego_motion, read_ego_motion_file
from data_prep.sources.names import check_camera, check_usable, mark_repeated
from data_prep.sources.physical_ai_extracted import find_extracted_cameras, is_extracted, plan_extracted
from data_prep.sources.physical_ai_hub import find_hub_cameras, is_hub, plan_hub, read_features
from data_prep.zips import read_member
from driving.camera import CameraModel
from driving.errors import MotionError, SourceError
from driving.recording import Recording, RecordingRef, VideoAddress

__all__ = ["DEFAULT_CAMERA", "PhysicalAI", "find_ego_motion", "read_ego_motion_file", "read_frame_times"]

DEFAULT_CAMERA = "camera_front_wide_120fov"


class PhysicalAI:
    """PhysicalAI-AV recordings under one folder, in either layout or both.

    Args:
        split_name: the table under splits/ to take the official split from.
    """

    name = "physical_ai"
    layout = "features.csv with clip_index.parquet (the Hub's layout), or camera_chunk_*/ folders (extracted)"

    def __init__(self, split_name: str = DEFAULT_SPLIT) -> None:
        self.split_name = split_name

    def recognises(self, root: Path) -> bool:
        return is_hub(root) or is_extracted(root)

    def plan(self, root: Path, camera: str = "") -> list[RecordingRef]:
        """Every clip of every chunk whose camera files are here; what a clip lacks is its fault.

        Clips of chunks that were not downloaded, and clips in an archive that the index no longer lists (NVIDIA
        withdrew some), are not listed.

        Raises:
            SourceError: The folder, its tables or the camera cannot be used.
        """
        if not self.recognises(root):
            raise SourceError(f"{root} holds no PhysicalAI-AV recordings; looked for {self.layout}")
        camera = camera or DEFAULT_CAMERA
        features = read_features(root) if is_hub(root) else None
        cameras = find_extracted_cameras(root) | (find_hub_cameras(root, features) if features else set())
        check_camera(camera, sorted(cameras), root)
        table = read_clip_table(root, self.split_name)
        refs = plan_extracted(root, camera, table)
        if features:
            refs += plan_hub(root, camera, features, table)
        if not refs:
            raise SourceError(f"clip_index.parquet of {root} lists no clip of the chunks of {camera} that are there")
        return mark_repeated(refs, [_describe_place(ref) for ref in refs])

    def read(self, ref: RecordingRef) -> Recording:
        """Open one clip: frame timestamps and ego motion; the video stays where it is.

        Raises:
            SourceError: The listing found a fault, or an archive or the timestamps are damaged.
            MotionError: The ego motion is damaged.
        """
        check_usable(ref)
        path, member = ref.place["ego_motion"]
        return Recording(
            ref=ref,
            video=VideoAddress(*ref.place["video"]),
            frame_times_us=read_frame_times(*ref.place["frame_times"]),
            clock_zero_us=0,
            ego_motion=parse_ego_motion(_read_bytes(path, member), _describe(path, member)),
            camera=_read_camera(ref),
        )


def read_frame_times(path: str, member: str = "") -> np.ndarray:
    """(F,) int64 us from the clip anchor: row i of a camera's `timestamps.parquet` is frame i of its video.

    Raises:
        SourceError: The table is damaged, or its times do not increase, or its frames are not counted one by one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = _describe(path, member)
    try:
        table = pq.ParquetFile(io.BytesIO(_read_bytes(path, member))).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{place} is not a whole parquet table ({error}); download it again") from error
    if "timestamp" not in table.column_names:
        raise SourceError(f"{place} has no column timestamp; it has {table.column_names}")
    column = table["timestamp"]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise SourceError(f"{place}: column timestamp holds {column.type}, whole microseconds (int64) were expected")
    times = column.to_numpy().astype(np.int64)
    backwards = np.flatnonzero(np.diff(times) <= 0)
    if len(backwards):
        row = int(backwards[0]) + 1
        raise SourceError(
            f"{place}: frame timestamps do not increase at row {row}: {times[row - 1]} us, then {times[row]} us"
        )
    if "frame_index" in table.column_names:
        numbers = table["frame_index"].to_numpy()
        jumps = np.flatnonzero(np.diff(numbers) != 1)
        if len(jumps):
            row = int(jumps[0]) + 1
            raise SourceError(f"{place}: frame_index goes from {numbers[row - 1]} to {numbers[row]} at row {row}")
    return times


def _read_camera(ref: RecordingRef) -> CameraModel | None:
    if "calibration" not in ref.place:
        return None
    tables = ref.place["calibration"]
    return read_camera(tables[INTRINSICS], tables[EXTRINSICS], ref.group, ref.place["camera"])


def describe_coverage(root: Path, camera: str = "") -> str:
    """How much of the dataset is here, for a line of output: what was not downloaded is no fault of any clip."""
    table = read_clip_table(root)
    if table is None or not is_hub(root):
        return ""
    camera = camera or DEFAULT_CAMERA
    features = read_features(root)
    num_here = sum((root / features[camera].chunk_path(chunk)).is_file() for chunk in table.chunks)
    return f"{num_here:,} of the {len(table.chunks):,} chunks of {camera} that clip_index.parquet lists are here"


def _read_bytes(path: str, member: str) -> bytes:
    if member:
        return read_member(Path(path), member)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        kind = MotionError if path.endswith(".egomotion.parquet") else SourceError
        raise kind(f"{path} cannot be read ({error.strerror}); download it again") from error


def _describe(path: str, member: str) -> str:
    return f"{path}:{member}" if member else path


def _describe_place(ref: RecordingRef) -> str:
    return _describe(*ref.place["video"])
