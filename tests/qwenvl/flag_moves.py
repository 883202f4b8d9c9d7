"""The table of the flags that show in a trainer before its first step: what each moves, from what to what."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from driving.errors import DrivingError
from qwenvl.data.dataset import BadSample
from qwenvl.data.decode_guard import DecodeGuard
from qwenvl.train.parts import count_parameters, part_of
from qwenvl.train.trainer import DrivingTrainer

LORA = ("--lora_enable", "True")
TRAINS_VISION = ("--tune_mm_vision", "True")
EVALUATED = ("--eval_strategy", "epoch", "--eval_dataset_use", "DATA")
BEST_METRICS = ("eval_loss", "eval_exact_match")


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


def is_grey(sight: Sight) -> bool:
    return bool((sight.sample["videos"][0] == 128).all())


def image_shape(sight: Sight) -> list[int]:
    return list(sight.sample["images"][0].shape[1:3])


def needs_a_decoder(sight: Sight) -> bool:
    """Whether a row that was not looked at yet is lost when nothing can be decoded."""

    def refuse(*args: Any) -> None:
        raise DrivingError("no decoder")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecodeGuard, "read", refuse)
        return isinstance(sight.dataset[5], BadSample)


def is_iterable(sight: Sight) -> bool:
    """Whether the loader takes its samples from a stream."""
    return isinstance(sight.trainer.get_train_dataloader().dataset, torch.utils.data.IterableDataset)


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
    "blind": ("True", is_grey, False, True, ()),
    "streaming": ("True", is_iterable, False, True, ()),
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
