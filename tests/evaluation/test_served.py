"""What is sent to a server: the frames, the times and the prompt of training; and the line that serves a checkpoint."""

from __future__ import annotations

import base64
import io
import json
import shlex
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from adapters import ANSWER, FORMAT, build_record, draw_frames, make_adapter, write_preprocessing  # noqa: E402
from PIL import Image  # noqa: E402
from recorded_server import NAME, RecordedServer, completion  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from evaluation.serving import ask as ask_server  # noqa: E402
from evaluation.serving import vllm_command  # noqa: E402
from evaluation.serving.ask import AskOptions  # noqa: E402
from evaluation.serving.prompt import DOUBLED, SPAN, describe_difference, plan_prompt, render_served  # noqa: E402
from evaluation.serving.request import build_body  # noqa: E402
from evaluation.serving.vllm_command import VllmOptions, find_obstacles, plan_serving  # noqa: E402
from qwenvl.data.dataset import build_inputs, read_clips  # noqa: E402
from qwenvl.data.frame_cache import Clip  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture(scope="module")
def served(tiny_model, tmp_path_factory):
    """A model folder with the papers of a run on 10 frames of 64x96."""
    from qwenvl.train.loading import load_processor

    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("served") / "merged")
    write_preprocessing(folder, load_processor(folder))
    return folder


@pytest.fixture
def own_served(served, tmp_path):
    """The same to be changed."""
    return shutil.copytree(served, tmp_path / "merged")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A recording of 3 s at 10 frames a second, twice as large as the model sees it."""
    from video_io import write_video

    path = tmp_path_factory.mktemp("clips") / "drive.mp4"
    write_video(path, draw_frames(30, 128, 192), 10.0)
    return path


@pytest.fixture(scope="module")
def processor(served):
    return vllm_command.load_papers(served)[0]


@pytest.fixture(scope="module")
def real_processor(shared_data):
    """The real Qwen3-VL-4B tokenizer, template and processors."""
    from qwenvl.train.loading import load_processor

    return load_processor(shared_data / "qwen3vl_processor")


@pytest.fixture
def recorded():
    server = RecordedServer()
    yield server
    server.close()


def wanted_ids(folder, record, clips) -> list[int]:
    """The prompt's tokens as training has them."""
    from qwenvl.train.loading import load_processor

    return build_inputs(
        record, load_processor(folder), Preprocessing.read(folder), with_answer=False, clips=clips
    )["input_ids"].tolist()  # fmt: skip


# The request


def open_frames(url: str) -> np.ndarray:
    """(T, H, W, 3) of a data address, read by Pillow as vLLM does."""
    head, _, data = url.partition(",")
    assert head == "data:video/jpeg;base64"
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in data.split(",")])


def test_every_pixel_arrives(served):
    frames = draw_frames()
    body = build_body(build_record(), [Clip(frames, 10.0)], model=NAME, max_tokens=9)
    part = body["messages"][1]["content"][0]
    assert part["type"] == "video_url"
    assert np.array_equal(open_frames(part["video_url"]["url"]), frames)


def test_jpeg_is_smaller_and_near(served):
    smooth = np.broadcast_to(np.linspace(0, 255, 96, dtype=np.uint8)[None, None, :, None], (4, 64, 96, 3))
    urls = {
        kind: build_body(build_record(), [Clip(smooth, 10.0)], model=NAME, max_tokens=9, pictures=kind)["messages"][1][
            "content"
        ][0]["video_url"]["url"]
        for kind in ("png", "jpeg")
    }
    assert np.abs(open_frames(urls["jpeg"]).astype(int) - smooth).max() <= 3


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

    sent = open_frames(body["messages"][1]["content"][0]["video_url"]["url"])
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


# The prompt


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


# The line


def flags_of(serving) -> dict[str, str]:
    """{flag: value} of a line."""
    words = serving.command
    return {
        word: words[i + 1] if i + 1 < len(words) and not words[i + 1].startswith("--") else ""
        for i, word in enumerate(words)
        if word.startswith("--")
    }


def test_a_whole_model_is_served_by_one_line(served):
    serving = plan_serving(VllmOptions(model=str(served)))
    flags = flags_of(serving)
    assert serving.command[:3] == ["vllm", "serve", str(served)]
    assert flags["--served-model-name"] == "driving" and flags["--generation-config"] == "vllm"
    assert json.loads(flags["--limit-mm-per-prompt"]) == {"image": 0, "video": 1}
    assert json.loads(flags["--media-io-kwargs"]) == {"video": {"num_frames": -1}}
    assert int(flags["--max-model-len"]) % 256 == 0
    assert "10 frames of 64x96 px" in serving.notes[0]


def test_the_script_is_one_command_for_a_shell(served):
    serving = plan_serving(VllmOptions(model=str(served)))
    script = serving.to_script()
    command = "\n".join(line for line in script.splitlines() if not line.startswith("#"))
    assert shlex.split(command.replace("\\\n", "")) == serving.command


def test_a_template_is_written_where_training_had_another_rendering(own_served, capsys):
    assert vllm_command.main(["--model", str(own_served)]) == 0
    shown = capsys.readouterr().out
    path = own_served / "chat_template_vllm.jinja"
    if path.exists():  # transformers 5.19 and later
        assert path.read_text() == (own_served / "chat_template.jinja").read_text().replace(SPAN, DOUBLED)
    assert path.exists() == ("--chat-template " in shown)


def test_weights_of_32_bits_are_said_to_be_rounded(served):
    serving = plan_serving(VllmOptions(model=str(served)))
    assert flags_of(serving)["--dtype"] == "bfloat16" and any("are float32" in note for note in serving.notes)


