"""Every decoder gives the same frames at the same times, of every awkward kind of file, or says why not in one line."""

import importlib.util

import numpy as np
import pytest
from drawing import FULL, OPEN_GROUPS, UNEVEN_US, draw_file

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import check_decoder, decode_at, decode_frames, probe_video
from video_io.decoders import check_alike

# Levels of 255 between a decoder and PyAV, (largest, mean of a channel). Measured: 0 and 0 at 8 bits; 7 and 3.2 above,
# where PyAV rounds and the others cut off.
SAME = (0, 0.0)
DEEP = (8, 3.5)
FILES = {
    "plain": ("a.mp4", {}, SAME),
    "uneven times, B-frames": ("a.mp4", {"times_us": UNEVEN_US, "options": {"bf": "3", "b_adapt": "0"}}, SAME),
    "first frame late": ("a.mp4", {"times_us": [t + 5_000_000 for t in UNEVEN_US], "options": {"bf": "3"}}, SAME),
    "hevc, open groups": (
        "a.mp4", {"codec": "libx265", "times_us": UNEVEN_US, "options": {"x": OPEN_GROUPS}}, SAME,
    ),
    "hevc in mkv": ("a.mkv", {"codec": "libx265", "times_us": UNEVEN_US, "options": {"x": OPEN_GROUPS}}, SAME),
    "turned": ("a.mp4", {"rotation": 90, "size": (64, 96)}, SAME),
    "turned by half": ("a.mp4", {"rotation": 180}, SAME),
    "odd sides": ("a.mp4", {"pixel_format": "yuv444p", "size": (47, 63)}, SAME),
    "full range": ("a.mp4", {"color_range": FULL}, SAME),
    "10 bits": ("a.mp4", {"pixel_format": "yuv420p10le"}, DEEP),
    "10 bits, full range": ("a.mp4", {"pixel_format": "yuv420p10le", "color_range": FULL}, DEEP),
    "hevc, 10 bits": ("a.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le"}, DEEP),
}  # fmt: skip
REAL_VIDEOS = [
    "udacity_lane_video/solidWhiteRight.mp4",
    "cosmos_av_clips/car_curb_video.mp4",
    "cosmos_av_clips/cosmos_reason1_sample.mp4",
    "cosmos_av_clips/01a6de83-ac02-4689-a901-f0d1dfc0672d.small.mp4",
]


@pytest.fixture(params=["torchcodec", "decord"])
def decoder(request):
    try:
        check_decoder(request.param)
    except VideoError as error:
        pytest.skip(str(error))
    return request.param


@pytest.mark.parametrize("kind", FILES)
def test_the_same_frames_at_the_same_times(tmp_path, decoder, kind):
    name, drawn, (worst, mean) = FILES[kind]
    address = VideoAddress(str(draw_file(tmp_path / name, **drawn)))
    info = probe_video(address)
    times_us = info.frame_times_us[[29, 0, 1, 7, 10, 21, 7]] + 3
    expected = decode_at(address, times_us, info=info)
    seen = decode_at(address, times_us, info=info, decoder=decoder)
    assert seen.shape == expected.shape
    difference = np.abs(seen.astype(int) - expected)
    assert difference.max() <= worst
    assert difference.mean((0, 1, 2)).max() <= mean
    brightness = expected.mean((1, 2, 3))
    assert np.all(np.diff(brightness[[1, 2, 3, 4, 5, 0]]) > 1) and brightness[3] == brightness[6]  # the frames differ


@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_the_same_frames_of_real_videos(shared_data, decoder, name):
    address = VideoAddress(str(shared_data / name))
    num_frames = probe_video(address).num_frames
    wanted = sorted({0, 1, num_frames // 3, num_frames // 3 + 1, num_frames - 2, num_frames - 1})
    assert np.array_equal(decode_frames(address, wanted, decoder=decoder), decode_frames(address, wanted))


def test_a_bare_stream_is_left_to_pyav(tmp_path, decoder):
    address = VideoAddress(str(draw_file(tmp_path / "video.hevc", codec="libx265", container_format="hevc")))
    with pytest.raises(VideoError, match=r"video\.hevc is a bare stream without times, which only pyav can count"):
        decode_frames(address, [0], decoder=decoder)


def test_a_file_that_a_library_cannot_number_is_refused_in_one_line(tmp_path, decoder):
    path = draw_file(tmp_path / "a.ts", times_us=UNEVEN_US, options={"bf": "3", "b_adapt": "0", "g": "10"})
    address = VideoAddress(str(path))
    with pytest.raises(VideoError, match=rf"a\.ts.*{decoder}.*use --decoder pyav") as caught:
        decode_frames(address, [20], decoder=decoder)
    assert "\n" not in str(caught.value)


def test_a_turned_picture_whose_rows_decord_pads_is_refused(tmp_path):
    pytest.importorskip("decord")
    address = VideoAddress(str(draw_file(tmp_path / "a.mp4", rotation=90, size=(48, 64), num_frames=2)))
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be read by decord \(.*\); use --decoder pyav"):
        decode_frames(address, [0], decoder="decord")


def test_the_first_picture_must_be_that_of_pyav():
    address, picture = VideoAddress("a.mp4"), np.full((4, 6, 3), 100, np.uint8)
    check_alike(address, "decord", picture + 5, picture, 10)
    with pytest.raises(VideoError, match=r"differs from pyav's by 6\.0 levels of 255 on average, 5 are allowed"):
        check_alike(address, "decord", picture + [6, 0, 0], picture, 10)
    with pytest.raises(VideoError, match=r"differs from pyav's by 1\.0 levels of 255 on average, 0\.5 are allowed"):
        check_alike(address, "decord", picture + 1, picture, 8)
    with pytest.raises(VideoError, match="decord gives a picture of 6x4, pyav one of 4x6"):
        check_alike(address, "decord", picture.transpose(1, 0, 2), picture, 8)


@pytest.mark.parametrize("name, package", [("decord", "decord"), ("torchcodec", "torchcodec"), ("nvdec", "torchcodec")])
def test_a_missing_package_says_how_to_install_it(monkeypatch, name, package):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.decoders", None)
    with pytest.raises(
        VideoError, match=f"{name} needs the package {package}, .*`uv sync --inexact --extra {package}`"
    ):
        check_decoder(name)


def test_an_unknown_decoder_names_those_that_there_are():
    with pytest.raises(VideoError, match="there is no decoder 'opencv'; choose one of pyav, torchcodec, decord, nvdec"):
        check_decoder("opencv")


@pytest.mark.needs_torch
@pytest.mark.skipif(not importlib.util.find_spec("torchcodec"), reason="torchcodec is not installed")
def test_nvdec_without_a_gpu_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr("video_io.decoders._check_ffmpeg", lambda decoder: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VideoError, match="nvdec needs an NVIDIA GPU and torch finds none"):
        check_decoder("nvdec")


def test_torchcodec_without_ffmpeg_says_what_to_install(monkeypatch):
    class Decoders:
        @staticmethod
        def VideoDecoder(source):  # noqa: N802 - the library's name
            raise RuntimeError("Could not load libtorchcodec. Likely causes: ...")

    monkeypatch.setattr("video_io.decoders._load", lambda name, decoder: Decoders)
    with pytest.raises(VideoError, match="torchcodec needs FFmpeg's shared libraries .*apt install ffmpeg"):
        check_decoder("torchcodec")
