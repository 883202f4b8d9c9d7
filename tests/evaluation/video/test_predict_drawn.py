"""The drawn video: its frames and times, where the path is, and which answer is shown when."""

from __future__ import annotations

import numpy as np
from stub_model import draw_video

from driving.camera import build_pinhole, format_camera
from driving.recording import VideoAddress
from driving.trajectory import Trajectory
from evaluation.video.overlay_video import Shown, find_answer, move_to_now
from evaluation.video.seconds import Second
from video_io.decode import decode_frames
from video_io.probe import probe_video


def test_the_drawn_video_has_the_frames_and_times_of_the_recorded_one(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 25, 10)
    predict(video)
    recorded, drawn = (probe_video(VideoAddress(str(path))) for path in (video, tmp_path / "out.mp4"))
    assert (drawn.height, drawn.width) == (90, 160)
    assert drawn.frame_times_us.tolist() == recorded.frame_times_us.tolist()


def test_nothing_is_drawn_before_the_first_answer_and_a_panel_after_it(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 20, 10)
    predict(video)
    frames = [decode_frames(VideoAddress(str(path)), [5, 15]).astype(int) for path in (video, tmp_path / "out.mp4")]
    changes = np.abs(frames[1] - frames[0])[:, 50:, 100:].mean(axis=(1, 2, 3))  # the corner of the panel
    assert changes[0] < 2 and changes[1] > 20


def test_with_a_calibration_the_path_is_drawn_on_the_road(predict, tmp_path, capsys):
    video = draw_video(tmp_path / "a.mp4", 20, 10)
    camera = build_pinhole((90, 160), (120.0, 120.0), (80.0, 30.0), (1.5, 0.0, 1.2))
    (tmp_path / "camera.json").write_text(format_camera(camera))
    predict(video, calibration=tmp_path / "camera.json")
    assert "the path is drawn on the road and from above" in capsys.readouterr().out
    frames = [decode_frames(VideoAddress(str(path)), [5, 10]).astype(int) for path in (video, tmp_path / "out.mp4")]
    changes = np.abs(frames[1] - frames[0])[:, 75:88, 40:90].mean(axis=(1, 2, 3))  # the road before the car
    assert changes[0] < 2 and changes[1] > 10


def test_a_high_video_is_scaled_down_and_keeps_its_shape(predict, tmp_path):
    predict(draw_video(tmp_path / "a.mp4", 10, 10, 180, 320), max_height=90)
    info = probe_video(VideoAddress(str(tmp_path / "out.mp4")))
    assert (info.height, info.width) == (90, 160)


def hold(velocity_mps, curvature_per_m):
    return Trajectory(np.full(2, velocity_mps), np.full(2, curvature_per_m))


def test_an_instant_is_drawn_with_the_newest_answer_about_it():
    shown = [Shown(Second(index, start, start + 1.0), hold(5, 0)) for index, start in enumerate((0.0, 0.5, 1.0))]
    assert find_answer(shown, 0.99) is None
    assert [find_answer(shown, time).second.index for time in (1.0, 1.4, 1.5, 2.0, 2.9)] == [0, 0, 1, 2, 2]
    assert find_answer(shown, 3.0) is None


def test_half_a_second_later_half_the_path_lies_behind_the_car():
    path = move_to_now(hold(10.0, 0.05), 1.0, 0.5)
    # a circle of 20 m seen from the point on it that is 5 m on: 5 m back to the start, 5 m ahead to the end
    ends = [[-20 * np.sin(0.25), 20 * (1 - np.cos(0.25))], [20 * np.sin(0.25), 20 * (1 - np.cos(0.25))]]
    np.testing.assert_allclose(path[[0, -1], :2], ends, atol=1e-9)
    assert path[len(path) // 2].tolist() == [0, 0, 0]
