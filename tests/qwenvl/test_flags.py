"""Every flag of upstream's and of ours moves something that can be seen, and no flag is without its case here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from flag_names import list_flags  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.data.dataset import BadSample  # noqa: E402
from qwenvl.data.decode_guard import DecodeGuard  # noqa: E402
from qwenvl.train.argument import parse_plan  # noqa: E402
from qwenvl.train.checkpoints import hash_plan  # noqa: E402
from qwenvl.train.parts import count_parameters, part_of  # noqa: E402
from qwenvl.train.train_qwen import run, train  # noqa: E402
from qwenvl.train.trainer import DrivingTrainer  # noqa: E402
from qwenvl.train.translate import resolve_machine  # noqa: E402

pytestmark = pytest.mark.needs_torch

LORA = ("--lora_enable", "True")
TRAINS_VISION = ("--tune_mm_vision", "True")
EVALUATED = ("--eval_strategy", "epoch", "--eval_dataset_use", "DATA")
BEST_METRICS = ("eval_loss", "eval_exact_match")


REFUSED = ("remove_unused_columns", "logging_nan_inf_filter")  # there for their defaults, which are not transformers'


class Grabbed(Exception):
    """Carries the trainer out of a run that is about to take its first step."""


@dataclass
class Sight:
    """What a command line led to: its trainer, ready for the first step, and what the run wrote until then."""

    trainer: DrivingTrainer
    facts: dict[str, Any]

    @property
    def model(self) -> Any:
        return self.trainer.model

    @property
    def dataset(self) -> Any:
        return self.trainer.train_dataset

    @property
    def sample(self) -> Any:
        return self.dataset[0]

    @property
    def rows(self) -> list[list[int]]:
        """Row numbers of each batch of the first epoch."""
        return list(self.trainer.batches)

    def adapters(self) -> dict[str, Any]:
        return {name: part for name, part in self.model.named_modules() if hasattr(part, "lora_A")}

    def groups(self) -> dict[str, set[tuple[float, float]]]:
        """{part of the model: {(learning rate, weight decay)}} of the optimizer's groups."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        found: dict[str, set[tuple[float, float]]] = {}
        for group in self.trainer.create_optimizer().param_groups:
            for part in {part_of(names[parameter]) for parameter in group["params"]}:
                found.setdefault(part, set()).add((group["lr"], group["weight_decay"]))
        return found

    def rates(self) -> list[float]:
        """The learning rate before each of ten steps, as shares of its peak."""
        optimizer = self.trainer.create_optimizer()
        scheduler = self.trainer.create_scheduler(10, optimizer)
        shares = []
        for _ in range(10):
            shares.append(round(scheduler.get_last_lr()[0] / self.trainer.args.learning_rate, 6))
            optimizer.step()
            scheduler.step()
        return shares


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
def names(tiny_model, other_model, training_json, image_json, prepared, tmp_path_factory) -> dict[str, str]:
    """What the words in capitals stand for on a command line."""
    return {
        "MODEL": str(tiny_model), "OTHER_MODEL": str(other_model), "DATA": str(training_json),
        "IMAGES": str(image_json), "HALF": f"{training_json}%50", "FOLDER": str(tmp_path_factory.mktemp("folder")),
        "PREPARED": str(prepared),
    }  # fmt: skip


def command(names: dict[str, str], output_dir: Path, *flags: str) -> list[str]:
    """A run of ten rows, two a batch; what stands later wins."""
    given = [
        "--model_name_or_path", "MODEL", "--dataset_use", "DATA", "--output_dir", str(output_dir), "--video_fps", "10",
        "--per_device_train_batch_size", "2", "--report_to", "none", "--use_cpu", "True", "--learning_rate", "0.01",
        "--disable_tqdm", "True", "--dataloader_num_workers", "0", *flags,
    ]  # fmt: skip
    return [names.get(word, word) for word in given]


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
                    run(command(names, folder / "out", *flags))
            facts = json.loads((folder / "out/train_plan.json").read_text())
            seen[flags] = Sight(caught.value.args[0], facts)
        return seen[flags]

    return start


