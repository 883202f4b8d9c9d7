"""What differs between the models that we train, in one table; everything else asks it, by model_type or processor.

A model that is not in it is refused: what is silently different would train, and learn something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driving.errors import DrivingError


@dataclass(frozen=True)
class Family:
    """One kind of model.

    Attributes:
        model_type: of its config.json.
        model_class, processor_class: names in transformers.
        tokens_per_second: a clip is one block, and its time is in the positions, so many a second; 0: a clip is one
            block for each pair of frames, each after its time in words.
        counts_clip_pixels: the video processor's `longest_edge` is px of all frames together; else of one frame.
        has_experts: its MLPs are experts behind a router: parameters of their own shape, no linear layers, so that
            neither adapters nor 4-bit weights reach them.
        needs_transformers: the first release that computes it rightly.
    """

    model_type: str
    model_class: str
    processor_class: str
    tokens_per_second: int = 0
    counts_clip_pixels: bool = True
    has_experts: bool = False
    needs_transformers: tuple[int, int] = (5, 17)

    def plan_time_steps(self, fps: Sequence[float], frames_a_step: int) -> list[np.float32] | None:
        """Positions from one pair of frames to the next, for each clip; None where time is in words.

        Args:
            fps: frames per second of each clip.
            frames_a_step: frames that the tower joins into one step.
        """
        if not self.tokens_per_second:
            return None
        # In float32, as transformers has it: the product is cut to a whole number.
        return [np.float32(self.tokens_per_second) * np.float32(frames_a_step / value) for value in fps]


FAMILIES = {
    family.model_type: family
    for family in (
        Family("qwen3_vl", "Qwen3VLForConditionalGeneration", "Qwen3VLProcessor"),
        Family("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", "Qwen3VLProcessor", has_experts=True),
        Family(
            "qwen2_5_vl",
            "Qwen2_5_VLForConditionalGeneration",
            "Qwen2_5_VLProcessor",
            tokens_per_second=2,
            counts_clip_pixels=False,
            needs_transformers=(5, 19),  # 5.17 cuts the seconds of a step to a whole number: at driving rates, to 0
        ),
    )
}


def check_config(config: Any) -> None:
    """Raise where a model of a known kind tells time otherwise than its family does, or transformers does.

    Args:
        config: of transformers.
    """
    import transformers

    family = FAMILIES[config.model_type]
    if tuple(map(int, transformers.__version__.split(".")[:2])) < family.needs_transformers:
        needed = ".".join(map(str, family.needs_transformers))
        raise DrivingError(
            f"transformers {transformers.__version__} does not place the frames of a {config.model_type} model in "
            f"time; install {needed} or newer"
        )
    found = getattr(config.vision_config, "tokens_per_second", 0)
    if found != family.tokens_per_second:
        raise DrivingError(
            f"this {config.model_type} model has {found} tokens_per_second in its vision_config, all others have "
            f"{family.tokens_per_second}; take the config of the model it was made from"
        )


def family_of(processor: Any) -> Family:
    """The family whose processor this is; Qwen3-VL and its mixture of experts share one."""
    name = type(processor).__name__
    return next((family for family in FAMILIES.values() if family.processor_class == name), FAMILIES["qwen3_vl"])
