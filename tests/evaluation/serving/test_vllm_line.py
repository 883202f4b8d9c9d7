"""The line that serves a checkpoint, and what keeps one from being served."""

from __future__ import annotations

import json
import shlex

import pytest

pytest.importorskip("torch")
from adapters import make_adapter  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from evaluation.serving import vllm_command  # noqa: E402
from evaluation.serving.prompt import DOUBLED, SPAN  # noqa: E402
from evaluation.serving.vllm_command import VllmOptions, find_obstacles, plan_serving  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch


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