def trained_parts(sight: Sight) -> set[str]:
    return {part for part, (trainable, _) in count_parameters(sight.model).items() if trainable}


def adapted_layers(sight: Sight) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name in sight.adapters()}


def dropouts(sight: Sight) -> set[float]:
    return {getattr(part.lora_dropout["default"], "p", 0.0) for part in sight.adapters().values()}


def scales(sight: Sight) -> set[float]:
    return {part.scaling["default"] for part in sight.adapters().values()}


def ranks(sight: Sight) -> set[int]:
    return {part.lora_A["default"].out_features for part in sight.adapters().values()}


def has_magnitudes(sight: Sight) -> bool:
    return any("magnitude" in name for name, _ in sight.model.named_parameters())


def frozen_types(sight: Sight) -> set[torch.dtype]:
    """Types of the language model's own linear weights, under the adapters."""
    return {part.base_layer.weight.dtype for part in sight.adapters().values()}


def text_width(sight: Sight) -> int:
    return sight.model.config.text_config.hidden_size


def attention(sight: Sight) -> str:
    return sight.model.config._attn_implementation


def video_shape(sight: Sight) -> list[int]:
    return list(sight.sample["videos"][0].shape[:3])


def video_rate(sight: Sight) -> float:
    return sight.sample["video_fps"][0]


def image_shape(sight: Sight) -> list[int]:
    return list(sight.sample["images"][0].shape[1:3])


def needs_a_decoder(sight: Sight) -> bool:
    """Whether a row that was not looked at yet is lost when nothing can be decoded."""

    def refuse(*args: Any) -> None:
        raise DrivingError("no decoder")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecodeGuard, "read", refuse)
        return isinstance(sight.dataset[5], BadSample)


def batch_rows(sight: Sight) -> int:
    """Rows of the tensor that two samples become."""
    return len(sight.trainer.data_collator([sight.dataset[0], sight.dataset[1]])["input_ids"])


def padding(sight: Sight) -> int:
    """Pairs that are missing in the shorter answers of the batches: row i has i % 3 + 1 of them."""
    return sum(abs(one % 3 - other % 3) for one, other in sight.rows)


def unused_search(sight: Sight) -> bool:
    """What data parallel is told, on the way that two processes take."""
    from transformers.training_args import ParallelMode

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(sight.trainer.args), "parallel_mode", ParallelMode.DISTRIBUTED)
        sight.trainer._wrap_model(sight.model)
    return sight.trainer.accelerator.ddp_handler.find_unused_parameters


def count_bad(sight: Sight) -> int:
    return sum(isinstance(sight.dataset[index], BadSample) for index in range(10))


def cosine(progress: float) -> float:
    """The schedule's share of the peak after this share of the way down."""
    return pytest.approx((1 + math.cos(math.pi * progress)) / 2, abs=1e-5)


def order(seed: int) -> list[list[int]]:
    """The rows of the first epoch, two a batch: a shuffle by (seed, epoch)."""
    return np.random.default_rng([seed, 0]).permutation(10).reshape(5, 2).tolist()


