import gc
from pathlib import Path

import av
import numpy as np
import pytest

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import decode_frames, iter_frames, probe_video, write_video
from video_io.decode_pyav import plan_runs

OPEN_GROUPS = {"bf": "3", "b_adapt": "0", "x264-params": "open-gop=1:keyint=12:min-keyint=1"}


def test_exactly_the_frames_asked_for_in_the_order_asked_for(draw_video, read_numbers):
    assert read_numbers(decode_frames(draw_video(), [7, 0, 39, 7])) == [7, 0, 39, 7]


def test_a_decoded_picture_is_let_go_at_once(draw_video):
    address = draw_video(60)
    info = probe_video(address)
    gc.collect()
    gc.disable()
    try:
        for _ in iter_frames(address, range(60), info=info):
            pass
        assert gc.collect() < 60  # not one ring of references a picture, which would stay until Python looks for them
    finally:
        gc.enable()


@pytest.mark.parametrize("first", [0, 9, 10, 11, 29, 30, 35])
def test_a_seek_lands_on_the_frame_asked_for(draw_video, read_numbers, first):
    address = draw_video(60, key_interval=10, options={"bf": "2"})
    assert read_numbers(decode_frames(address, [first, first + 1, first + 24])) == [first, first + 1, first + 24]


def test_an_open_group_of_pictures_is_decoded_right_after_a_seek(draw_video, read_numbers):
    address = draw_video(60, options=OPEN_GROUPS)
    info = probe_video(address)
    key = int(np.flatnonzero(info.is_key_frame)[1])
    assert info.decode_order[info.decode_order.tolist().index(key) + 1] < key  # the premise: a frame leans over the key
    wanted = [key - 1, key, key + 1]
    assert read_numbers(decode_frames(address, wanted)) == wanted
    assert read_numbers(decode_frames(address, [key])) == [key]


def test_uneven_frame_times_do_not_move_the_numbers(draw_video, read_numbers):
    times_us = np.cumsum([0, *([33_000, 70_000, 15_000] * 13)])
    address = draw_video(40, pts_us=times_us.tolist(), options={"bf": "2"})
    assert read_numbers(decode_frames(address, [1, 2, 20, 39])) == [1, 2, 20, 39]
    assert np.abs(probe_video(address).frame_times_us - times_us).max() <= 6  # the file counts in 1/90,000 s


@pytest.mark.parametrize(
    "wanted, keys, runs",
    [
        ([0, 1, 2], [0, 30], [(0, [0, 1, 2])]),
        ([45, 46], [0, 30], [(30, [45, 46])]),  # start at the key frame before
        ([5, 6], [0, 4], [(0, [5, 6])]),  # 4 frames are cheaper than a seek
        ([0, 65], [0, 30, 60], [(0, [0]), (60, [65])]),  # jump over a stretch nobody wants
        ([28, 31], [0, 30], [(0, [28, 31])]),
    ],
)
def test_where_decoding_starts_and_jumps(wanted, keys, runs):
    assert plan_runs(wanted, np.array(keys)) == runs


def test_frames_come_one_at_a_time(draw_video):
    stream = iter_frames(draw_video(), range(40))
    assert [next(stream)[0], next(stream)[0]] == [0, 1]
    stream.close()


def test_a_frame_beyond_the_end_is_refused(draw_video):
    with pytest.raises(VideoError, match="has 10 frames, frame 10 was asked for"):
        decode_frames(draw_video(10), [10])


def test_damaged_pixels_name_the_frame(draw_video):
    address = draw_video(40, key_interval=1)  # every frame has a packet of its own
    data = bytearray(Path(address.path).read_bytes())
    with av.open(address.path) as container:
        at = [packet.pos for packet in container.demux(video=0)][20]
    data[at + 4 : at + 40] = bytes(36)  # wipe the start of the 21st packet
    Path(address.path).write_bytes(data)
    with pytest.raises(VideoError, match=r"at frame 20 \(0\.667 s\): it is damaged there|cannot be read as a video"):
        decode_frames(address, range(40))


