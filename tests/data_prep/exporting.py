"""A small dataset with real videos to export, in both its forms. Not a test itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from drawn_segments import FPS, NUM_FRAMES, make_rows, prepare

from data_prep.export.tool import ExportOptions, run
from data_prep.training_format import ConvertOptions
from data_prep.training_format import run as convert
from video_io import write_video

HEIGHT, WIDTH = 64, 96
NUM_CLIPS, NUM_SEGMENTS = 6, 3


def make_datasets(folder: Path, num_clips: int = NUM_CLIPS, cut: str = "resized", **changes: Any) -> Path:
    """dataset/ and training/ of a few clips under `folder`, with their segments/; paths start from `folder`."""
    rows = make_rows(num_clips, NUM_SEGMENTS, **({"source": "kitti"} | changes))
    for number, row in enumerate(rows):
        draw_segment(folder / row["video_path"], first_grey=number)
    plan = {"stage": "segments", "cut": cut}
    (folder / "segments" / "manifest.json").write_text(json.dumps({"plan": plan, "summary": {}}))
    convert(ConvertOptions(prepare(folder, rows), folder / "training"))
    return folder


def draw_segment(path: Path, first_grey: int) -> None:
    """Frame i of a segment is grey, 40 levels apart from the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    greys = (40 + first_grey + 40 * index for index in range(NUM_FRAMES))
    write_video(path, (np.full((HEIGHT, WIDTH), grey, np.uint8) for grey in greys), FPS, crf=1, preset="ultrafast")


def export(folder: Path, form: str, source: str = "training", output: str = "", **options: Any) -> Path:
    """Export one of the two datasets of `make_datasets`, standing in its folder; returns the export's folder."""
    os.chdir(folder)
    target = folder / (output or f"{form}_{source}")
    run(ExportOptions(form, target, folder / source, **options))
    return target


def read_training(folder: Path, split: str) -> list[dict[str, Any]]:
    return json.loads((folder / "training" / f"{split}.json").read_text(encoding="utf-8"))
