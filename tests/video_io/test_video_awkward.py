"""What PyAV alone would show wrong, or refuse for the wrong reason."""

import av
import numpy as np
import pytest
from drawing import OPEN_GROUPS, UNEVEN_US, draw_file, draw_planes, read_packet_sizes

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import decode_at, decode_frames, probe_video


def numbers(frames: np.ndarray) -> list[float]:
    """How bright each picture is, in steps of a frame's number: frame 0 is the zero."""
    zero = decode_brightness(draw_planes(0, 48, 64, "yuv420p"))
    return [round((frame.mean() - zero) * 219 / 255 / 3, 1) for frame in frames]


def decode_brightness(frame: av.VideoFrame) -> float:
    frame.colorspace, frame.color_range = 1, 1
    return float(frame.to_ndarray(format="rgb24").mean())


def test_a_bare_hevc_stream_with_open_groups_and_a_list_of_times(tmp_path):
    path = draw_file(tmp_path / "video.hevc", codec="libx265", options={"x": OPEN_GROUPS}, container_format="hevc")
    times_us = np.arange(30) * 50_000 + 1_000_000
    frames = decode_at(VideoAddress(str(path)), [1_000_000, 1_370_000, 2_449_999], frame_times_us=times_us)
    assert np.abs(np.subtract(numbers(frames), [0, 7, 28])).max() < 0.5


@pytest.mark.parametrize("codec, is_wiped", [("libx265", True), ("libx264", False)])
def test_a_frame_lost_in_a_bare_stream_does_not_shift_the_later_ones(tmp_path, codec, is_wiped):
    groups = {"x": OPEN_GROUPS} if codec == "libx265" else {"bf": "3", "b_adapt": "0", "g": "10"}
    path = draw_file(
        tmp_path / "video.bin", codec=codec, num_frames=40, options=groups,
        container_format={"libx265": "hevc", "libx264": "h264"}[codec],
    )  # fmt: skip
    address, sizes, data = VideoAddress(str(path)), read_packet_sizes(path), bytearray(path.read_bytes())
    assert sum(sizes) == len(data)  # the premise: packets follow each other
    start, stop = sum(sizes[:20]), sum(sizes[:21])
    data[start:stop] = data[start : start + 8] + bytes(stop - start - 8) if is_wiped else b""
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"is damaged in packet \d+ of \d+: it gives no frame, and without timestamps"):
        decode_frames(address, [38])


def test_a_seek_that_leads_past_its_key_frame_is_mended(tmp_path):
    path = draw_file(tmp_path / "a.ts", times_us=UNEVEN_US, options={"bf": "3", "b_adapt": "0", "g": "10"})
    address = VideoAddress(str(path))
    with av.open(str(path)) as container:  # the premise: what is found behind the seek is not the frame asked for
        stream = container.streams.video[0]
        container.seek(int(probe_video(address).pts[20]), stream=stream, backward=True)
        assert next(container.decode(stream), None) is None
    assert np.abs(np.subtract(numbers(decode_frames(address, [1, 20, 29])), [1, 20, 29])).max() < 0.5


def test_an_mkv_is_turned_too(tmp_path):
    options = {"rotation": 90, "num_frames": 3}
    turned = VideoAddress(str(draw_file(tmp_path / "a.mkv", **options)))
    assert (probe_video(turned).rotation, probe_video(turned).height) == (90, 64)
    assert np.array_equal(
        decode_frames(turned, [2]), decode_frames(VideoAddress(str(draw_file(tmp_path / "a.mp4", **options))), [2])
    )


def test_an_avi_with_skipped_frames_is_not_cut_short(tmp_path):
    times_us = [(index + (3 if index > 10 else 0)) * 40_000 for index in range(30)]
    path = draw_file(tmp_path / "a.avi", codec="mpeg4", times_us=times_us, options={"qmin": "1"})
    assert probe_video(VideoAddress(str(path))).frame_times_us.tolist() == times_us


def test_an_avi_that_is_cut_short_is(tmp_path):
    path = draw_file(tmp_path / "a.avi", codec="mpeg4", options={"qmin": "1"})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 9 // 10)
    with pytest.raises(VideoError, match=r"a\.avi (is cut short: \d+ of the 30 frames|breaks off in the middle)"):
        probe_video(VideoAddress(str(path)))


def test_b_frames_in_an_avi_are_refused(tmp_path):
    path = draw_file(tmp_path / "a.avi", options={"bf": "3", "b_adapt": "0"})
    with pytest.raises(
        VideoError, match=r"a\.avi cannot be decoded at frame 1 .*\(B-frames in an avi\) its timestamps"
    ):
        decode_frames(VideoAddress(str(path)), [0, 1, 7])


@pytest.mark.parametrize("time_us, shown", [(0, 0), (32_999, 0), (33_000, 1), (102_999, 1), (103_000, 2)])
def test_the_frame_at_a_time_is_the_last_one_that_came(tmp_path, time_us, shown):
    path = draw_file(tmp_path / "a.mp4", num_frames=4, times_us=UNEVEN_US)
    frames = decode_at(VideoAddress(str(path)), [time_us])
    assert abs(numbers(frames)[0] - shown) < 0.5


@pytest.mark.parametrize("time_us", [-1, 160_000])
def test_a_time_without_a_frame_is_refused(tmp_path, time_us):
    path = draw_file(tmp_path / "a.mp4", num_frames=4)
    with pytest.raises(VideoError, match=r"shows frames from 0\.000 to 0\.160 s, one at -?0\.\d+ s was asked for"):
        decode_at(VideoAddress(str(path)), [time_us])


def test_a_bare_stream_needs_a_list_of_times_of_its_length(tmp_path):
    address = VideoAddress(str(draw_file(tmp_path / "video.h264", num_frames=4, container_format="h264")))
    with pytest.raises(VideoError, match="tells no frame times; pass the sensor's own"):
        decode_at(address, [0])
    with pytest.raises(VideoError, match="holds 4 frames, its list of times 3"):
        decode_at(address, [0], frame_times_us=np.arange(3))
