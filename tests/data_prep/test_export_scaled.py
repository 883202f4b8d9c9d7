"""Exports of rows that read their second out of a chunk's archive (`--cut scaled`): every clip is cut out of it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from drawn_segments import FPS, NUM_FRAMES, make_rows, prepare
from exporting import HEIGHT, WIDTH, export

from data_prep.chunk_videos import archive_path, pack_videos, waiting_path
from data_prep.export.cut_out import cut_out
from data_prep.scaled_video import ScaledPlan, encode_scaled
from data_prep.training_format import ConvertOptions
from data_prep.training_format import run as convert
from driving.errors import DrivingError, VideoError
from driving.recording import VideoAddress
from video_io import copy_range, decode_frames, join_videos, probe_video, write_video

NUM_CLIPS, NUM_SEGMENTS = 6, 3
SPLITS = ("train", "val", "test")
JITTER_US = (0, 21_000, -17_000, 9_000)  # of the frames of a second from their even places


def grey_of(clip: int, second: int, frame: int) -> int:
    return 40 + 3 * (clip * NUM_SEGMENTS + second) + 40 * frame


def write_recording(folder: Path, clip: int) -> None:
    """The seconds of a clip behind one another, frames at uneven times; waits to be packed."""
    greys = [grey_of(clip, second, frame) for second in range(NUM_SEGMENTS) for frame in range(NUM_FRAMES)]
    raw = folder / "raw.mp4"
    write_video(raw, (np.full((HEIGHT, WIDTH), grey, np.uint8) for grey in greys), FPS, crf=1, preset="ultrafast")
    steps = np.arange(len(greys))
    times_us = steps * 250_000 + np.tile(JITTER_US, NUM_SEGMENTS)
    plan = ScaledPlan(steps, times_us, steps % NUM_FRAMES == 0, 0)
    address, path = VideoAddress(str(raw)), waiting_path(folder / "segments", f"clip{clip:03d}")
    encode_scaled(address, probe_video(address), plan, path, fps=FPS, size=(HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """segments/, dataset/ and training/ of six clips whose videos are in one archive."""
    folder = tmp_path_factory.mktemp("scaled")
    rows = make_rows(NUM_CLIPS, NUM_SEGMENTS, source="kitti", video_path="segments/videos/batch_00000.zip")
    for number, row in enumerate(rows):
        second = number % NUM_SEGMENTS
        row |= {"member": f"{row['clip_uuid']}.mp4", "video_start": float(second), "video_end": second + 1.0}
        row["frame_indices"] = list(range(second * NUM_FRAMES, (second + 1) * NUM_FRAMES))
    for clip in range(NUM_CLIPS):
        write_recording(folder, clip)
    pack_videos(folder / "segments", "batch_00000", [f"clip{clip:03d}" for clip in range(NUM_CLIPS)])
    plan = {"stage": "segments", "cut": "scaled"}
    (folder / "segments" / "manifest.json").write_text(json.dumps({"plan": plan, "summary": {}}))
    convert(ConvertOptions(prepare(folder, rows), folder / "training"))
    return folder


@pytest.fixture(autouse=True)
def stay(monkeypatch, folder):
    monkeypatch.chdir(folder)


def expected_greys(sample_id: str) -> list[int]:
    clip, second = int(sample_id[4:7]), int(sample_id[-2:])
    return [grey_of(clip, second, frame) for frame in range(NUM_FRAMES)]


def read_greys(path: Path) -> list[float]:
    return decode_frames(VideoAddress(str(path)), range(NUM_FRAMES)).mean((1, 2, 3)).tolist()


def is_clip_of(path: Path, sample_id: str) -> bool:
    info = probe_video(VideoAddress(str(path)))
    is_even = info.frame_times_us.tolist() == [0, 250_000, 500_000, 750_000]
    return is_even and np.abs(np.subtract(read_greys(path), expected_greys(sample_id))).max() < 1.5


def test_a_tar_holds_each_second_as_a_video_of_its_own(folder, tmp_path):
    output, found = export(folder, "webdataset", output="tars"), {}
    for path in output.glob("*.tar"):
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path, filter="data")
    for path in tmp_path.glob("*.json"):
        found[json.loads(path.read_text())["id"]] = path.with_suffix(".mp4")
    assert len(found) == NUM_CLIPS * NUM_SEGMENTS
    assert all(is_clip_of(path, sample_id) for sample_id, path in found.items())


@pytest.mark.parametrize("source", ["training", "dataset"])
def test_an_episode_of_lerobot_is_one_second_of_a_recording(folder, source):
    output = export(folder, "lerobot", source)
    (video,) = output.glob("videos/*/*/*.mp4")
    frames = decode_frames(VideoAddress(str(video)), range(NUM_CLIPS * NUM_SEGMENTS * NUM_FRAMES)).mean((1, 2, 3))
    rows = [row for split in SPLITS for row in read_records(folder / "training" / f"{split}.index.json")]
    expected = [grey for row in rows for grey in expected_greys(row["id"])]
    assert np.abs(frames - expected).max() < 1.5


def read_records(path: Path) -> list[dict]:
    return json.loads(path.read_text())


@pytest.mark.parametrize("form", ["upstream", "swift", "llamafactory", "trl"])
def test_other_tools_cannot_name_a_second_of_an_archive_and_the_way_out_is_told(folder, tmp_path, form):
    for media in ("keep", "absolute"):
        with pytest.raises(DrivingError, match=r"parts of recordings in archives .--cut scaled.*pass --media copy"):
            export(folder, form, output=f"refused_{form}", media=media)


def test_copies_are_cut_out_and_rows_name_them_without_the_keys_of_an_archive(folder):
    output = export(folder, "upstream", media="copy")
    for split in SPLITS:
        for row in read_records(output / f"{split}.json"):
            assert set(row) == {"id", "group", "video", "conversations"}
            assert is_clip_of(output / row["video"], row["id"])


def test_an_export_of_scaled_rows_made_twice_is_the_same_bytes(folder):
    first, second = (export(folder, "webdataset", output=name) for name in ("once", "twice"))
    assert [path.read_bytes() for path in sorted(first.glob("*.tar"))] == [
        path.read_bytes() for path in sorted(second.glob("*.tar"))
    ]


def test_frames_that_do_not_lie_behind_one_another_are_encoded_and_join_with_copied_ones(folder, tmp_path):
    archive = archive_path(folder / "segments", "batch_00000")
    cut_out({"member": "clip000.mp4", "frame_indices": [0, 1, 2, 4]}, archive, FPS, tmp_path / "a.mp4")
    cut_out({"member": "clip001.mp4", "frame_indices": [4, 5, 6, 7]}, archive, FPS, tmp_path / "b.mp4")
    expected = [grey_of(0, 0, 0), grey_of(0, 0, 1), grey_of(0, 0, 2), grey_of(0, 1, 0)]
    assert np.abs(np.subtract(read_greys(tmp_path / "a.mp4"), expected)).max() < 1.5
    with (tmp_path / "joined.mp4").open("wb") as file:
        join_videos([tmp_path / "a.mp4", tmp_path / "b.mp4"], file, fps=FPS, num_frames=NUM_FRAMES)
    joined = decode_frames(VideoAddress(str(tmp_path / "joined.mp4")), range(8)).mean((1, 2, 3))
    assert np.abs(joined - [*expected, *expected_greys("clip001_seg_01")]).max() < 1.5


def test_a_video_with_b_frames_is_not_copied_at_an_even_rate(tmp_path):
    rng = np.random.default_rng(0)
    frames = (np.roll(rng.integers(0, 255, (64, 96), dtype=np.uint8), step, 1) for step in range(12))
    write_video(tmp_path / "a.mp4", frames, 4, preset="medium", key_interval=12)
    address = VideoAddress(str(tmp_path / "a.mp4"))
    info = probe_video(address)
    assert (np.diff(info.decode_order) < 0).any()  # the premise
    with (tmp_path / "b.mp4").open("wb") as file, pytest.raises(VideoError, match="has B-frames and cannot be shown"):
        copy_range(address, info, 0, 12, file, fps=4)
