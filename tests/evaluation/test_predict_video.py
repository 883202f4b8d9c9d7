"""Any video in, the video with the predicted path out; a stub answers in place of a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from driving.answer_format import AnswerFormat
from driving.camera import build_pinhole, format_camera
from driving.errors import DrivingError, VideoError
from driving.recording import VideoAddress
from driving.trajectory import Trajectory
from evaluation.video.overlay_video import Shown, find_answer, move_to_now
from evaluation.video.seconds import Second, plan_seconds
from evaluation.video.tool import PredictOptions, main, run
from qwenvl.data.dataset import read_clips
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.train.generation import Generated
from video_io.decode import decode_frames
from video_io.probe import probe_video

FORMAT = AnswerFormat(num_pairs=2, fps=10.0)
PREPROCESSING = {"video_fps": 10.0, "video_min_frames": 2, "answer_format": FORMAT.to_json()}
ANSWER = "[(12.0, 0.0200), (14.0, 0.0200)]"


class Stub:
    """Answers every second with ANSWER, or what it is told; reads frames as the model's engine does."""

    def __init__(self, answers=None, fail_after=None):
        self.answers = answers or {}
        self.fail_after = fail_after
        self.records, self.shapes = [], []

    def read(self, record):
        return read_clips(record, Preprocessing(**PREPROCESSING))

    def prepare(self, record, clips):
        return record, clips[0]

    def generate(self, samples):
        if self.fail_after is not None and len(self.records) >= self.fail_after:
            raise KeyboardInterrupt
        self.records += [record for record, _ in samples]
        self.shapes += [clip.frames.shape for _, clip in samples]
        names = [record["id"][-4:] for record, _ in samples]
        return [Generated(self.answers.get(name, ANSWER), 29, False, 100) for name in names]


