import errno

import av
import numpy as np
import pytest

from driving.errors import LedgerError, VideoError
from driving.recording import VideoAddress
from video_io import decode_frames, probe_video, write_video


def noise(num_frames, height=64, width=64):
    return np.random.default_rng(0).integers(0, 255, (num_frames, height, width, 3), dtype=np.uint8)


def test_the_same_frames_give_the_same_bytes(tmp_path):
    write_video(tmp_path / "a.mp4", noise(12), 30)
    write_video(tmp_path / "b.mp4", noise(12), 30)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_no_clock_and_no_library_version_is_written(tmp_path):
    write_video(tmp_path / "a.mp4", noise(3), 30)
    data = (tmp_path / "a.mp4").read_bytes()
    header = data[data.index(b"mvhd") + 8 :]
    assert header[:8] == bytes(8)  # creation and modification time
    assert b"Lavf" not in data


def test_decoded_frames_do_not_force_their_old_picture_types(tmp_path, draw_video):
    every_frame_a_key = draw_video(20, key_interval=1)
    write_video(tmp_path / "b.mp4", decode_frames(every_frame_a_key, range(20)), 30)
    assert probe_video(VideoAddress(str(tmp_path / "b.mp4"))).is_key_frame.sum() == 1


def test_times_are_written_as_given(tmp_path):
    write_video(tmp_path / "a.mp4", noise(3), 10, pts_us=[0, 150_000, 200_000])
    assert probe_video(VideoAddress(str(tmp_path / "a.mp4"))).frame_times_us.tolist() == [0, 150_000, 200_000]


def test_an_odd_side_loses_its_last_line(tmp_path):
    write_video(tmp_path / "a.mp4", noise(2, 33, 47), 30)
    info = probe_video(VideoAddress(str(tmp_path / "a.mp4")))
    assert (info.height, info.width) == (32, 46)


def test_no_frames_are_no_video(tmp_path):
    with pytest.raises(VideoError, match=r"a\.mp4: a video without frames"):
        write_video(tmp_path / "a.mp4", [], 30)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_stops_half_way_leaves_nothing(tmp_path):
    def frames():
        yield from noise(3)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_video(tmp_path / "a.mp4", frames(), 30)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_one_line(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("driving.whole_files.os.fsync", fail)
    with pytest.raises(LedgerError, match=r"the disk is full while writing .*a\.mp4"):
        write_video(tmp_path / "a.mp4", noise(2), 30)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_h264_in_yuv420p(tmp_path):
    write_video(tmp_path / "a.mp4", noise(2), 30)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_ffmpeg_writes_the_file_itself_so_that_a_ctrl_c_is_not_lost_in_a_callback(tmp_path, monkeypatch):
    opened = []

    def open_and_note(file, *given, **options):
        opened.append(file)
        return real_open(file, *given, **options)

    real_open = av.open
    monkeypatch.setattr("video_io.encode.av.open", open_and_note)
    write_video(tmp_path / "a.mp4", noise(2), 30)
    assert [type(file) for file in opened] == [str]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
