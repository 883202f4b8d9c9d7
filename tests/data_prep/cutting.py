"""Small numbered videos to cut into segments, and the stage called on them. Not a test itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from data_prep.segment_options import SegmentOptions
from data_prep.segments import run
from video_io import write_video

HEIGHT, WIDTH, FPS, SECONDS = 32, 64, 10, 4
SEGMENTS = SECONDS - 1


def draw_recording(path, first_grey=10, seconds=SECONDS, fps=FPS, **encoding):
    """A video whose frame number is its grey level, four levels apart."""
    frames = (np.full((HEIGHT, WIDTH), first_grey + 4 * index, np.uint8) for index in range(round(seconds * fps)))
    write_video(path, frames, fps, **{"crf": 1, **encoding})


def draw_recordings(folder, names="abc"):
    """Videos a.mp4, b.mp4, c.mp4 in `folder`/rec, each twenty levels brighter than the one before."""
    (folder / "rec").mkdir()
    for place, name in enumerate(names):
        draw_recording(folder / "rec" / f"{name}.mp4", first_grey=10 + 20 * place)
    return folder / "rec"


def cut(output="out", **options):
    base = {"fps": float(FPS), "video_frame_pixels": HEIGHT * WIDTH, "workers": 1, "allow_one_recording": True}
    return run(SegmentOptions(input_dir=Path("rec"), output_dir=Path(output), **(base | options)))


def read_rows(output="out"):
    return pq.read_table(f"{output}/metadata/segments.parquet").to_pylist()


def without_plan(tree):
    return {name: data for name, data in tree.items() if name not in ("plan.json", "manifest.json")}
