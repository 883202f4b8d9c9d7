"""Every flag that shows in a trainer before its first step moves what it names; the rest: test_flags_in_runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from flag_moves import MOVES, Sight  # noqa: E402
from tiny_runs import list_flags  # noqa: E402

from qwenvl.train.train_qwen import run  # noqa: E402
from qwenvl.train.trainer import DrivingTrainer  # noqa: E402

pytestmark = pytest.mark.needs_torch


class Grabbed(Exception):
    """Carries the trainer out of a run that is about to take its first step."""


@pytest.fixture(scope="module")
def image_json(tmp_path_factory) -> Path:
    """Ten rows with one still image of 128 x 192 px each."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (192, 128), (90, 120, 30)).save(folder / "a.png")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A road"}]
    rows = [{"id": f"r{index}", "image": "a.png", "conversations": turns} for index in range(10)]
    (folder / "images.json").write_text(json.dumps(rows))
    return folder / "images.json"


@pytest.fixture(scope="module")
def other_model(tmp_path_factory) -> Path:
    """Twice as wide as the session's tiny model."""
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    folder = tmp_path_factory.mktemp("models") / "wider"
    sizes = {"hidden": 64, "layers": 3, "heads": 2, "kv_heads": 1, "intermediate": 64}
    vision = {"vision_hidden": 32, "vision_heads": 2, "vision_intermediate": 48}
    make_tiny_model(TinyModelOptions(output_dir=folder, **sizes, **vision))
    return folder


@pytest.fixture(scope="module")
def prepared(tiny_model, training_json, tmp_path_factory) -> Path:
    """The ten rows, decoded once."""
    from qwenvl.prepare_cache import main

    folder = tmp_path_factory.mktemp("prepared") / "cache"
    flags = ["--model_name_or_path", str(tiny_model), "--dataset_use", str(training_json), "--output_dir", str(folder)]
    assert main([*flags, "--video_fps", "10", "--workers", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def names(tiny_model, other_model, training_json, image_json, prepared) -> dict[str, str]:
    """What the words in capitals stand for on a command line."""
    return {
        "MODEL": str(tiny_model), "OTHER_MODEL": str(other_model), "DATA": str(training_json),
        "IMAGES": str(image_json), "HALF": f"{training_json}%50", "PREPARED": str(prepared),
    }  # fmt: skip


@pytest.fixture(scope="module")
def look(names, tmp_path_factory):
    """look(*flags): the Sight of that command line; the same flags are looked at once."""
    seen: dict[tuple[str, ...], Sight] = {}

    def grab(trainer: DrivingTrainer, **kwargs: Any) -> None:
        raise Grabbed(trainer)

    def start(*flags: str) -> Sight:
        if flags not in seen:
            folder = tmp_path_factory.mktemp("run")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(DrivingTrainer, "train", grab)
                with pytest.raises(Grabbed) as caught:
                    run([names.get(word, word) for word in list_flags("MODEL", "DATA", folder / "out", *flags)])
            facts = json.loads((folder / "out/train_plan.json").read_text())
            seen[flags] = Sight(caught.value.args[0], facts)
        return seen[flags]

    return start


@pytest.mark.parametrize("flag", MOVES)
def test_a_flag_moves_what_it_names(look, flag):
    value, observe, before, after, shared = MOVES[flag]
    assert (observe(look(*shared)), observe(look(*shared, f"--{flag}", value))) == (before, after)
