"""What differs between the models that we train, in one table; everything else asks it, by model_type or processor.

A model that is not in it is refused: what is silently different would train, and learn something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """One kind of model.

    Attributes:
        model_type: of its config.json.
        model_class, processor_class: names in transformers.
        has_deepstack: features from inside the tower enter the first text layers, through mergers of their own.
        has_time_stamps: a clip is written as one block a pair of frames, each after its time; else as one block, and
            its time is in the positions (tokens a second).
        counts_clip_pixels: the video processor's `longest_edge` is px of all frames together; else of one frame.
        num_experts_key: name in the text config of the number of experts; "" for a dense model.
    """

    model_type: str
    model_class: str
    processor_class: str
    has_deepstack: bool = True
    has_time_stamps: bool = True
    counts_clip_pixels: bool = True
    num_experts_key: str = ""


FAMILIES = {
    family.model_type: family
    for family in (
        Family("qwen3_vl", "Qwen3VLForConditionalGeneration", "Qwen3VLProcessor"),
        Family("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", "Qwen3VLProcessor", num_experts_key="num_experts"),
        Family(
            "qwen2_5_vl",
            "Qwen2_5_VLForConditionalGeneration",
            "Qwen2_5_VLProcessor",
            has_deepstack=False,
            has_time_stamps=False,
            counts_clip_pixels=False,
        ),
    )
}


def family_of(processor: Any) -> Family:
    """The family whose processor this is; Qwen3-VL and its mixture of experts share one."""
    name = type(processor).__name__
    return next((family for family in FAMILIES.values() if family.processor_class == name), FAMILIES["qwen3_vl"])
