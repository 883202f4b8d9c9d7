"""One synthetic recording: its plan, its clocks, and the bytes of its files.

    ClipPlan ──▶ camera instants ──▶ frames ──▶ .mp4 + .timestamps.parquet + .blurred_boxes.parquet
             └─▶ ego instants ─────────────────▶ .egomotion.parquet

The facts reproduced here were measured on a real PhysicalAI-AV clip: research/field.md 3.1.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.synthetic.camera import Camera
from data_prep.synthetic.draw import CLOCK_STREAM, META_STREAM, SPLIT_STREAM, random_stream
from data_prep.synthetic.motion import US_PER_S, Motion, trace_path
from data_prep.synthetic.render import SIGHT_M, Planes, Renderer
from data_prep.synthetic.scene import draw_scene

CAMERA_NAME = "camera_front_wide_120fov"
CAMERA_FPS = 30
CRF = 20
EXTRA_FRAMES = 5
EGO_START_S = -0.2
EGO_DENSE_TAIL_S = 0.1  # 100 Hz until this long after the clip's nominal end
EGO_SPARSE_TAIL_S = 13.1  # then 14.3 Hz until here
EGO_DENSE_US = 10_000
EGO_SPARSE_US = 70_000
CURVATURE_LEAD_US = 35_000
PLATFORM = "synthetic"  # what tells a drawn recording from a driven one, in every later file
COUNTRIES = ("Austria", "Czechia", "Finland", "France", "Germany", "Italy", "Spain", "United States")


@dataclass(frozen=True)
class ClipPlan:
    """What one recording shall be.

    Attributes:
        index: decides looks, clocks and id, together with the seed.
        clip_id: "" for the one that follows from seed and index.
        motion: the drive.
        split: "train", "val", "test"; "" for the one that follows from seed and index.
        is_valid: the `clip_is_valid` column.
        chunk: number of the archive it lies in; -1 for index // clips_per_chunk.
        ego_gaps_s: (start, stop) times without ego motion.
        country: "" for a drawn one.
    """

    motion: Motion
    index: int = -1
    clip_id: str = ""
    split: str = ""
    is_valid: bool = True
    chunk: int = -1
    ego_gaps_s: tuple[tuple[float, float], ...] = ()
    country: str = ""

    def digest(self) -> str:
        """A hash over everything that decides this recording's bytes, but for seed and picture size."""
        sha = hashlib.sha256()
        motion = self.motion
        for knots in (motion.speed_times_s, motion.speeds_mps, motion.road_m, motion.curvatures_per_m):
            sha.update(np.ascontiguousarray(knots).tobytes() + b"|")
        facts = (self.index, self.clip_id, self.split, self.is_valid, self.chunk, self.ego_gaps_s, self.country)
        sha.update(repr(facts).encode())
        return sha.hexdigest()


def make_clip_id(seed: int, index: int) -> str:
    """A version 4 UUID that follows from the seed and the index."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"synthetic {seed} {index}".encode()).digest()[:16], version=4))


def draw_split(seed: int, index: int) -> str:
    """7 train, 1 val and 2 test in every ten; the first three recordings are train, test, val."""
    block, place = divmod(index, 10)
    rest = random_stream(seed, block, SPLIT_STREAM).permutation(["train"] * 6 + ["test"])
    return ("train", "test", "val", *rest.tolist())[place]


def draw_metadata(seed: int, index: int, country: str = "") -> dict[str, Any]:
    """The row of metadata/data_collection.parquet."""
    rng = random_stream(seed, index, META_STREAM)
    drawn = COUNTRIES[rng.integers(len(COUNTRIES))]
    return {
        "country": country if country else drawn,
        "month": int(rng.integers(1, 13)),
        "hour_of_day": int(rng.integers(7, 20)),
        "platform_class": PLATFORM,
    }


def plan_camera_times(seed: int, index: int, seconds: float) -> np.ndarray:
    """(F,) int64 us: about 30 Hz with jitter, the first near but not at 0, up to just over `seconds`."""
    rng = random_stream(seed, index, CLOCK_STREAM)
    num_frames = int(np.ceil(seconds * CAMERA_FPS)) + EXTRA_FRAMES
    first_us = rng.uniform(-30_000, 8_000)
    period_us = US_PER_S / CAMERA_FPS * (1 + rng.uniform(-2e-4, 2e-4))
    jitter_us = np.clip(rng.normal(0, 700, num_frames), -2_000, 2_000)
    return np.round(first_us + np.arange(num_frames) * period_us + jitter_us).astype(np.int64)


def plan_ego_times(seed: int, index: int, seconds: float, gaps_s: tuple[tuple[float, float], ...] = ()) -> np.ndarray:
    """(N,) int64 us: 100 Hz from -0.2 s, 14.3 Hz after the clip's nominal end, without the gaps."""
    rng = random_stream(seed, index, CLOCK_STREAM + 100)
    dense_stop_us = (seconds + EGO_DENSE_TAIL_S) * US_PER_S
    dense = np.arange(EGO_START_S * US_PER_S, dense_stop_us, EGO_DENSE_US) + rng.uniform(0, 5_000)
    sparse = np.arange(dense[-1] + EGO_SPARSE_US, (seconds + EGO_SPARSE_TAIL_S) * US_PER_S, EGO_SPARSE_US)
    times_us = np.concatenate([dense, sparse])
    times_us = np.round(times_us + rng.uniform(-200, 200, len(times_us))).astype(np.int64)
    for start_s, stop_s in gaps_s:
        times_us = times_us[(times_us < start_s * US_PER_S) | (times_us >= stop_s * US_PER_S)]
    return times_us


