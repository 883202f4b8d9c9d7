"""Qwen3-VL's mixture of experts and Qwen2.5-VL: the same promises as for the dense model, or a refusal."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from plain_batches import PAD, plain_inputs  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.data.collate import collate, collate_prompts, to_prompt_inputs, to_step_inputs  # noqa: E402
from qwenvl.data.dataset import build_inputs, read_records  # noqa: E402
from qwenvl.data.families import family_of  # noqa: E402
from qwenvl.data.labels import MEDIA_PLACEHOLDERS  # noqa: E402
from qwenvl.data.pixels import render_video_block, set_processor_budget  # noqa: E402
from qwenvl.data.positions import plan_positions  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.tiny_model import TinyModelOptions, make_tiny_model  # noqa: E402
from qwenvl.train.argument import ModelArguments  # noqa: E402
from qwenvl.train.fast_vision import speed_up_vision  # noqa: E402
from qwenvl.train.forward import use_driving_forward  # noqa: E402
from qwenvl.train.inference import load_for_inference  # noqa: E402
from qwenvl.train.loading import check_model_folder, load_model, load_processor  # noqa: E402
from qwenvl.train.parts import LANGUAGE, MERGER, VISION, count_parameters, list_merger_names, part_of  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402
from qwenvl.train.tuning import apply_tuning, list_lora_targets  # noqa: E402

pytestmark = pytest.mark.needs_torch

QWEN2_5 = pytest.param(
    "qwen2_5_vl", marks=pytest.mark.skipif(transformers.__version__ < "5.19", reason="transformers 5.17 is refused")
)


@pytest.fixture(scope="module", params=["qwen3_vl_moe", QWEN2_5])
def other(request, tmp_path_factory):
    """The folder of a tiny model of another family than the dense Qwen3-VL."""
    folder = tmp_path_factory.mktemp("models") / request.param
    make_tiny_model(
        TinyModelOptions(
            output_dir=folder, model_type=request.param, hidden=32, layers=3, heads=2, kv_heads=1, intermediate=64,
            vision_hidden=32, vision_heads=2, vision_intermediate=48,
        )
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def qwen2_5(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "qwen2_5"
    make_tiny_model(TinyModelOptions(output_dir=folder, model_type="qwen2_5_vl", layers=3, vision_layers=4))
    return folder


@pytest.fixture(scope="module")
def samples(other, training_json):
    """(processor, three samples of different lengths)."""
    processor = load_processor(other)
    settings = processor.video_processor
    preprocessing = Preprocessing(video_fps=10.0, factor_px=settings.patch_size * settings.merge_size)
    folder = training_json.parent
    records = read_records(training_json)[:3]
    return processor, [build_inputs(r, processor, preprocessing, with_answer=True, folders=[folder]) for r in records]


@pytest.mark.parametrize("flatten", [False, True], ids=["padded", "flattened"])
def test_loss_and_gradients_equal_those_of_plain_transformers(other, samples, flatten):
    processor, rows = samples
    plain = load_model(other, attention="eager", dtype=torch.float32)
    ours = load_model(other, attention="sdpa", dtype=torch.float32)
    speed_up_vision(ours)
    use_driving_forward(ours)
    expected = plain(**plain_inputs(processor, rows)).loss
    inputs = to_step_inputs(collate(rows, pad_token_id=PAD, flatten=flatten), processor, "cpu")
    found = ours(**inputs).loss / len(inputs["targets"])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    found.backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        if theirs[name].grad is None:
            assert parameter.grad is None or not parameter.grad.any(), name
        else:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-6, msg=name)


LORA = ("--lora_enable", "True", "--lora_r", "4", "--tune_mm_vision", "True")
FULL = ("--tune_mm_vision", "True")


@pytest.mark.parametrize("flags", [FULL, LORA], ids=["full", "lora"])
def test_two_steps_are_trained_and_the_result_answers(other, samples, training_json, tmp_path, flags):
    command = [
        "--model_name_or_path", str(other), "--dataset_use", str(training_json), "--output_dir", str(tmp_path),
        "--per_device_train_batch_size", "2", "--learning_rate", "1e-2", "--video_fps", "10", "--report_to", "none",
        "--dataloader_num_workers", "0", "--use_cpu", "True", "--warmup_steps", "0", "--max_steps", "2", *flags,
    ]  # fmt: skip
    assert run(command) == 0
    losses = [json.loads(line)["loss"] for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    assert len(losses) == 2 and losses[1] != losses[0]
    model, processor, preprocessing = load_for_inference(tmp_path)
    assert preprocessing.factor_px == {"qwen3_vl_moe": 32, "qwen2_5_vl": 28}[model.config.model_type]
    record = read_records(training_json)[0]
    prompt = build_inputs(record, processor, preprocessing, with_answer=False, folders=[training_json.parent])
    inputs = to_prompt_inputs(collate_prompts([prompt, prompt], pad_token_id=PAD), processor, "cpu")
    answers = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert answers[0].tolist() == answers[1].tolist()
    if flags is FULL:
        plain = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path, attn_implementation="eager")
        assert plain.generate(**inputs, max_new_tokens=4, do_sample=False).tolist() == answers.tolist()


def test_every_parameter_belongs_to_a_part(other):
    model = load_model(other, attention="sdpa", dtype=torch.float32)
    counts = count_parameters(apply_tuning(model, ModelArguments(tune_mm_llm=False)))
    assert [counts[part][0] == counts[part][1] for part in (MERGER, LANGUAGE, VISION)] == [True, False, False]
    assert len(list_merger_names(model)) == {"qwen3_vl_moe": 4, "qwen2_5_vl": 1}[model.config.model_type]
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if part_of(name) != MERGER)


def test_lora_leaves_the_router_and_the_experts_alone(other):
    model = load_model(other, attention="sdpa", dtype=torch.float32)
    names = {name.rsplit(".", 1)[-1] for name in list_lora_targets(model, "all", {LANGUAGE})}
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    dense = {"gate_proj", "up_proj", "down_proj"}
    assert names == (attention if model.config.model_type == "qwen3_vl_moe" else attention | dense)
    for wanted in ("gate", "experts"):
        with pytest.raises(DrivingError, match=f"{wanted} is no linear layer of the tuned parts"):
            list_lora_targets(model, wanted, {LANGUAGE})


def test_qlora_quantises_the_language_model_only(other):
    pytest.importorskip("bitsandbytes")
    from qwenvl.train.quantised import list_quantised

    model = load_model(other, attention="sdpa", dtype=torch.float32, load_in_4bit=True)
    names = list_quantised(model)
    assert len(names) == 3 * (4 if model.config.model_type == "qwen3_vl_moe" else 7)
    assert all(name.startswith("model.language_model.layers.") for name in names)


# Qwen2.5-VL


def test_a_clip_is_one_block_of_as_many_tokens_as_the_processor_writes(qwen2_5):
    processor = load_processor(qwen2_5)
    block = render_video_block(processor, 6, 56, 84, 10.0)
    video = torch.zeros(6, 3, 56, 84, dtype=torch.uint8)
    plain = processor(
        text=[MEDIA_PLACEHOLDERS["video"]], videos=[video], do_resize=False, do_sample_frames=False,
        video_metadata=[{"fps": 10.0, "total_num_frames": 6, "frames_indices": list(range(6))}],
    )  # fmt: skip
    assert list(block.input_ids) == plain["input_ids"][0]
    assert list(block.mm_token_type_ids) == [0] + [2] * (3 * 2 * 3) + [0]  # 6 / 2 frames, 56 / 28 x 84 / 28 tokens


@pytest.mark.skipif(transformers.__version__ < "5.19", reason="transformers 5.17 is refused")
@pytest.mark.parametrize("fps", [30.0, 10.0, 9.62, 24.0, 1.0])
def test_its_positions_equal_transformers_rope_index(qwen2_5, fps):
    with torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(qwen2_5)
        model = transformers.Qwen2_5_VLForConditionalGeneration(config).model
    processor = load_processor(qwen2_5)
    # text, a video of 16 pairs, text, a picture, text, a video of 3 pairs
    types = [0] * 3 + [2] * (16 * 2 * 3) + [0] * 2 + [1] * 4 + [0] + [2] * (3 * 2) + [0] * 5
    videos, images = [(16, 4, 6), (3, 2, 4)], [(1, 4, 4)]
    expected, _ = model.get_rope_index(
        torch.zeros(1, len(types), dtype=torch.long),
        mm_token_type_ids=torch.tensor([types]),
        image_grid_thw=torch.tensor(images),
        video_grid_thw=torch.tensor(videos),
        second_per_grid_ts=torch.tensor([2 / fps, 2 / 30.0]),
    )
    steps = family_of(processor).plan_time_steps([fps, 30.0], 2)
    found = plan_positions(np.array(types), images, videos, 2, steps)
    assert found[1:].tolist() == expected[:, 0].tolist()


def test_the_saved_processor_gives_the_trained_frame_size_from_the_plain_recording(qwen2_5):
    processor = load_processor(qwen2_5)
    assert set_processor_budget(processor, 252, 448, 30, (252, 448), 28)
    video = torch.zeros(4, 3, 1080, 1920, dtype=torch.uint8)
    pixels = processor.video_processor(videos=[video], do_sample_frames=False, return_tensors="pt")
    assert pixels["video_grid_thw"].tolist() == [[2, 252 // 14, 448 // 14]]


# What is none of them


@pytest.mark.parametrize("model_type", ["qwen3", "llava", "qwen2_vl", "qwen3_5", "llama"])
def test_a_model_of_another_kind_is_refused_with_those_that_are_trained(tiny_model, tmp_path, model_type):
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    with pytest.raises(DrivingError, match=f"is a '{model_type}' model; .* qwen3_vl, qwen3_vl_moe, qwen2_5_vl"):
        check_model_folder(tmp_path)


def test_a_transformers_that_counts_whole_seconds_is_refused(qwen2_5, monkeypatch):
    monkeypatch.setattr("transformers.__version__", "5.17.0")
    with pytest.raises(DrivingError, match="5.17.0 does not place the frames of a qwen2_5_vl model in time; .* 5.19"):
        load_model(qwen2_5, attention="sdpa", dtype=torch.float32)


def test_a_model_that_tells_time_otherwise_is_refused(qwen2_5, tmp_path, monkeypatch):
    shutil.copytree(qwen2_5, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["tokens_per_second"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.__version__", "5.23.0")
    with pytest.raises(DrivingError, match="has 4 tokens_per_second in its vision_config, all others have 2"):
        load_model(tmp_path, attention="sdpa", dtype=torch.float32)
