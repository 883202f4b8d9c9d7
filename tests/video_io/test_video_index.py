import zipfile
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import mp4_index, probe_video, write_video
from video_io.encode import US, VideoEncoder
from video_io.mp4_index import peek_video


@pytest.fixture
def only_peeked(monkeypatch):
    """Fails where the packets are asked."""

    def refuse(address):
        raise AssertionError(f"{address} was probed")

    monkeypatch.setattr(mp4_index, "probe_video", refuse)


def assert_same(found, expected):
    for field in fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert np.array_equal(a, b) if isinstance(b, np.ndarray) else a == b, field.name


def write_timed(path, first_us, time_base=US, index_first=False):
    """Twenty frames, not evenly spaced, the first one at `first_us`."""
    with path.open("w+b") as file:
        encoder = VideoEncoder(
            file, (48, 64), 30, preset="ultrafast", key_interval=7, time_base=time_base, index_first=index_first
        )
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48 * 3 // 2, 64), 40 + index, np.uint8), "yuv420p")
            encoder.write(frame, first_us + 33_367 * index + 11 * (index % 3))
        encoder.close()
    return VideoAddress(str(path))


@pytest.mark.parametrize("first_us", [0, 20_123, 1_000_000, 5_000_000_000])  # beyond 71 minutes: 64-bit durations
@pytest.mark.parametrize("index_first", [False, True])
def test_the_index_tells_what_the_packets_tell(tmp_path, only_peeked, first_us, index_first):
    address = write_timed(tmp_path / "a.mp4", first_us, index_first=index_first)
    assert_same(peek_video(address), probe_video(address))
    assert peek_video(address).frame_times_us[:2].tolist() == [first_us, first_us + 33_378]


def test_a_segment_as_the_cutter_writes_it_is_told_by_its_index(tmp_path, only_peeked):
    write_video(tmp_path / "a.mp4", (np.full((48, 64), index, np.uint8) for index in range(30)), 30, preset="ultrafast")
    address = VideoAddress(str(tmp_path / "a.mp4"))
    assert_same(peek_video(address), probe_video(address))


def test_a_member_of_an_archive_is_peeked_at_where_it_lies(tmp_path, only_peeked):
    address = write_timed(tmp_path / "a.mp4", 0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("first.txt", b"in front")
        archive.write(address.path, "a.mp4")
    assert_same(peek_video(VideoAddress(str(tmp_path / "a.zip"), "a.mp4")), probe_video(address))


def draw_moving(count):
    picture = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
    return (np.roll(picture, index, 1) for index in range(count))


def write_b_frames(path):
    write_video(path, draw_moving(30), 30, preset="medium")


def write_late_in_milliseconds(path):
    write_timed(path, 20_123, Fraction(1, 90_000))


def write_matroska(path):
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in draw_moving(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def write_fragments(path):
    with av.open(str(path), "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in draw_moving(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("write", [write_b_frames, write_late_in_milliseconds, write_matroska, write_fragments])
def test_other_files_are_asked_packet_by_packet(tmp_path, write):
    write(tmp_path / "a.mp4")
    address = VideoAddress(str(tmp_path / "a.mp4"))
    assert_same(peek_video(address), probe_video(address))


def test_a_turned_video_is_peeked_at_upright(tmp_path, only_peeked):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(90)
        for picture in draw_moving(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    address = VideoAddress(str(tmp_path / "a.mp4"))
    assert_same(peek_video(address), probe_video(address))
    assert peek_video(address).rotation == 90


def test_a_file_that_is_cut_short_is_refused_as_ever(tmp_path):
    address = write_timed(tmp_path / "a.mp4", 0, index_first=True)
    whole = Path(address.path).read_bytes()
    Path(address.path).write_bytes(whole[:-200])
    with pytest.raises(VideoError, match=r"a\.mp4 "):
        peek_video(address)


@pytest.mark.parametrize("video", ["cosmos_av_clips/*.small.mp4", "udacity_lane_video/*.mp4"])
def test_real_videos_are_told_alike(shared_data, video):
    for path in shared_data.glob(video):
        address = VideoAddress(str(path))
        assert_same(peek_video(address), probe_video(address))
