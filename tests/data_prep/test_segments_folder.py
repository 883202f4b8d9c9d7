"""Real videos without motion, through the door: their rates, what is refused, and what the next stage says."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from data_prep import hf_dataset, segment_options
from driving.errors import DrivingError
from driving.ledger import read_ledger
from video_io import read_clip

HIGHWAY = ("udacity_lane_video/solidWhiteRight.mp4", 25)  # sound is stream 0
TOWN = ("cosmos_av_clips/01a6de83-ac02-4689-a901-f0d1dfc0672d.small.mp4", 30)
SLOW = ("cosmos_av_clips/cosmos_reason1_sample.mp4", 4)


def cut(video, output, *flags):
    """The index of one video's segments."""
    argv = ["--input_dir", str(video), "--output_dir", str(output), "--video-frame-pixels", "8192", "--workers", "1"]
    assert segment_options.main([*argv, "--allow-one-recording", *flags]) == 0
    return pd.read_parquet(output / "metadata" / "segments.parquet")


# A segment and its future need two seconds: 221 frames at 25 are 8.84 s, 240 at 30 are 8 s, 10 at 4 are 2.5 s.
@pytest.mark.parametrize(("video", "fps", "segments"), [(*HIGHWAY, 7), (*TOWN, 7), (*SLOW, 1)])
def test_auto_takes_the_rate_of_the_video(shared_data, tmp_path, video, fps, segments):
    rows = cut(shared_data / video, tmp_path / "out", "--fps", "auto", "--source", "folder")
    assert rows["fps"].tolist() == [fps] * segments
    assert rows["source"].tolist() == ["folder"] * segments
    for path in rows["video_path"]:
        assert read_clip(path, fps=fps, num_frames=fps).shape[0] == fps


@pytest.mark.parametrize(("video", "fps"), [HIGHWAY, SLOW])
def test_a_rate_that_the_video_cannot_give_is_refused_with_the_highest_it_can(shared_data, tmp_path, video, fps):
    refusal = f"recorded at {fps}.00 frames a second, this run asks for 30; pass --fps {fps}"
    with pytest.raises(DrivingError, match=refusal):
        cut(shared_data / video, tmp_path / "out")


def test_among_others_a_slow_video_is_in_the_ledger_and_the_others_are_cut(shared_data, tmp_path):
    (tmp_path / "in").mkdir()
    for video, _ in (TOWN, SLOW):
        shutil.copy(shared_data / video, tmp_path / "in")
    assert len(cut(tmp_path / "in", tmp_path / "out")) == 7
    (skip,) = read_ledger(tmp_path / "out" / "skipped.jsonl")
    assert skip.id == "cosmos_reason1_sample" and "pass --fps 4 or --fps auto" in skip.reason


def test_the_dataset_stage_says_what_can_be_done_with_them(shared_data, tmp_path):
    cut(shared_data / HIGHWAY[0], tmp_path / "out", "--fps", "auto")
    argv = ["--segments-path", str(tmp_path / "out"), "--output-dir", str(tmp_path / "set"), "--fps", "25"]
    with pytest.raises(DrivingError, match="none of the 7 segments has labels .* no tool that predicts without"):
        hf_dataset.main(argv)
    assert not (tmp_path / "set").exists()
