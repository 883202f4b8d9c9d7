"""Recordings of which a part cannot be used: the segments over it are lost, the others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cutting import FPS, HEIGHT, WIDTH, cut, draw_recording, read_rows
from PIL import Image

from data_prep.segment_options import SegmentOptions
from data_prep.segments import run
from driving.errors import LedgerError
from driving.ledger import read_ledger
from video_io import write_video


def draw_paused(path, pause_s):
    """Five seconds of video with a pause after the frame at 1.9 s."""
    frames = (np.full((HEIGHT, WIDTH), 4 * index, np.uint8) for index in range(50))
    times_s = np.arange(50) / FPS + np.where(np.arange(50) >= 20, pause_s, 0)
    write_video(path, frames, FPS, pts_us=np.round(times_s * 1e6).astype(np.int64))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rec").mkdir()
    return tmp_path / "rec"


def test_a_pause_of_the_camera_costs_the_segments_over_it(folder):
    draw_paused(folder / "a.mp4", pause_s=3.0)
    cut(max_bad_fraction=0.9)
    # frames from 0 to 1.9 and from 5 to 7.9 s; eight seconds, so seven segments with a future
    assert [row["segment_uuid"] for row in read_rows()] == ["a_seg_00", "a_seg_01", "a_seg_05", "a_seg_06"]
    assert [skip.id for skip in read_ledger(Path("out/skipped.jsonl"))] == ["a_seg_02", "a_seg_03", "a_seg_04"]


def write_pictures(folder, num_pictures):
    pictures = folder / "06" / "image_0"
    pictures.mkdir(parents=True)
    for index in range(num_pictures):
        Image.fromarray(np.full((HEIGHT, WIDTH), 4 * index, np.uint8)).save(pictures / f"{index:06d}.png")
    (pictures.parent / "times.txt").write_text("".join(f"{index / 10}\n" for index in range(num_pictures)))
    (pictures.parent / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {i}\n" for i in range(num_pictures)))
    return pictures


def test_a_frame_that_cannot_be_read_costs_the_segments_that_show_it(folder):
    broken = write_pictures(folder, 41) / "000015.png"
    data = bytearray(broken.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF  # its header and its end stay as they were
    broken.write_bytes(data)
    options = SegmentOptions(folder, Path("out"), fps=10.0, video_frame_pixels=HEIGHT * WIDTH, workers=1)
    assert run(options).num_segments == 2
    assert [row["segment_uuid"] for row in read_rows()] == ["06_seg_00", "06_seg_02"]
    (skip,) = [skip for skip in read_ledger(Path("out/skipped.jsonl")) if skip.stage == "cut"]
    assert skip.id == "06_seg_01"
    assert "000015.png" in skip.reason
    assert sorted(path.name for path in Path("out/video_segments").iterdir()) == ["06_seg_00.mp4", "06_seg_02.mp4"]


def test_a_recording_whose_name_looks_like_a_segments_is_counted_as_a_recording(folder):
    draw_recording(folder / "good.mp4")
    for index in range(4):
        draw_recording(folder / f"x_seg_{index:02d}.mp4", fps=5)  # too slow: refused as a whole, at stage "frames"
    with pytest.raises(LedgerError, match="4 of 5 samples are bad"):
        cut()
