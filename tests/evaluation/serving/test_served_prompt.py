"""The prompt that a server makes of a request has the tokens of training, or it is told apart at its first token."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from adapters import build_record, draw_frames  # noqa: E402

from evaluation.serving.prompt import describe_difference, plan_prompt, render_served  # noqa: E402
from qwenvl.data.dataset import build_inputs  # noqa: E402
from qwenvl.data.frame_cache import Clip  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch


def test_the_time_of_each_pair_of_frames_is_their_mean(processor):
    ids = render_served(build_record(), [Clip(draw_frames(3), 10.0)], processor, processor.chat_template)
    text = processor.tokenizer.decode(ids)
    # frames 0 and 1 stand for 0.05 s, the last one is doubled: 0.2 s; 64 x 96 px are 2 x 3 visual tokens
    pads = "<|video_pad|>" * 6
    first, last = f"<{0.05:.1f} seconds>", "<0.2 seconds>"
    assert f"user\n{first}<|vision_start|>{pads}<|vision_end|>{last}<|vision_start|>{pads}<|vision_end|>Given" in text


def test_with_the_planned_template_the_tokens_are_those_of_training(real_processor):
    record, clips = build_record(), [Clip(draw_frames(), 10.0)]
    prompt = plan_prompt(record, clips, real_processor, Preprocessing(video_fps=10.0))
    wanted = build_inputs(record, real_processor, Preprocessing(), with_answer=False, clips=clips)["input_ids"].tolist()
    assert prompt.difference == ""
    assert render_served(record, clips, real_processor, prompt.template) == wanted
    own = render_served(record, clips, real_processor, real_processor.chat_template)
    assert prompt.is_own == (own == wanted)


def test_two_prompts_are_told_apart_at_their_first_token(processor):
    own = processor.chat_template
    wanted, found = (
        render_served(build_record(), [], processor, template) for template in (own, own.replace("assistant", "helper"))
    )
    line = describe_difference(found, wanted, processor.tokenizer)
    assert line.endswith("'hel' served, 'assistant\\n' trained")
