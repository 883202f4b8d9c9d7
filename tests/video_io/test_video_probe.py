import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import probe_video


def test_frame_times_are_exact_microseconds_in_presentation_order(draw_video):
    info = probe_video(draw_video(10, fps=30))
    # Thirds of 100 ms, rounded to whole microseconds.
    assert info.frame_times_us.tolist() == [0, 33333, 66667, 100000, 133333, 166667, 200000, 233333, 266667, 300000]
    assert info.time_base == Fraction(1, 90_000)


def test_b_frames_are_sorted_and_the_order_of_the_file_is_kept(draw_video):
    info = probe_video(draw_video(10, options={"bf": "2", "b_adapt": "0", "b_pyramid": "none"}))
    assert info.decode_order.tolist()[:4] == [0, 3, 1, 2]
    assert np.all(np.diff(info.pts) > 0)


def test_key_frames_are_where_the_encoder_was_told_to_put_them(draw_video):
    info = probe_video(draw_video(25, key_interval=10))
    assert np.flatnonzero(info.is_key_frame).tolist() == [0, 10, 20]


def test_size_rate_and_codec(draw_video):
    info = probe_video(draw_video(10, height=48, width=80, fps=10))
    assert (info.height, info.width, info.fps_median, info.codec, info.num_frames) == (48, 80, 10.0, "h264", 10)


def test_sound_as_stream_zero_is_passed_over(tmp_path):
    path = tmp_path / "sound_first.mp4"
    with av.open(str(path), "w") as container:
        sound, video = container.add_stream("aac", rate=48_000), container.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.sample_rate = 48_000
        container.mux(sound.encode(samples))
        for _ in range(5):
            container.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]  # the premise
    assert probe_video(VideoAddress(str(path))).frame_times_us.tolist() == [0, 40000, 80000, 120000, 160000]


def test_a_real_video_with_sound_as_stream_zero(shared_data):
    info = probe_video(VideoAddress(str(shared_data / "udacity_lane_video" / "solidWhiteRight.mp4")))
    assert (info.num_frames, info.height, info.width, info.fps_median) == (221, 540, 960, 25.0)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48_000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.sample_rate = 48_000
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    with pytest.raises(VideoError, match=r"sound\.mp4 has no video stream \(it holds: audio\)"):
        probe_video(VideoAddress(str(path)))


def test_a_file_cut_before_its_index_is_refused(draw_video):
    address = draw_video()
    with open(address.path, "r+b") as file:
        file.truncate(600)
    with pytest.raises(VideoError, match=r"drawn\.mp4 cannot be read as a video .*cut short or damaged"):
        probe_video(address)


def test_a_file_with_its_index_in_front_cut_short_says_how_many_frames_are_there(tmp_path, draw_video):
    address = draw_video(40, key_interval=1)
    path = tmp_path / "front.mp4"
    with av.open(address.path) as source, av.open(str(path), "w", options={"movflags": "+faststart"}) as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    whole = probe_video(VideoAddress(str(path)))
    data = path.read_bytes()
    pixels = data.index(b"mdat")
    path.write_bytes(data[: pixels + (len(data) - pixels) // 2])
    assert whole.num_frames == 40
    with pytest.raises(VideoError, match=r"front\.mp4 (is cut short: \d+ of the 40 frames|breaks off in the middle)"):
        probe_video(VideoAddress(str(path)))


def test_text_is_not_a_video(tmp_path):
    (tmp_path / "a.mp4").write_text("<html>sign in to download</html>")
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be read as a video"):
        probe_video(VideoAddress(str(tmp_path / "a.mp4")))


def test_two_frames_at_one_time_are_refused(tmp_path, draw_video):
    # Uneven times, so that the box of time steps (stts: count, then (run length, ticks) rows) has a row a frame.
    address = draw_video(5, pts_us=[0, 40_000, 90_000, 120_000, 160_000], options={"bf": "0"})
    data = bytearray((tmp_path / "drawn.mp4").read_bytes())
    second_row = data.index(b"stts") + 4 + 4 + 4 + 8
    assert struct.unpack_from(">II", data, second_row) == (1, 4500)  # the premise: 50 ms after frame 1
    struct.pack_into(">II", data, second_row, 1, 0)
    (tmp_path / "drawn.mp4").write_bytes(data)
    with pytest.raises(VideoError, match=r"shows frames 1 and 2 at the same time, 0\.040 s"):
        probe_video(address)


@pytest.mark.parametrize("clockwise, anticlockwise", [(0, 0), (90, 270), (180, 180), (270, 90)])
def test_the_rotation_flag_is_read_without_decoding(tmp_path, clockwise, anticlockwise):
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        video.set_display_rotation(-clockwise)
        container.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(video.encode(None))
    info = probe_video(VideoAddress(str(path)))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation % 360 == info.rotation == anticlockwise
    assert (info.height, info.width) == ((48, 64) if clockwise % 180 == 0 else (64, 48))


def test_a_mirrored_video_is_refused(tmp_path, draw_video):
    address = draw_video(3)
    data = bytearray((tmp_path / "drawn.mp4").read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix starts at byte 40 of the content
    assert struct.unpack_from(">i", data, at)[0] == 1 << 16
    struct.pack_into(">i", data, at, -(1 << 16))
    (tmp_path / "drawn.mp4").write_bytes(data)
    with pytest.raises(VideoError, match="asks to be shown mirrored"):
        probe_video(address)
