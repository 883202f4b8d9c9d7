"""What is sent to a server: the very frames, times and turns of training, and what the tower makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from adapters import FORMAT, build_record, draw_frames  # noqa: E402
from recorded_server import NAME  # noqa: E402
from sent_frames import open_frames  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from evaluation.serving.prompt import SPAN  # noqa: E402
from evaluation.serving.request import build_body  # noqa: E402
from qwenvl.data.dataset import build_inputs  # noqa: E402
from qwenvl.data.frame_cache import Clip  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch


def test_every_pixel_arrives():
    frames = draw_frames()
    body = build_body(build_record(), [Clip(frames, 10.0)], model=NAME, max_tokens=9)
    part = body["messages"][1]["content"][0]
    assert part["type"] == "video_url"
    assert np.array_equal(open_frames(body), frames)


def test_jpeg_is_near():
    smooth = np.broadcast_to(np.linspace(0, 255, 96, dtype=np.uint8)[None, None, :, None], (4, 64, 96, 3))
    body = build_body(build_record(), [Clip(smooth, 10.0)], model=NAME, max_tokens=9, pictures="jpeg")
    assert np.abs(open_frames(body).astype(int) - smooth).max() <= 3


def test_jpeg_is_smaller_even_of_noise():
    clips = [Clip(draw_frames(), 10.0)]
    png, jpeg = (
        len(json.dumps(build_body(build_record(), clips, model=NAME, max_tokens=9, pictures=kind)))
        for kind in ("png", "jpeg")
    )
    assert jpeg < png


def test_the_server_is_told_rate_number_size_and_greed():
    body = build_body(build_record(), [Clip(draw_frames(), 9.5)], model=NAME, max_tokens=77)
    del body["messages"]
    assert body == {
        "model": "driving", "stream": False, "max_completion_tokens": 77, "temperature": 0.0, "top_p": 1.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "return_token_ids": True,
        "media_io_kwargs": {"video": {"fps": 9.5, "num_frames": -1}},
        "mm_processor_kwargs": {"do_sample_frames": False, "do_resize": False},
    }  # fmt: skip


def test_the_turns_are_those_of_the_row_without_the_answer():
    messages = build_body(build_record(), [Clip(draw_frames(), 10.0)], model=NAME, max_tokens=9)["messages"]
    assert messages[0] == {"role": "system", "content": FORMAT.system_prompt}
    assert [part["type"] for part in messages[1]["content"]] == ["video_url", "text"]
    assert messages[1]["content"][1]["text"] == FORMAT.question and len(messages) == 2


def test_clips_of_two_rates_do_not_fit_one_request():
    record = build_record() | {"video": ["a.mp4", "b.mp4"]}
    with pytest.raises(DrivingError, match="shows clips of 5 and 10 frames a second; a request tells one rate for all"):
        build_body(record, [Clip(draw_frames(), 10.0), Clip(draw_frames(), 5.0)], model=NAME, max_tokens=9)


def test_still_images_are_refused():
    with pytest.raises(DrivingError, match="shows still images; only clips can be asked about through a server"):
        build_body({"id": "a", "image": "a.png"}, [], model=NAME, max_tokens=9)


def process_as_vllm(processor, body: dict, **kwargs) -> dict:
    """What vLLM hands to the checkpoint's own processor for the frames of a request, by its documentation."""
    from transformers.video_utils import VideoMetadata

    sent = open_frames(body)
    told = body["media_io_kwargs"]["video"]
    num_frames = len(sent)
    metadata = VideoMetadata(
        total_num_frames=num_frames,
        fps=told["fps"],
        duration=num_frames / told["fps"],
        video_backend="jpeg_sequence",
        frames_indices=list(range(num_frames)),
    )
    given = {**body["mm_processor_kwargs"], **kwargs}
    return processor(text=[SPAN], videos=[[sent]], video_metadata=[[metadata]], return_tensors="pt", **given)


@pytest.mark.parametrize("num_frames", [10, 7])
def test_the_tower_is_given_the_tensors_of_training(processor, num_frames):
    from qwenvl.data.collate import collate_prompts, to_prompt_inputs

    clips = [Clip(draw_frames(num_frames), 10.0)]
    found = process_as_vllm(processor, build_body(build_record(), clips, model=NAME, max_tokens=9))
    sample = build_inputs(build_record(), processor, Preprocessing(), with_answer=False, clips=clips)
    wanted = to_prompt_inputs(collate_prompts([sample], pad_token_id=0), processor, "cpu")
    assert torch.equal(found["video_grid_thw"], wanted["video_grid_thw"])
    torch.testing.assert_close(found["pixel_values_videos"], wanted["pixel_values_videos"])


def test_left_to_itself_the_processor_would_keep_four_frames_of_a_second(processor):
    body = build_body(build_record(), [Clip(draw_frames(30), 30.0)], model=NAME, max_tokens=9)
    assert process_as_vllm(processor, body, do_sample_frames=True)["video_grid_thw"][0, 0] * 2 == 4