def test_frames_are_scaled_to_the_size_asked_for(draw_video, read_numbers):
    frames = decode_frames(draw_video(height=96, width=128), [4], size=(32, 64))
    assert frames.shape == (1, 32, 64, 3)
    assert read_numbers(frames) == [4]


def test_area_scaling_is_the_mean_of_the_pixels_covered(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200  # columns 200, 0, 200, 0: halved, every pixel is their mean
    write_video(tmp_path / "a.mp4", [stripes], 30, crf=1)
    frame = decode_frames(VideoAddress(str(tmp_path / "a.mp4")), [0], size=(32, 32))[0]
    assert np.abs(frame.astype(int) - 100).max() <= 3


def test_odd_sides_are_scaled_like_others(tmp_path):
    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 37, 53, "yuv444p"
        grey = av.VideoFrame.from_ndarray(np.full((37, 53), 90, np.uint8), "gray").reformat(format="yuv444p")
        container.mux(video.encode(grey))
        container.mux(video.encode(None))
    frame = decode_frames(VideoAddress(str(path)), [0])
    assert frame.shape == (1, 37, 53, 3)
    assert np.abs(frame.astype(int) - 90).max() <= 2
    assert decode_frames(VideoAddress(str(path)), [0], size=(32, 32)).shape == (1, 32, 32, 3)


def write_planes(path, pixel_format, luma, codec="ffv1", color_range=None):
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.height, video.width, video.pix_fmt = 32, 32, pixel_format
        frame = av.VideoFrame(32, 32, pixel_format)
        for plane, level in zip(frame.planes, luma, strict=True):
            plane.update(level * (plane.buffer_size // len(level)))
        if color_range is not None:
            frame.color_range = video.codec_context.color_range = color_range
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return decode_frames(VideoAddress(str(path)), [0])[0]


def test_ten_bit_video_becomes_eight_bit(tmp_path):
    # Limited range, 10 bits: black 64, white 940. Middle grey 502 is 127.5 of 255.
    levels = [(level).to_bytes(2, "little") for level in (502, 512, 512)]
    frame = write_planes(tmp_path / "ten.mkv", "yuv420p10le", levels)
    assert np.abs(frame.astype(float) - 127.5).max() <= 1.5


@pytest.mark.parametrize("color_range, seen", [(1, (100 - 16) * 255 / 219), (2, 100)])
def test_luma_100_is_read_by_the_range_the_file_states(tmp_path, color_range, seen):
    frame = write_planes(tmp_path / "range.mkv", "yuv420p", [b"\x64", b"\x80", b"\x80"], color_range=color_range)
    assert np.abs(frame.astype(float) - seen).max() <= 1.5


def test_a_turned_video_is_shown_upright(tmp_path):
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        video.set_display_rotation(90)  # anticlockwise
        picture = np.zeros((48, 64), np.uint8)
        picture[:, 32:] = 200  # bright on the right as stored: on top after a quarter turn anticlockwise
        container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "gray").reformat(format="yuv420p")))
        container.mux(video.encode(None))
    frame = decode_frames(VideoAddress(str(path)), [0])[0]
    assert frame.shape == (64, 48, 3)
    assert frame[:24].mean() > 190 > 10 > frame[40:].mean()
    assert decode_frames(VideoAddress(str(path)), [0], size=(32, 16)).shape == (1, 32, 16, 3)


def test_a_bare_stream_without_times_is_counted(tmp_path, draw_video, read_numbers):
    path = tmp_path / "video.h264"
    with av.open(draw_video(20, key_interval=5).path) as source, av.open(str(path), "w", format="h264") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    address = VideoAddress(str(path))
    info = probe_video(address)
    assert (info.num_frames, info.frame_times_us, info.height, info.width) == (20, None, 48, 64)
    assert read_numbers(decode_frames(address, [0, 13, 19])) == [0, 13, 19]
