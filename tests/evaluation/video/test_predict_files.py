"""What predict.py writes, goes on with, and never writes over."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from stub_model import StubModel, draw_video, read_lines

from driving.errors import DrivingError
from driving.recording import VideoAddress
from video_io.probe import probe_video


def test_a_line_holds_the_answer_as_numbers_and_as_a_path(predict, tmp_path):
    predict(draw_video(tmp_path / "a.mp4", 10, 10))
    (line,) = read_lines(tmp_path)
    assert line["velocity_mps"] == [12, 14] and line["curvature_per_m"] == [0.02, 0.02]
    # 13 m on a circle of 50 m: x = sin(a) / k, y = (1 - cos(a)) / k with a = 0.26
    assert line["path"][-1] == pytest.approx([np.sin(0.26) * 50, (1 - np.cos(0.26)) * 50, 0.26])


@pytest.mark.parametrize("answer", ["I cannot see the road.", "[(99999999.0, 7.0000), (1.0, 0.0000)]"])
def test_an_answer_that_is_no_drive_is_counted_and_the_rest_is_drawn(predict, tmp_path, answer):
    result, _ = predict(draw_video(tmp_path / "a.mp4", 20, 10), StubModel({"0000": answer}))
    assert "2 questions, 1 answered, 1 with an answer that cannot be read" in result["message"]
    assert [line["parsing"] for line in read_lines(tmp_path)] == ["failed", "strict"]


def test_a_run_that_was_stopped_goes_on_where_it_was(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 40, 10)
    with pytest.raises(KeyboardInterrupt):
        predict(video, StubModel(fail_after=2), batch_size=1)
    assert not (tmp_path / "out.mp4").exists()
    _, stub = predict(video, batch_size=1)
    assert [record["video_start"] for record in stub.records] == [2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "model", "out.mp4", "out.predictions.jsonl"]


def test_halves_that_a_killed_run_left_beside_its_files_go_and_those_of_others_stay(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 10, 10)
    for name in (".out.mp4.k2j4h5.part", ".out.predictions.jsonl.x.part", ".another.out.mp4.k2j4h5.part"):
        (tmp_path / name).write_text("half")
    predict(video)
    assert [path.name for path in tmp_path.glob(".*")] == [".another.out.mp4.k2j4h5.part"]


def test_a_run_of_another_video_does_not_take_over_its_answers(predict, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict(draw_video(tmp_path / "a.mp4", 20, 10), StubModel(fail_after=1), batch_size=1)
    _, stub = predict(draw_video(tmp_path / "b.mp4", 20, 10), batch_size=1)
    assert len(stub.records) == 2


def test_a_finished_run_may_be_made_again(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 10, 10)
    predict(video)
    _, stub = predict(video)
    assert len(stub.records) == 1


def test_the_video_itself_is_never_written_over(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 10, 10)
    with pytest.raises(DrivingError, match="--out .*a.mp4 is the video itself, which would be lost; name another"):
        predict(video, out=video, overwrite_output=True)


def test_a_file_of_somebody_else_is_replaced_only_where_it_is_said(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 10, 10)
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(DrivingError, match="was not written by this tool .*pass --overwrite-output"):
        predict(video)
    predict(video, overwrite_output=True)
    assert probe_video(VideoAddress(str(tmp_path / "out.mp4"))).num_frames == 10


def test_only_mp4_is_written(predict, tmp_path):
    with pytest.raises(DrivingError, match="--out overlay.avi is no .mp4: .* name it overlay.mp4"):
        predict(tmp_path / "a.mp4", out=(tmp_path / "overlay.avi").relative_to(tmp_path))


@pytest.mark.parametrize("name, complaint", [("a.mp4", "is not there; give the path of a video"), ("", "is a folder")])
def test_what_is_no_video_file_is_said(predict, tmp_path, name, complaint):
    with pytest.raises(DrivingError, match=complaint):
        predict(tmp_path / name)


def test_the_door_says_what_is_wrong_in_one_line(tmp_path, repository):
    door = [sys.executable, str(repository / "scripts" / "predict.py"), str(tmp_path / "none.mp4")]
    result = subprocess.run(door, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {tmp_path / 'none.mp4'} is not there; give the path of a video\n"
