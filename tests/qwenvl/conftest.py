"""A few drawn clips and a training JSON, made once for the whole session."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

QUESTION = "Where does the car go? Answer with 2 pairs."


def draw_clip(path: Path, num_frames: int, height: int, width: int, shade: int, fps: int = 10) -> None:
    """A clip whose frame i is grey level shade + 10 i with a moving bar."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(num_frames):
            frame = np.full((height, width, 3), (shade + 10 * index) % 256, np.uint8)
            frame[:, (4 * index) % width : (4 * index) % width + 8] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def make_row(index: int, answer: str) -> dict:
    return {
        "id": f"clip{index:02d}_seg_00",
        "group": f"clip{index // 2:02d}",
        "video": f"videos/{index:02d}.mp4",
        "conversations": [
            {"from": "system", "value": "You drive."},
            {"from": "human", "value": f"<video>\n{QUESTION}"},
            {"from": "gpt", "value": answer},
        ],
    }


def write_training_folder(folder: Path, num_rows: int) -> Path:
    """train.json with `num_rows` rows of 10 frames of 64x96; answers differ in length."""
    rows = []
    for index in range(num_rows):
        draw_clip(folder / f"videos/{index:02d}.mp4", 10, 64, 96, shade=20 * index)
        pairs = [f"({index}.{digit}, -0.00{digit}{index % 10})" for digit in range(1 + index % 3)]
        rows.append(make_row(index, "[" + ", ".join(pairs) + "]"))
    path = folder / "train.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="session")
def training_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A train.json of 10 rows from 5 recordings."""
    return write_training_folder(tmp_path_factory.mktemp("data"), 10)


@pytest.fixture(scope="session")
def draw():
    """draw(path, num_frames, height, width, shade, fps): write a clip whose frame i has grey level shade + 10 i."""
    return draw_clip


@pytest.fixture(scope="session")
def processor(tiny_model: Path):
    from qwenvl.train.loading import load_processor

    return load_processor(tiny_model)