def ego_table(motion: Motion, times_us: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of egomotion.parquet: velocity and acceleration in the anchor frame, curvature 35 ms early."""
    state = motion.sample(times_us)
    cosine, sine = np.cos(state.heading_rad), np.sin(state.heading_rad)
    sideways = state.velocity_mps**2 * state.curvature_per_m
    zero = np.zeros(len(times_us))
    return {
        "timestamp": times_us,
        "qx": zero,
        "qy": zero,
        "qz": np.sin(state.heading_rad / 2),
        "qw": np.cos(state.heading_rad / 2),
        "x": state.x_m,
        "y": state.y_m,
        "z": zero,
        "vx": state.velocity_mps * cosine,
        "vy": state.velocity_mps * sine,
        "vz": zero,
        "ax": state.acceleration_mps2 * cosine - sideways * sine,
        "ay": state.acceleration_mps2 * sine + sideways * cosine,
        "az": zero,
        "curvature": motion.sample(times_us + CURVATURE_LEAD_US).curvature_per_m,
    }


def draw_frames(plan: ClipPlan, seed: int, camera: Camera, times_us: np.ndarray) -> Iterator[Planes]:
    """The pictures at the sensor's instants."""
    distances_m = plan.motion.distance_m(times_us / US_PER_S)
    first_m, last_m = distances_m.min() - 20, distances_m.max() + SIGHT_M + 20
    path = trace_path(plan.motion, first_m, last_m)
    # Things beside the road begin well behind, so that their density near the start is that of everywhere else.
    renderer = Renderer(draw_scene(seed, plan.index, first_m - 150, last_m), path, camera)
    for distance_m in distances_m:
        yield renderer.draw(float(distance_m))


def encode_clip(frames: Iterable[Planes], camera: Camera) -> bytes:
    """An H.264 mp4 at exactly 30 frames a second from PTS 0, a key frame every 30, no B frames."""
    from video_io import VideoEncoder
    from video_io.scale import build_yuv420p

    memory = io.BytesIO()
    size = (camera.height, camera.width)
    with VideoEncoder(memory, size, CAMERA_FPS, crf=CRF, preset="ultrafast", key_interval=CAMERA_FPS) as encoder:
        for planes in frames:
            encoder.write(build_yuv420p(*planes))
    return memory.getvalue()


def parquet_bytes(columns: dict[str, np.ndarray]) -> bytes:
    """A parquet file of plain columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    memory = io.BytesIO()
    pq.write_table(pa.table(columns), memory)
    return memory.getvalue()


def camera_files(plan: ClipPlan, seed: int, seconds: float, camera: Camera) -> dict[str, bytes]:
    """The camera's members by name suffix; the video comes last.

    No real face or plate is in a drawn picture, so the table of blurred boxes has no rows.
    """
    times_us = plan_camera_times(seed, plan.index, seconds)
    boxes = {"frame_index": np.empty(0, np.int64)} | {name: np.empty(0) for name in ("x1", "y1", "x2", "y2")}
    return {
        "timestamps.parquet": parquet_bytes({"timestamp": times_us, "frame_index": np.arange(len(times_us))}),
        "blurred_boxes.parquet": parquet_bytes(boxes),
        "mp4": encode_clip(draw_frames(plan, seed, camera, times_us), camera),
    }


def ego_file(plan: ClipPlan, seed: int, seconds: float) -> bytes:
    """egomotion.parquet."""
    return parquet_bytes(ego_table(plan.motion, plan_ego_times(seed, plan.index, seconds, plan.ego_gaps_s)))
