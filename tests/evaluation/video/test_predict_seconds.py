"""Which seconds of a video are asked about, whatever its rate, and what is said of those that cannot be."""

from __future__ import annotations

import pytest
from stub_model import draw_video, read_lines

from driving.errors import DrivingError, VideoError
from driving.recording import VideoAddress
from evaluation.video.seconds import plan_seconds
from video_io.probe import probe_video


def test_each_whole_second_is_asked_about_and_predicts_the_next(predict, tmp_path):
    _, stub = predict(draw_video(tmp_path / "a.mp4", 32, 10))
    assert [(record["video_start"], record["video_end"]) for record in stub.records] == [(0, 1), (1, 2), (2, 3)]
    lines = read_lines(tmp_path)
    assert [line["predicted_s"] for line in lines] == [[1, 2], [2, 3], [3, 4]]
    assert [line["id"] for line in lines] == ["a_seg_0000", "a_seg_0001", "a_seg_0002"]


def test_a_second_that_lacks_less_than_half_a_frame_is_whole(tmp_path):
    info = probe_video(VideoAddress(str(draw_video(tmp_path / "a.mp4", 60, 30000 / 1001))))
    assert [second.index for second in plan_seconds(info, 1.0, "a.mp4")] == [0, 1]


def test_the_model_can_be_asked_more_often_than_it_predicts_ahead(predict, tmp_path):
    _, stub = predict(draw_video(tmp_path / "a.mp4", 20, 10), every_s=0.5)
    assert [record["video_start"] for record in stub.records] == [0, 0.5, 1]


def test_only_the_first_seconds_are_asked_about_where_so_many_are_wanted(predict, tmp_path):
    _, stub = predict(draw_video(tmp_path / "a.mp4", 50, 10), max_seconds=2)
    assert len(stub.records) == 2
    assert probe_video(VideoAddress(str(tmp_path / "out.mp4"))).num_frames == 30  # two that are seen, one predicted


@pytest.mark.parametrize(
    "num_frames, fps, shape",
    [
        (20, 10, (10, 64, 128, 3)),
        (8, 4, (4, 64, 128, 3)),
        (120, 60000 / 1001, (10, 64, 128, 3)),
        (50, 25, (10, 64, 128, 3)),
    ],
)
def test_every_rate_gives_the_taught_one_or_all_that_it_has(predict, tmp_path, num_frames, fps, shape):
    result, stub = predict(draw_video(tmp_path / "a.mp4", num_frames, fps, 64, 128))
    assert stub.shapes == [shape] * 2
    assert "2 questions, 2 answered" in result["message"]


def test_a_rate_below_the_taught_one_is_said_and_written_down(predict, tmp_path, capsys):
    predict(draw_video(tmp_path / "a.mp4", 8, 4))
    note = "recorded at 4 frames a second, the model was taught with 10"
    assert f"warning: {note}: expect worse answers" in capsys.readouterr().out
    assert {line["note"] for line in read_lines(tmp_path)} == {note}


def test_a_video_whose_first_stream_is_sound(predict, tmp_path):
    result, _ = predict(draw_video(tmp_path / "a.mp4", 20, 10, sound_first=True))
    assert "2 questions, 2 answered" in result["message"]


def test_a_video_that_is_to_be_shown_turned_is_seen_and_written_upright(predict, tmp_path, turned):
    _, stub = predict(turned)
    assert stub.shapes[0][1] > stub.shapes[0][2]
    info = probe_video(VideoAddress(str(tmp_path / "out.mp4")))
    assert (info.height, info.width, info.rotation) == (160, 90, 0)


@pytest.fixture
def turned(tmp_path):
    """An mp4 of 90x160 px whose header asks for a quarter turn."""
    path = draw_video(tmp_path / "turned.mp4", 20, 10)
    content = bytearray(path.read_bytes())
    matrix = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000]
    upright = b"".join(value.to_bytes(4, "big") for value in matrix)
    place = content.index(upright, content.index(b"tkhd"))
    quarter = [0, 0x10000, 0, -0x10000 % 2**32, 0, 0, 0, 0, 0x40000000]
    content[place : place + 36] = b"".join(value.to_bytes(4, "big") for value in quarter)
    path.write_bytes(bytes(content))
    return path


def test_a_second_with_a_gap_is_left_out_and_the_others_are_drawn(predict, tmp_path):
    times_ms = [100 * index for index in range(10)] + [1000, 1900] + [2000 + 100 * index for index in range(10)]
    result, _ = predict(draw_video(tmp_path / "a.mp4", 22, 10, pts=times_ms))
    assert "3 questions, 2 answered, 1 without readable frames" in result["message"]
    lines = read_lines(tmp_path)
    assert [line["parsing"] for line in lines] == ["strict", "skipped", "strict"]
    assert "is missed by" in lines[1]["error"]


@pytest.mark.parametrize(
    "num_frames, fps, complaint",
    [
        (7, 10, r"a.mp4 lasts 0.70 s; the model is asked about 1 s at a time"),
        (1, 10, "a.mp4 holds one frame only, in which nothing moves; give a video"),
        (5, 1, "a.mp4 has 1.00 frames a second; at least 2 are needed to see anything move"),
    ],
)
def test_a_video_that_cannot_be_asked_about_is_one_line(predict, tmp_path, num_frames, fps, complaint):
    with pytest.raises(VideoError, match=complaint):
        predict(draw_video(tmp_path / "a.mp4", num_frames, fps))


def test_a_bare_stream_tells_no_times(predict, tmp_path):
    with pytest.raises(
        VideoError, match="a.h264 tells no frame times .* ffmpeg -framerate 20 -i a.h264 -c copy out.mp4"
    ):
        predict(draw_video(tmp_path / "a.h264", 20, 10))


def test_a_video_of_which_no_second_can_be_read(predict, tmp_path):
    times_ms = [0, 100, 200, 300, 1000]
    with pytest.raises(DrivingError, match="no second of .*a.mp4 could be asked about; the first: .* is missed by"):
        predict(draw_video(tmp_path / "a.mp4", 5, 10, pts=times_ms))


def test_a_video_that_is_damaged_in_the_middle_is_drawn_up_to_there(predict, tmp_path, capsys):
    video = draw_video(tmp_path / "a.mp4", 60, 10)
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat")
    place = start + (content.index(b"moov") - start) * 2 // 3
    content[place : place + 40] = b"\xa5" * 40
    video.write_bytes(content)
    result, _ = predict(video)
    said = capsys.readouterr().out
    assert f"warning: {tmp_path / 'out.mp4'} ends early: " in said and "damaged" in said
    assert "without readable frames" in result["message"]
    assert 10 < probe_video(VideoAddress(str(tmp_path / "out.mp4"))).num_frames < 60