def draw_video(path, num_frames, fps, height=90, width=160, sound_first=False, rotation=0, pts=None):
    """A road-like picture: grey level 2 i in frame i, dark upper half."""
    with av.open(str(path), "w") as container:
        if sound_first:
            sound = container.add_stream("aac", rate=8000)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if rotation:
            stream.side_data = {}
        if sound_first:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
        for index in range(num_frames):
            picture = np.full((height, width, 3), 60 + 2 * (index % 60), np.uint8)
            picture[: height // 2] //= 2
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], Fraction(1, 1000)
                stream.codec_context.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def model(tmp_path):
    """A folder with a model's papers."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
    return folder


@pytest.fixture
def predict(tmp_path, model):
    """predict(video, stub=None, **options) -> (its result, the stub); OUT is tmp_path/out.mp4."""

    def ask(video, stub=None, **options):
        stub = stub or Stub()
        values = {"model": str(model), "out": tmp_path / "out.mp4", "device": "cpu"} | options
        return run(PredictOptions(video=video, **values), lambda *_: stub), stub

    return ask


def read_lines(folder):
    return [json.loads(line) for line in (folder / "out.predictions.jsonl").read_text().splitlines()]


# which seconds


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


# the prompt


def test_the_prompt_is_the_one_that_was_taught(predict, tmp_path, model):
    _, stub = predict(draw_video(tmp_path / "a.mp4", 10, 10))
    turns = stub.records[0]["conversations"]
    assert [turn["from"] for turn in turns] == ["system", "human", "gpt"]
    assert turns[1]["value"] == f"<video>\n{FORMAT.question}"


def test_a_model_that_was_taught_without_a_system_turn_is_asked_without(predict, tmp_path, model):
    taught = {**PREPROCESSING, "prompt_example": {"conversations": [{"from": "human", "value": "..."}]}}
    (model / "preprocessing.json").write_text(json.dumps(taught))
    _, stub = predict(draw_video(tmp_path / "a.mp4", 10, 10))
    turns = stub.records[0]["conversations"]
    assert [turn["from"] for turn in turns] == ["human", "gpt"]
    assert turns[0]["value"] == f"<video>\n{FORMAT.system_prompt}\n{FORMAT.question}"


def test_a_model_that_must_be_told_the_motion_is_refused(predict, tmp_path, model):
    told = AnswerFormat(num_pairs=2, fps=10.0, history_pairs=2).to_json()
    (model / "preprocessing.json").write_text(json.dumps({**PREPROCESSING, "answer_format": told}))
    with pytest.raises(DrivingError, match="take a model of the video-only track"):
        predict(draw_video(tmp_path / "a.mp4", 10, 10))


@pytest.mark.parametrize(
    "answer_format, complaint",
    [
        (None, "was not taught to answer with motion: its preprocessing.json holds no answer_format"),
        ({"pairs": 2}, r"the answer format \{'pairs': 2\} is not one of this version"),
    ],
)
def test_a_model_of_another_task_is_refused(predict, tmp_path, model, answer_format, complaint):
    (model / "preprocessing.json").write_text(json.dumps({**PREPROCESSING, "answer_format": answer_format}))
    with pytest.raises(DrivingError, match=complaint):
        predict(draw_video(tmp_path / "a.mp4", 10, 10))


# what is written


def test_a_line_holds_the_answer_as_numbers_and_as_a_path(predict, tmp_path):
    predict(draw_video(tmp_path / "a.mp4", 10, 10))
    (line,) = read_lines(tmp_path)
    assert line["velocity_mps"] == [12, 14] and line["curvature_per_m"] == [0.02, 0.02]
    # 13 m on a circle of 50 m: x = sin(a) / k, y = (1 - cos(a)) / k with a = 0.26
    assert line["path"][-1] == pytest.approx([np.sin(0.26) * 50, (1 - np.cos(0.26)) * 50, 0.26])


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


def test_an_answer_that_cannot_be_read_is_counted_and_the_rest_is_drawn(predict, tmp_path):
    result, _ = predict(draw_video(tmp_path / "a.mp4", 20, 10), Stub({"0000": "I cannot see the road."}))
    assert "2 questions, 1 answered, 1 with an answer that cannot be read" in result["message"]
    assert [line["parsing"] for line in read_lines(tmp_path)] == ["failed", "strict"]


def test_an_absurd_answer_is_drawn_within_limits(predict, tmp_path):
    predict(draw_video(tmp_path / "a.mp4", 20, 10), Stub({"0000": "[(99999999.0, 7.0000), (1.0, 0.0000)]"}))
    path = np.array(read_lines(tmp_path)[0]["path"])
    assert np.isfinite(path).all() and np.abs(path[:, :2]).max() < 1000


def test_a_run_that_was_stopped_goes_on_where_it_was(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 40, 10)
    with pytest.raises(KeyboardInterrupt):
        predict(video, Stub(fail_after=2), batch_size=1)
    assert not (tmp_path / "out.mp4").exists()
    _, stub = predict(video, batch_size=1)
    assert [record["video_start"] for record in stub.records] == [2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "model", "out.mp4", "out.predictions.jsonl"]


def test_a_run_of_another_video_does_not_take_over_its_answers(predict, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict(draw_video(tmp_path / "a.mp4", 20, 10), Stub(fail_after=1), batch_size=1)
    _, stub = predict(draw_video(tmp_path / "b.mp4", 20, 10), batch_size=1)
    assert len(stub.records) == 2


def test_a_finished_run_may_be_made_again(predict, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 10, 10)
    predict(video)
    _, stub = predict(video)
    assert len(stub.records) == 1


@pytest.mark.parametrize("num_frames, answers, is_said", [(40, {}, True), (30, {}, False), (40, {"0002": "?"}, False)])
def test_a_model_that_says_the_same_of_everything_is_told(predict, tmp_path, capsys, num_frames, answers, is_said):
    predict(draw_video(tmp_path / "a.mp4", num_frames, 10), Stub(answers))
    warning = "warning: the model gave one answer to all 4 questions: it may not look at the video at all"
    assert (warning in capsys.readouterr().out) is is_said


def test_a_car_that_stands_is_no_model_that_does_not_look(predict, tmp_path, capsys):
    standing = {f"000{index}": "[(0.0, 0.0000), (0.0, 0.0000)]" for index in range(4)}
    predict(draw_video(tmp_path / "a.mp4", 40, 10), Stub(standing))
    assert "one answer to all" not in capsys.readouterr().out


# what would be spoilt


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


# which answer is drawn when


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


# a model


@pytest.mark.needs_torch
def test_a_model_that_is_kept_to_the_format_answers_every_second(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
    video = draw_video(tmp_path / "a.mp4", 20, 10, 64, 128)
    argv = [str(video), "--model", str(model), "--out", str(tmp_path / "out.mp4"), "--device", "cpu"]
    assert main([*argv, "--max-new-tokens", "60", "--constrained"]) == 0
    lines = read_lines(tmp_path)
    assert [(line["parsing"], line["is_constrained"]) for line in lines] == [("strict", True)] * 2


@pytest.mark.needs_torch
def test_a_real_model_goes_through_to_the_video(tiny_model, tmp_path):
    video = draw_video(tmp_path / "a.mp4", 20, 10, 64, 128)
    out = tmp_path / "out.mp4"
    argv = [str(video), "--model", str(tiny_model), "--out", str(out), "--device", "cpu", "--max-new-tokens", "4"]
    assert main(argv) == 0
    lines = read_lines(tmp_path)
    assert [line["parsing"] for line in lines] == ["failed", "failed"]
    assert [line["is_cut"] for line in lines] == [True, True]
    assert probe_video(VideoAddress(str(out))).num_frames == 20
