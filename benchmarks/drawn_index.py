"""An index of segments as large as one likes: the real columns, smooth drives, no videos behind them.

    write_index(folder, 100_000) ──▶ folder/metadata/segments.parquet

What weighs in a real index weighs here: 30 target and 30 observed pairs, poses for 6.4 s, the camera and all that the
source said, official splits. Every number has its full mantissa, so nothing compresses that would not.
R = recordings of a batch, S = 19 segments of a recording, T = 30 samples of a second, P = 192 poses after the first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.chunks import ROWS_PER_GROUP
from data_prep.segment_labels import FUTURE_S
from data_prep.segment_rows import open_row_writer, row_schema
from data_prep.synthetic.clip import draw_metadata, draw_split, make_clip_id
from driving.camera import CameraModel, format_camera
from driving.motion_bins import mean_acceleration_mps2, mean_speed_mps, turn_deg
from driving.whole_files import dump_json

SEGMENTS = 19  # of a recording of 20 s: the last second has no next one
FPS = 30
NUM_POSES = round(FUTURE_S * FPS) + 1
SECONDS = SEGMENTS + FUTURE_S + 1
CHUNK_RECORDINGS = 100
BATCH = ROWS_PER_GROUP // SEGMENTS + 1
SEED = 7


def write_index(folder: Path, num_rows: int) -> Path:
    """Write an index of exactly `num_rows` segments; the same number gives the same bytes.

    Returns:
        The folder of the segments.
    """
    path = folder / "metadata" / "segments.parquet"
    path.parent.mkdir(parents=True)
    num_recordings = -(-num_rows // SEGMENTS)
    ids = sorted(make_clip_id(SEED, index) for index in range(num_recordings))
    with path.open("wb") as file, open_row_writer(file) as writer:
        for start in range(0, num_recordings, BATCH):
            table = draw_rows(ids[start : start + BATCH], start)
            writer.write_table(table.slice(0, num_rows - start * SEGMENTS))
    return folder


def draw_rows(recording_ids: list[str], first: int) -> pa.Table:
    """All segments of some recordings, of which the first is the dataset's `first`."""
    rng = np.random.default_rng((SEED, first))
    velocity, curvature, poses = _draw_drives(rng, len(recording_ids))
    starts = FPS * np.arange(SEGMENTS)
    observed, targets = (
        np.stack([series[:, offset[:, None] + np.arange(FPS)] for series in (velocity, curvature)], axis=-1)
        for offset in (starts, starts + FPS)
    )
    future = _seen_from_start(poses[:, (starts + FPS)[:, None] + np.arange(NUM_POSES)])
    num_rows = len(recording_ids) * SEGMENTS
    columns = {
        **_describe_rows(recording_ids, first),
        "targets": _nest(targets.reshape(num_rows, FPS, 2)),
        "observed": _nest(observed.reshape(num_rows, FPS, 2)),
        "future_pose": _nest(future.reshape(num_rows, NUM_POSES, 3)),
        "future_times_s": pa.array([(np.arange(NUM_POSES) / FPS).tolist()] * num_rows, pa.list_(pa.float64())),
        "mean_speed_mps": mean_speed_mps(targets[..., 0].reshape(num_rows, FPS)),
        "turn_deg": turn_deg(future.reshape(num_rows, NUM_POSES, 3)[:, : FPS + 1]),
        "mean_acceleration_mps2": mean_acceleration_mps2(targets[..., 0].reshape(num_rows, FPS), 1 / FPS),
    }
    schema = row_schema()
    arrays = [
        columns[name] if isinstance(columns.get(name), pa.Array) else _fill(columns.get(name), num_rows, kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _draw_drives(rng: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R, N) speed and curvature of N samples, and the (R, N + 1, 3) poses between them."""
    times_s = (np.arange(round(SECONDS * FPS)) + 0.5) / FPS

    def wave(low: float, high: float) -> np.ndarray:
        size, rate, phase = (
            rng.uniform(low, high, (num, 1)),
            rng.uniform(0.1, 0.6, (num, 1)),
            rng.uniform(0, 6, (num, 1)),
        )
        return size * np.sin(rate * times_s + phase)

    velocity = rng.uniform(0, 28, (num, 1)) + wave(0, 3)
    curvature = rng.normal(0, 0.004, (num, 1)) + wave(0, 0.01)
    turned, way = velocity * curvature / FPS, velocity / FPS
    heading = np.cumsum(turned, axis=1)
    middle = heading - turned / 2
    steps = [way * np.cos(middle), way * np.sin(middle)]
    edges = [np.cumsum(step, axis=1) for step in steps] + [heading]
    return velocity, curvature, np.pad(np.stack(edges, axis=-1), ((0, 0), (1, 0), (0, 0)))


def _seen_from_start(poses: np.ndarray) -> np.ndarray:
    """(R, S, P + 1, 3) poses in the frame of the first of each segment."""
    moved = poses - poses[:, :, :1]
    cosine, sine = np.cos(poses[:, :, :1, 2]), np.sin(poses[:, :, :1, 2])
    x, y = moved[..., 0], moved[..., 1]
    return np.stack([cosine * x + sine * y, cosine * y - sine * x, moved[..., 2]], axis=-1)


def _describe_rows(recording_ids: list[str], first: int) -> dict[str, list]:
    """What is said of a segment beside its labels."""
    said = []
    for place, recording_id in enumerate(recording_ids, first):
        metadata = {"chunk": place // CHUNK_RECORDINGS, **draw_metadata(SEED, place), "platform_class": "hyperion_8"}
        lens = 0.5 + 0.001 * (place % 20)
        radius = (0.0, 0.79, 0.04, 0.09, 0.25)
        camera = CameraModel("f_theta", (1.0, 1.5), (lens, 0.42), (1.7, 0.0, 1.4), (-0.5, 0.5, -0.5, 0.5), radius)
        for second in range(SEGMENTS):
            segment = f"{recording_id}_seg_{second:02d}"
            said.append(
                {
                    "segment_uuid": segment, "clip_uuid": recording_id, "start_second": float(second),
                    "video_path": f"qwen_video_segments/video_segments/{segment}.mp4", "fps": float(FPS),
                    "num_frames": FPS, "height": 256, "width": 448, "source": "physical_ai", "group": recording_id,
                    "split": draw_split(SEED, place), "country": metadata["country"],
                    "hour": metadata["hour_of_day"], "platform": metadata["platform_class"],
                    "camera": format_camera(camera), "metadata": dump_json(metadata), "has_labels": True,
                }
            )  # fmt: skip
    return {name: [row[name] for row in said] for name in said[0]}


def _nest(values: np.ndarray) -> pa.Array:
    """(N, T, K) -> N lists of T lists of K numbers."""
    num, length, width = values.shape
    inner = pa.ListArray.from_arrays(np.arange(num * length + 1, dtype=np.int32) * width, pa.array(values.reshape(-1)))
    return pa.ListArray.from_arrays(np.arange(num + 1, dtype=np.int32) * length, inner)


def _fill(values: object, num_rows: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(num_rows, kind) if values is None else pa.array(values, kind)
