"""Which part of the model a parameter belongs to: the vision tower, the mergers, or the language model."""

from __future__ import annotations

import math

from torch import nn

VISION, MERGER, LANGUAGE = "vision", "merger", "language"
PARTS = (LANGUAGE, MERGER, VISION)


def part_of(parameter_name: str) -> str:
    """The part by the parameter's full name; wrappers may have put prefixes before it.

    The DeepStack mergers belong to the mergers: they are the other three doors between tower and language model.
    """
    name = f".{parameter_name}"
    if ".visual." not in name:
        return LANGUAGE
    inside = name.split(".visual.", 1)[1]
    return MERGER if inside.startswith(("merger.", "deepstack_merger_list.")) else VISION


def find_tower(model: nn.Module) -> nn.Module | None:
    """The vision tower, whatever wraps the model; None for a model that has none."""
    for name, module in model.named_modules():
        if name.split(".")[-1] == "visual":
            return module
    return None


def list_merger_names(model: nn.Module) -> list[str]:
    """Full names of the merger modules: `visual.merger` and each DeepStack merger.

    peft cannot wrap the ModuleList as one; its members can be named.
    """
    tower = find_tower(model)
    if tower is None:
        return []
    deepstack = getattr(tower, "deepstack_merger_list", ())  # Qwen2.5-VL has none
    return ["visual.merger", *(f"visual.deepstack_merger_list.{i}" for i in range(len(deepstack)))]


def count_parameters(model: nn.Module) -> dict[str, tuple[int, int]]:
    """{part: (trainable, all)}; a tied head and a module that peft trains in copy are counted once.

    Under ZeRO-3 a shard hides its true size; DeepSpeed keeps it beside.
    """
    counts = dict.fromkeys(PARTS, (0, 0))
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        size = getattr(parameter, "ds_numel", parameter.numel())
        if (state := getattr(parameter, "quant_state", None)) is not None:
            size = math.prod(state.shape)  # two 4-bit weights a byte
        trainable, total = counts[part_of(name)]
        counts[part_of(name)] = (trainable + size * parameter.requires_grad, total + size)
    return counts