FLOAT = {torch.float32}
# flag -> (its value, what is looked at, what is seen without it, what is seen with it, flags of both runs)
MOVES: dict[str, tuple[str, Callable[[Sight], Any], Any, Any, tuple[str, ...]]] = {
    "model_name_or_path": ("OTHER_MODEL", text_width, 32, 64, ()),
    "tune_mm_llm": ("False", trained_parts, {"language", "merger"}, {"merger"}, ()),
    "tune_mm_mlp": ("False", trained_parts, {"language", "merger"}, {"language"}, ()),
    "tune_mm_vision": ("True", trained_parts, {"language", "merger"}, {"language", "merger", "vision"}, ()),
    "lora_enable": ("True", lambda sight: bool(sight.adapters()), False, True, ()),
    "lora_r": ("4", ranks, {64}, {4}, LORA),
    "lora_alpha": ("32", scales, {2.0}, {0.5}, LORA),
    "lora_dropout": ("0", dropouts, {0.05}, {0.0}, LORA),
    "lora_target_modules": (
        "attention", adapted_layers,
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        {"q_proj", "k_proj", "v_proj", "o_proj"}, LORA,
    ),
    "use_dora": ("True", has_magnitudes, False, True, LORA),
    "use_rslora": ("True", scales, {2.0}, {16.0}, LORA),  # 128 / 64, and 128 / the root of 64
    "load_in_4bit": ("True", frozen_types, FLOAT, {torch.uint8}, LORA),
    "attn_implementation": ("eager", attention, "sdpa", "eager", ()),
    "dataset_use": ("HALF", lambda sight: len(sight.dataset), 10, 5, ()),
    "data_flatten": ("True", batch_rows, 2, 1, ()),
    "data_packing": ("True", lambda sight: len(sight.rows), 5, 1, ()),  # all ten fit into one row of 4,096 tokens
    "max_pixels": ("6144", image_shape, [128, 192], [64, 96], ("--dataset_use", "IMAGES", "--min_pixels", "1024")),
    # 65,536 px is the processor's own least: 1.63 times 128 x 192, up to multiples of 32.
    "min_pixels": ("98304", image_shape, [224, 320], [256, 384], ("--dataset_use", "IMAGES", "--max_pixels", "98304")),
    "video_frame_pixels": ("2048", video_shape, [10, 64, 96], [10, 32, 64], ()),
    # A third of 10 x 64 x 96 px, down to multiples of 32 as the plain processor does; and three times as many, up.
    "video_max_pixels": ("20480", video_shape, [10, 64, 96], [10, 32, 32], ()),
    "video_min_pixels": ("184320", video_shape, [10, 64, 96], [10, 128, 192], ()),
    "video_max_frames": ("4", video_shape, [10, 64, 96], [4, 64, 96], ("--video_min_frames", "2")),
    "video_min_frames": ("6", video_shape, [2, 64, 96], [6, 64, 96], ("--video_fps", "2", "--video_min_frames", "2")),
    "video_fps": ("5", video_rate, 10.0, 5.0, ("--video_min_frames", "2")),
    "decode_limit_s": ("7", lambda sight: sight.dataset.guard.limit_s, 30.0, 7.0, ()),
    "prepared_dir": ("PREPARED", needs_a_decoder, True, False, ()),
    "cache_frames": ("False", lambda sight: sight.dataset.cache is None, False, True, ()),
    "model_max_length": ("150", count_bad, 0, 3, ()),  # answers of one, two and three pairs: 137, 150 and 163 tokens
    "mm_projector_lr": ("0.5", lambda s: s.groups()["merger"], {(0.01, 0.0)}, {(0.5, 0.0)}, ()),
    "vision_tower_lr": ("0.5", lambda s: s.groups()["vision"], {(0.01, 0.0)}, {(0.5, 0.0)}, TRAINS_VISION),
    "weight_decay": ("0.1", lambda s: s.groups()["language"], {(0.01, 0.0)}, {(0.01, 0.1), (0.01, 0.0)}, ()),
    # Sorted, one batch of five holds two lengths: there are four, three and three rows of each.
    "group_by_length": ("True", padding, sum(abs(a % 3 - b % 3) for a, b in order(42)), 1, ()),
    "lr_scheduler_type": ("constant", lambda s: s.rates()[9], cosine(0.9), 1.0, ("--warmup_steps", "0")),
    # 3 % of ten steps is one step.
    "warmup_steps": ("4", lambda s: s.rates()[:4], [0, 1, cosine(1 / 9), cosine(2 / 9)], [0, 0.25, 0.5, 0.75], ()),
    "dataloader_num_workers": ("1", lambda s: s.trainer.get_train_dataloader().num_workers, 0, 1, ()),
    "ddp_find_unused_parameters": ("True", unused_search, False, True, ()),
    "eval_dataset_use": ("HALF", lambda s: len(s.trainer.validator.set.samples), 10, 5, EVALUATED),
    "eval_samples": ("3", lambda s: len(s.trainer.validator.set.prompts), 10, 3, EVALUATED),
    "metric_for_best_model": ("exact_match", lambda s: s.trainer.best.metric, *BEST_METRICS, EVALUATED),
    "seed": ("7", lambda sight: sight.rows, order(42), order(7), ()),
}  # fmt: skip


