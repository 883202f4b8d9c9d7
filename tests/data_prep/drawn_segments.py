"""An index of segments with plain labels, for tests of what comes after the segments. Not a test itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.dataset_options import DatasetOptions
from data_prep.hf_dataset import run
from data_prep.segment_rows import row_schema

NUM_FRAMES = 4
FPS = 4.0


def make_row(clip: str, second: int, **changes: Any) -> dict[str, Any]:
    """One segment of a left turn at 10 m/s: 4 frames a second, four answer pairs, poses for one second."""
    segment = f"{clip}_seg_{second:02d}"
    row = {
        "segment_uuid": segment,
        "clip_uuid": clip,
        "start_second": float(second),
        "video_path": f"segments/video_segments/{segment}.mp4",
        "fps": FPS,
        "num_frames": NUM_FRAMES,
        "height": 64,
        "width": 96,
        "source": "physical_ai",
        "group": clip,
        "split": "",
        "country": "Germany",
        "hour": 13,
        "metadata": '{"country": "Germany"}',
        "has_labels": True,
        "targets": [[10.0 + second, 0.01]] * NUM_FRAMES,
        "observed": [[9.0 + second, 0.01]] * NUM_FRAMES,
        "future_pose": [[2.5 * step, 0.0, 0.025 * step] for step in range(NUM_FRAMES + 1)],
        "future_times_s": [step / FPS for step in range(NUM_FRAMES + 1)],
    }
    return row | changes


def make_rows(num_clips: int, num_segments: int = 5, **changes: Any) -> list[dict[str, Any]]:
    """Segments of clips `clip000`, `clip001`, ..., in order."""
    return [make_row(f"clip{c:03d}", s, **changes) for c in range(num_clips) for s in range(num_segments)]


def write_index(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write `metadata/segments.parquet` with exactly the columns of the segments stage; returns its path."""
    path = folder / "metadata" / "segments.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=row_schema()), path)
    return path


def prepare(folder: Path, rows: list[dict], **options) -> Path:
    """Write an index of `rows`, make a dataset of it and return its folder."""
    write_index(folder / "segments", rows)
    output = folder / "dataset"
    run(options_for(folder, **options))
    return output


def options_for(folder: Path, **options) -> DatasetOptions:
    given = {"segments_path": folder / "segments", "output_dir": folder / "dataset", "fps": 4.0} | options
    return DatasetOptions(**given)
