"""A served model asked about a clip: what it is shown and told, and what is said of its answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")
from adapters import ANSWER, FORMAT, draw_frames, write_preprocessing  # noqa: E402
from recorded_server import NAME, completion  # noqa: E402
from sent_frames import open_frames  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from evaluation.serving import ask as ask_server  # noqa: E402
from evaluation.serving.ask import AskOptions  # noqa: E402
from qwenvl.data.dataset import build_inputs, read_clips  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture
def question(served, clip, processor):
    """(record, clips, prompt ids) of what is asked about the first second of the clip."""
    record, _ = ask_server.build_record(clip, Preprocessing.read(served))
    clips = read_clips(record, Preprocessing.read(served))
    wanted = build_inputs(record, processor, Preprocessing.read(served), with_answer=False, clips=clips)
    return record, clips, wanted["input_ids"].tolist()


def ask_about(clip, served, recorded, **changes) -> list[str]:
    return ask_server.run(AskOptions(clips=(clip,), model=str(served), server=recorded.url, timeout_s=5.0, **changes))


def test_what_is_sent_is_what_the_model_would_be_shown_here(served, clip, recorded, question):
    _, clips, ids = question
    recorded.play(completion(ANSWER, ids))
    lines = ask_about(clip, served, recorded)
    sent = recorded.bodies[0]
    assert np.array_equal(open_frames(sent), clips[0].frames)
    assert clips[0].frames.shape == (10, 64, 96, 3)
    assert sent["media_io_kwargs"]["video"]["fps"] == 10.0 and sent["model"] == NAME
    assert lines == [f"{clip}: {ANSWER}", f"  strict; {len(ids):,} prompt tokens; 3 tokens"]


def test_a_later_second_of_a_recording_is_asked_about_by_its_start(served, clip, recorded, question):
    recorded.play(completion(ANSWER, question[2]))
    ask_about(clip, served, recorded)
    ask_about(clip, served, recorded, start_s=1.0)
    with pytest.raises(DrivingError, match=r"drive.mp4 ends at 3.00 s; --start-s 2.6 is too late"):
        ask_about(clip, served, recorded, start_s=2.6)
    first, second = (open_frames(body) for body in recorded.bodies)
    assert not np.array_equal(first, second)


def test_an_answer_that_cannot_be_read_says_why(served, clip, recorded, question):
    recorded.play(completion("The road is clear.", question[2], finish_reason="length"))
    assert "failed: the answer holds 0" in ask_about(clip, served, recorded)[1]
    assert "3 tokens; cut by the token limit" in ask_about(clip, served, recorded)[1]


def test_a_server_with_another_prompt_is_refused_by_its_first_token(served, clip, recorded, question):
    recorded.play(completion(ANSWER, question[2][:30] + question[2][31:]))
    with pytest.raises(DrivingError, match=r"differ from token 30 on.*vllm_command.py prints, or pass --force"):
        ask_about(clip, served, recorded)
    assert ask_about(clip, served, recorded, force=True)[0].endswith(ANSWER)


def test_a_server_that_only_counts_is_held_to_the_number(served, clip, recorded, question):
    answer = completion(ANSWER, question[2][:-2])
    del answer["prompt_token_ids"]
    recorded.play(answer)
    with pytest.raises(DrivingError, match="counts .* tokens in its prompt, training had"):
        ask_about(clip, served, recorded)


def test_the_request_can_be_written_instead_of_sent(served, clip, recorded, tmp_path):
    line = ask_about(clip, served, recorded, save_request=tmp_path / "request.json")[0]
    assert recorded.sent == [] and "the request about" in line
    body = json.loads((tmp_path / "request.json").read_text())
    assert body["stream"] is False and body["messages"][1]["content"][0]["type"] == "video_url"


def test_one_request_is_about_one_clip(served, clip, tmp_path):
    options = AskOptions(clips=(clip, clip), model=str(served), save_request=tmp_path / "request.json")
    with pytest.raises(DrivingError, match="--save-request holds one request, and 2 clips are named; name one"):
        ask_server.run(options)


def test_another_question_is_asked_where_one_is_given(served, clip, recorded, question):
    recorded.play(completion("Dry.", question[2]))
    ask_about(clip, served, recorded, question="Is the road wet?", force=True)
    assert recorded.bodies[0]["messages"][1]["content"][1]["text"] == "Is the road wet?"


def test_a_checkpoint_without_a_question_needs_one(own_served, clip, recorded):
    from qwenvl.train.loading import load_processor

    write_preprocessing(own_served, load_processor(own_served), answer_format=None)
    with pytest.raises(DrivingError, match="does not say which question it was trained on; pass --question"):
        ask_about(clip, own_served, recorded)


def test_a_model_that_needs_the_cars_motion_cannot_be_asked_without(own_served, clip, recorded):
    from qwenvl.train.loading import load_processor

    with_history = FORMAT.to_json() | {"history_pairs": FORMAT.num_pairs}
    write_preprocessing(own_served, load_processor(own_served), answer_format=with_history)
    with pytest.raises(DrivingError, match="and cannot be asked without them"):
        ask_about(clip, own_served, recorded)


def test_a_slower_recording_is_asked_about_and_said(served, recorded, question, tmp_path):
    from video_io import write_video

    write_video(tmp_path / "slow.mp4", draw_frames(12, 64, 96), 5.0)
    recorded.play(completion(ANSWER, question[2]))
    lines = ask_about(tmp_path / "slow.mp4", served, recorded, force=True)
    assert lines[1].endswith("; recorded at 5 frames a second, the model was taught with 10")
    assert recorded.bodies[0]["media_io_kwargs"]["video"]["fps"] == 5.0


def test_a_clip_that_cannot_be_read_is_named(served, recorded, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(b"no video")
    with pytest.raises(DrivingError, match="cut.mp4 cannot be read as a video"):
        ask_about(tmp_path / "cut.mp4", served, recorded)
    with pytest.raises(DrivingError, match="nothing.mp4 is not there"):
        ask_about(tmp_path / "nothing.mp4", served, recorded)
