"""The order of a folder's pictures is one thing, for the source that cuts it and for the reader that shows it."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from data_prep.segment_options import SegmentOptions
from data_prep.segments import run
from video_io import read_clip
from video_io.pictures import list_pictures


def test_pictures_named_by_number_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.png", "9.png", "100.png", "1.jpg", "._9.png", "notes.txt"):
        (tmp_path / name).touch()
    assert list_pictures(tmp_path) == ("1.jpg", "9.png", "10.png", "100.png")


def test_pictures_with_one_other_name_among_them_come_by_name(tmp_path):
    for name in ("10.png", "9.png", "a.png"):
        (tmp_path / name).touch()
    assert list_pictures(tmp_path) == ("10.png", "9.png", "a.png")


def test_an_index_row_over_unpadded_names_shows_the_frames_it_lists(tmp_path):
    pictures = tmp_path / "in" / "06" / "image_0"
    pictures.mkdir(parents=True)
    for index in range(31):
        Image.fromarray(np.full((32, 64), 8 * index, np.uint8)).save(pictures / f"{index}.png")
    (pictures.parent / "times.txt").write_text("".join(f"{index / 10}\n" for index in range(31)))
    (pictures.parent / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {index}\n" for index in range(31)))
    options = SegmentOptions(tmp_path / "in", tmp_path / "out", fps=10.0, cut="index", workers=1)
    assert run(options).num_segments == 2
    row = pq.read_table(tmp_path / "out" / "metadata" / "segments.parquet").to_pylist()[1]
    frames = read_clip(row["video_path"], fps=10, num_frames=10, frame_indices=row["frame_indices"])
    assert (frames[:, 0, 0, 0] // 8).tolist() == list(range(10, 20))