def test_a_plain_adapter_is_served_beside_its_base(tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "a", tune_mm_mlp=False, lora_r=12, precision="bf16")
    serving = plan_serving(VllmOptions(model=str(folder)))
    flags = flags_of(serving)
    assert serving.command[2] == str(tiny_model) and flags["--lora-modules"] == f"driving={folder}"
    assert flags["--max-lora-rank"] == "16" and "--enable-lora" in flags and "--served-model-name" not in flags
    assert "--enable-tower-connector-lora" not in flags and flags["--chat-template"].startswith(str(folder))


def test_adapters_in_the_tower_need_their_flag(tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "a", tune_mm_mlp=False, tune_mm_vision=True)
    serving = plan_serving(VllmOptions(model=str(folder)))
    assert "--enable-tower-connector-lora" in serving.command and any("experimental" in note for note in serving.notes)


def test_an_adapter_whose_weights_are_gone_is_named(tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "a", tune_mm_mlp=False)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(DrivingError, match=r"adapter_model.safetensors cannot be read \(.*\); copy it from the run"):
        plan_serving(VllmOptions(model=str(folder)))


def test_an_adapter_with_tuned_mergers_must_be_merged(tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "a", use_dora=True)
    with pytest.raises(DrivingError, match=r"unmerged: its mergers were tuned.* and it is DoRA.*merge_lora.py --model"):
        plan_serving(VllmOptions(model=str(folder)))


@pytest.mark.parametrize(
    ("config", "is_quantised", "reason"),
    [
        ({"r": 8, "modules_to_save": ["visual.merger"]}, False, "its mergers were tuned"),
        ({"r": 8, "use_dora": True}, False, "it is DoRA"),
        ({"r": 8, "bias": "all"}, False, "it has biases"),
        ({"r": 1024}, False, "its rank 1024 is above vLLM's 512"),
        ({"r": 8}, True, "it was trained on a 4-bit base"),
    ],
)
def test_what_keeps_an_adapter_from_being_served_alone(config, is_quantised, reason):
    found = find_obstacles(config, is_quantised)
    assert len(found) == 1 and found[0].startswith(reason)


def test_rslora_of_512_can_be_served_alone():
    assert find_obstacles({"r": 512, "use_rslora": True, "bias": "none", "modules_to_save": None}, False) == []


def test_a_folder_without_preprocessing_is_refused(tiny_model):
    with pytest.raises(DrivingError, match="has no preprocessing.json: it does not say which frames it was"):
        plan_serving(VllmOptions(model=str(tiny_model)))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DrivingError, match="holds neither config.json nor adapter_config.json"):
        plan_serving(VllmOptions(model=str(tmp_path)))
    with pytest.raises(DrivingError, match="does not exist; give a folder that training or merging wrote"):
        vllm_command.load_papers(tmp_path / "nothing")


def test_a_processor_that_renders_another_prompt_than_in_training_is_refused(own_served):
    values = json.loads((own_served / "preprocessing.json").read_text())
    (own_served / "preprocessing.json").write_text(json.dumps(values | {"prompt_hash": "0" * 16}))
    with pytest.raises(DrivingError, match="the prompt is not rendered as in training"):
        plan_serving(VllmOptions(model=str(own_served)))


def test_a_model_with_time_in_its_positions_is_refused(tmp_path):
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    folder = tmp_path / "qwen25"
    make_tiny_model(
        TinyModelOptions(
            output_dir=folder, model_type="qwen2_5_vl", hidden=32, layers=3, heads=2, kv_heads=1, intermediate=64,
            vision_hidden=32, vision_heads=2, vision_intermediate=48,
        )
    )  # fmt: skip
    Preprocessing(factor_px=28).write(folder)
    with pytest.raises(DrivingError, match="is a qwen2_5_vl model, whose positions hold the time between frames"):
        vllm_command.load_papers(folder)


# Asking


@pytest.fixture
def question(served, clip):
    """(record, clips, prompt ids) of what is asked about the first second of the clip."""
    record, _ = ask_server.build_record(clip, Preprocessing.read(served))
    clips = read_clips(record, Preprocessing.read(served))
    return record, clips, wanted_ids(served, record, clips)


def ask_about(clip, served, recorded, **changes) -> list[str]:
    return ask_server.run(AskOptions(clips=(clip,), model=str(served), server=recorded.url, timeout_s=5.0, **changes))


def test_what_is_sent_is_what_the_model_would_be_shown_here(served, clip, recorded, question):
    _, clips, ids = question
    recorded.play(completion(ANSWER, ids))
    lines = ask_about(clip, served, recorded)
    sent = recorded.bodies[0]
    assert np.array_equal(open_frames(sent["messages"][1]["content"][0]["video_url"]["url"]), clips[0].frames)
    assert clips[0].frames.shape == (10, 64, 96, 3)
    assert sent["media_io_kwargs"]["video"]["fps"] == 10.0 and sent["model"] == NAME
    assert lines == [f"{clip}: {ANSWER}", f"  strict; {len(ids):,} prompt tokens; 3 tokens"]


def test_a_later_second_of_a_recording_is_asked_about_by_its_start(served, clip, recorded, question):
    recorded.play(completion(ANSWER, question[2]))
    ask_about(clip, served, recorded)
    ask_about(clip, served, recorded, start_s=1.0)
    with pytest.raises(DrivingError, match=r"drive.mp4 ends at 3.00 s; --start-s 2.6 is too late"):
        ask_about(clip, served, recorded, start_s=2.6)
    first, second = (open_frames(body["messages"][1]["content"][0]["video_url"]["url"]) for body in recorded.bodies)
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
