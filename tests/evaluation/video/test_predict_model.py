"""The model that is asked about a video: the prompt that it was taught, and models that cannot be asked."""

from __future__ import annotations

import json
import shutil

import pytest
from stub_model import FORMAT, PREPROCESSING, StubModel, draw_video, read_lines

from driving.answer_format import AnswerFormat, parse_answer
from driving.errors import DrivingError
from driving.recording import VideoAddress
from evaluation.video.tool import main
from video_io.probe import probe_video


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


@pytest.mark.parametrize("num_frames, answers, is_said", [(40, {}, True), (30, {}, False), (40, {"0002": "?"}, False)])
def test_a_model_that_says_the_same_of_everything_is_told(predict, tmp_path, capsys, num_frames, answers, is_said):
    predict(draw_video(tmp_path / "a.mp4", num_frames, 10), StubModel(answers))
    warning = "warning: the model gave one answer to all 4 questions: it may not look at the video at all"
    assert (warning in capsys.readouterr().out) is is_said


def test_a_car_that_stands_is_no_model_that_does_not_look(predict, tmp_path, capsys):
    standing = {f"000{index}": "[(0.0, 0.0000), (0.0, 0.0000)]" for index in range(4)}
    predict(draw_video(tmp_path / "a.mp4", 40, 10), StubModel(standing))
    assert "one answer to all" not in capsys.readouterr().out


@pytest.mark.needs_torch
def test_a_model_that_is_kept_to_the_format_answers_every_second(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
    video = draw_video(tmp_path / "a.mp4", 20, 10, 64, 128)
    argv = [str(video), "--model", str(model), "--out", str(tmp_path / "out.mp4"), "--device", "cpu"]
    assert main([*argv, "--max-new-tokens", "60", "--constrained"]) == 0
    lines = read_lines(tmp_path)
    assert len(lines) == 2
    for line in lines:  # of the format, though this model knows nothing of what a car can do
        assert line["is_constrained"] and parse_answer(line["text"], FORMAT).parsing == "strict"


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
