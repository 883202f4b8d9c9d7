"""Segments cut with another decoder: the same index, and nearly the same pictures."""

import json

import numpy as np
import pytest

from data_prep.segment_options import DECODERS, SegmentOptions
from data_prep.segments import run
from driving.ledger import PLAN_NAME
from driving.recording import VideoAddress
from video_io import decode_frames, decoders, write_video


def test_the_flag_names_every_decoder_there_is():
    assert DECODERS == decoders.DECODERS


def test_another_decoder_gives_the_same_segments(tmp_path):
    pytest.importorskip("decord")
    (tmp_path / "in").mkdir()
    ramp = np.linspace(20, 120, 96).astype(np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    write_video(tmp_path / "in" / "a.mp4", (ramp + 2 * index for index in range(30)), 10, crf=4)
    frames = {}
    for decoder in ("pyav", "decord"):
        folder = tmp_path / decoder
        run(SegmentOptions(tmp_path / "in", folder, fps=10, workers=1, decoder=decoder, allow_one_recording=True))
        segment = sorted((folder / "video_segments").glob("*.mp4"))[0]
        frames[decoder] = decode_frames(VideoAddress(str(segment)), range(10))
    difference = np.abs(frames["pyav"].astype(int) - frames["decord"])
    assert difference.mean((0, 1, 2)).max() < 2.5  # of 255; rounded once more on the way through RGB
    assert np.diff(frames["decord"].mean((1, 2, 3))).min() > 1  # the premise: each frame is another
    plans = {name: (tmp_path / name / PLAN_NAME).read_text() for name in frames}
    assert "decoder" not in json.loads(plans["pyav"]) and '"decord"' in plans["decord"]
