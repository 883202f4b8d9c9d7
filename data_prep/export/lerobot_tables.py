"""The tables and papers of a LeRobot v3.0 dataset. T = frames of an episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.export.rows import Record, Rows, read_cut
from driving.errors import DrivingError

if TYPE_CHECKING:
    import pyarrow as pa

CAMERA = "observation.images.front"
AXES = ["velocity_mps", "curvature_per_m"]
FILE_NAME = "chunk-{chunk_index:03d}/file-{file_index:03d}"


@dataclass(frozen=True)
class Layout:
    """What all episodes share: T, frames a second, and the size of a frame in px."""

    num_frames: int
    fps: int
    height: int
    width: int


def read_layout(rows: Rows) -> Layout:
    """The layout of a dataset's episodes.

    Raises:
        DrivingError: LeRobot has no room for it: frames at their recorded times, a rate that is no whole number,
            several frame sizes.
    """
    facts = rows.facts
    cut = read_cut(facts)
    if cut not in ("resized", "scaled"):
        raise DrivingError(
            f"the segments of {rows.folder} were cut with --cut {cut or '(not known)'}; LeRobot takes frames at "
            "index / fps only, as --cut resized or scaled gives them"
        )
    if facts["fps"] != int(facts["fps"]):
        raise DrivingError(f"LeRobot knows whole frames a second, {rows.folder} has {facts['fps']:g}; cut with --fps")
    if len(facts["frame_sizes"]) != 1:
        sizes = ", ".join(facts["frame_sizes"])
        raise DrivingError(
            f"LeRobot needs frames of one size, {rows.folder} has {sizes}; export one --camera or source"
        )
    height, width = map(int, next(iter(facts["frame_sizes"])).split("x"))
    return Layout(facts["num_frames"], int(facts["fps"]), height, width)


def build_frame_table(layout: Layout, first: int, truths: Sequence[Record]) -> pa.Table:
    """A row a frame of the episodes `first`, `first + 1`, ..."""
    import pyarrow as pa

    num, length = len(truths), layout.num_frames
    frame = np.tile(np.arange(length), num)

    def pairs(name: str) -> pa.Array:
        values = np.array([truth[name] for truth in truths], np.float32)
        if values.shape != (num, length, 2):
            raise DrivingError(f"{name} of some rows holds not {length} pairs, one a frame; make the dataset again")
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2)

    return pa.table(
        {
            "observation.state": pairs("observed"),
            "action": pairs("targets"),
            "timestamp": (frame / layout.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.repeat(np.arange(first, first + num), length),
            "index": np.arange(first * length, (first + num) * length),
            "task_index": np.zeros(num * length, np.int64),
        }
    )


def build_episode_table(layout: Layout, shard: int, first: int, truths: Sequence[Record], task: str) -> pa.Table:
    """A row an episode: its rows, its stretch of video, and what we know it by."""
    import pyarrow as pa

    num, length = len(truths), layout.num_frames
    index = np.arange(first, first + num)
    place = np.arange(num)
    chunk, file = np.full(num, shard // 1000), np.full(num, shard % 1000)
    return pa.table(
        {
            "episode_index": index,
            "tasks": [[task]] * num,
            "length": np.full(num, length),
            "dataset_from_index": index * length,
            "dataset_to_index": (index + 1) * length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            f"videos/{CAMERA}/chunk_index": chunk,
            f"videos/{CAMERA}/file_index": file,
            f"videos/{CAMERA}/from_timestamp": place * length / layout.fps,
            f"videos/{CAMERA}/to_timestamp": (place + 1) * length / layout.fps,
            "meta/episodes/chunk_index": chunk,
            "meta/episodes/file_index": file,
            **{name: [truth[column] for truth in truths] for name, column in _KNOWN_BY.items()},
        }
    )


_KNOWN_BY = {"segment_uuid": "id", "group": "group", "split": "split"}


def describe_features(layout: Layout, codec: str) -> dict[str, Any]:
    """The `features` of meta/info.json."""
    video = {
        "video.height": layout.height,
        "video.width": layout.width,
        "video.channels": 3,
        "video.codec": codec,
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": layout.fps,
        "has_audio": False,
    }
    pair = {"dtype": "float32", "shape": [2], "names": AXES}
    shape = [layout.height, layout.width, 3]
    steps = {name: {"dtype": "int64", "shape": [1], "names": None} for name in _STEPS}
    return {
        CAMERA: {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"], "info": video},
        "observation.state": pair,
        "action": pair,
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **steps,
    }


_STEPS = ("frame_index", "episode_index", "index", "task_index")


def format_info(layout: Layout, splits: dict[str, int], features: dict[str, Any]) -> dict[str, Any]:
    """meta/info.json."""
    stops = np.cumsum(list(splits.values())).tolist()
    return {
        "codebase_version": "v3.0",
        "robot_type": "car",
        "total_episodes": stops[-1],
        "total_frames": stops[-1] * layout.num_frames,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": layout.fps,
        "splits": {name: f"{stop - splits[name]}:{stop}" for name, stop in zip(splits, stops, strict=True)},
        "data_path": f"data/{FILE_NAME}.parquet",
        "video_path": f"videos/{{video_key}}/{FILE_NAME}.mp4",
        "features": features,
    }