@pytest.mark.parametrize("flag", MOVES)
def test_a_flag_moves_what_it_names(look, flag):
    value, observe, before, after, shared = MOVES[flag]
    assert (observe(look(*shared)), observe(look(*shared, f"--{flag}", value))) == (before, after)


# What is seen only in the files of a run, on the screen, or in how a run is refused.


@pytest.fixture(scope="module")
def finish(names, tmp_path_factory):
    """finish(*flags): the folder of a finished run of four steps."""

    def start(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("run") / "out"
        assert run(command(names, folder, "--max_steps", "4", *flags)) == 0
        return folder

    return start


def logged_steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "training_log.jsonl").read_text().splitlines()]


def kept_checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_logging_and_saving_steps_and_the_number_kept_show_in_the_files(finish):
    seldom = finish("--logging_steps", "2", "--save_steps", "3")
    assert logged_steps(seldom) == [2, 4]
    assert kept_checkpoints(seldom) == ["checkpoint-3", "checkpoint-4"]  # the last step is always kept
    often = finish("--save_steps", "1", "--save_total_limit", "3")
    assert logged_steps(often) == [1, 2, 3, 4]
    assert kept_checkpoints(often) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]


def test_the_output_dir_is_where_everything_goes(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(command(names, Path("here/and there"), "--max_steps", "1")) == 0
    assert (tmp_path / "here/and there/manifest.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_another_plan_replaces_a_run_only_when_asked(names, finish, capsys):
    folder = finish("--save_strategy", "no")
    other = command(names, folder, "--max_steps", "4", "--seed", "7")
    assert train(argv=other) == 1
    assert "seed = 42, this run asks for 7" in capsys.readouterr().err
    assert train(argv=[*other, "--overwrite_output", "True"]) == 0
    assert json.loads((folder / "plan.json").read_text())["seed"] == 7


def test_more_bad_rows_than_allowed_stop_a_run(names, training_json, tmp_path, capsys):
    rows = json.loads(training_json.read_text())
    for row in rows[:4]:
        row["video"] = "gone.mp4"
    (tmp_path / "train.json").write_text(json.dumps(rows))
    for row in rows[4:]:
        row["video"] = str(training_json.parent / row["video"])
    (tmp_path / "train.json").write_text(json.dumps(rows))
    flags = ("--dataset_use", str(tmp_path / "train.json"), "--max_steps", "1")
    assert train(argv=command(names, tmp_path / "out", *flags)) == 1
    assert "4 of 10 samples are bad (at most 2.0% may be)" in capsys.readouterr().err
    assert train(argv=command(names, tmp_path / "out", *flags, "--max_bad_fraction", "0.4")) == 0


def test_a_dry_run_prints_the_plan_for_the_processes_asked_and_writes_nothing(names, tmp_path, capsys):
    assert run(command(names, tmp_path / "out", "--dry_run", "True")) == 0
    assert "2 samples x 1 processes x 1 accumulation = 2 a step" in capsys.readouterr().out
    assert run(command(names, tmp_path / "out", "--dry_run", "True", "--dry_run_processes", "4")) == 0
    assert "2 samples x 4 processes x 1 accumulation = 8 a step" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_what_a_deepspeed_config_shards(names, repository, tmp_path, capsys):
    flags = ("--dry_run", "True", "--dry_run_processes", "4")
    gradients = []
    for more in ((), ("--dry_run_deepspeed", str(repository / "qwen-vl-finetune/scripts/zero3.json"))):
        assert run(command(names, tmp_path / "out", *flags, *more)) == 0
        gradients.append(float(re.search(r"gradients ([\d.]+)", capsys.readouterr().out)[1]))
    assert gradients[1] < gradients[0]


@pytest.mark.parametrize(
    ("precision", "halves"),
    [
        ("auto", ("True", "False")),
        ("bf16", ("True", "False")),
        ("fp16", ("False", "True")),
        ("fp32", ("False", "False")),
    ],
)
def test_precision_decides_how_a_gpu_computes(monkeypatch, precision, halves):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **kwargs: True)
    argv, _ = resolve_machine(["--precision", precision])
    assert (argv[argv.index("--bf16") + 1], argv[argv.index("--fp16") + 1]) == halves


def test_the_cache_dir_is_where_the_hub_is_told_to_keep_models(names, tmp_path, monkeypatch):
    asked = []

    def refuse(path: str, **settings: Any) -> None:
        asked.append(settings["cache_dir"])
        raise OSError("not now")

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", refuse)
    with pytest.raises(DrivingError, match="no processor can be loaded from .*: OSError: not now"):
        run(command(names, tmp_path / "out", "--cache_dir", "FOLDER"))
    assert asked == [names["FOLDER"]]


@pytest.mark.parametrize("flag", REFUSED)
def test_a_flag_that_could_only_do_harm_is_refused(flag):
    with pytest.raises(DrivingError, match=f"--{flag} True .* leave it out"):
        parse_plan(["--model_name_or_path", "m", "--use_cpu", "True", f"--{flag}", "True"])


def test_elastic_lets_one_process_go_on_where_two_began(names, tmp_path, capsys):
    argv = command(names, tmp_path / "out", "--max_steps", "1")
    assert run(argv) == 0
    (tmp_path / "out/manifest.json").unlink()
    pretend_that_two_began(tmp_path / "out", "checkpoint-1")
    more = [*argv, "--max_steps", "2"]
    with pytest.raises(DrivingError, match="was begun with 2 processes, this run has 1"):
        run(more)
    capsys.readouterr()
    assert run([*more, "--elastic", "True"]) == 0
    assert "accumulation, so that a step stays" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/checkpoint-2/complete.json").read_text())["processes"] == 1


def pretend_that_two_began(folder: Path, checkpoint: str) -> None:
    plan = {**json.loads((folder / "plan.json").read_text()), "world_size": 2}
    (folder / "plan.json").write_text(json.dumps(plan))
    marker = json.loads((folder / checkpoint / "complete.json").read_text())
    del plan["tool"]
    marker = {**marker, "plan_hash": hash_plan(plan), "processes": 2}
    (folder / checkpoint / "complete.json").write_text(json.dumps(marker))


ELSEWHERE = {
    "elastic": test_elastic_lets_one_process_go_on_where_two_began,
    "output_dir": test_the_output_dir_is_where_everything_goes,
    "logging_steps": test_logging_and_saving_steps_and_the_number_kept_show_in_the_files,
    "save_steps": test_logging_and_saving_steps_and_the_number_kept_show_in_the_files,
    "save_total_limit": test_logging_and_saving_steps_and_the_number_kept_show_in_the_files,
    "overwrite_output": test_another_plan_replaces_a_run_only_when_asked,
    "max_bad_fraction": test_more_bad_rows_than_allowed_stop_a_run,
    "dry_run": test_a_dry_run_prints_the_plan_for_the_processes_asked_and_writes_nothing,
    "dry_run_processes": test_a_dry_run_prints_the_plan_for_the_processes_asked_and_writes_nothing,
    "dry_run_deepspeed": test_a_dry_run_counts_what_a_deepspeed_config_shards,
    "precision": test_precision_decides_how_a_gpu_computes,
    "cache_dir": test_the_cache_dir_is_where_the_hub_is_told_to_keep_models,
    **dict.fromkeys(REFUSED, test_a_flag_that_could_only_do_harm_is_refused),
}


def test_no_flag_is_without_a_case():
    assert set(list_flags()) == {*MOVES, *ELSEWHERE}
