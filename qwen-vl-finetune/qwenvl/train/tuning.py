"""Freeze what must not learn, and put adapters where LoRA was asked for."""

from __future__ import annotations

import re

import torch
from torch import nn

from driving.errors import DrivingError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.parts import LANGUAGE, MERGER, VISION, list_merger_names, part_of

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def apply_tuning(model: nn.Module, arguments: ModelArguments) -> nn.Module:
    """Make exactly the asked parts trainable; with LoRA, returns the model wrapped by peft.

    With LoRA the mergers still train in full (`tune_mm_mlp`), saved beside the adapters; trainable weights are fp32.

    Raises:
        DrivingError: A LoRA target names no linear layer of a tuned part.
    """
    tuned = tuned_parts(arguments)
    if arguments.lora_enable:
        model = _wrap_lora(model, arguments, tuned)
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(part_of(name) in tuned)
    for parameter in model.parameters():
        # Adam's small steps vanish in 16 bits; autocast still computes in them. DeepSpeed keeps fp32 copies itself.
        is_sharded = hasattr(parameter, "ds_id")
        if parameter.requires_grad and parameter.dtype != torch.float32 and not is_sharded:
            parameter.data = parameter.data.float()
    return model


def tuned_parts(arguments: ModelArguments) -> set[str]:
    """The parts that learn, by the tune_mm_* flags."""
    flags = {LANGUAGE: arguments.tune_mm_llm, MERGER: arguments.tune_mm_mlp, VISION: arguments.tune_mm_vision}
    return {part for part, is_tuned in flags.items() if is_tuned}


def _wrap_lora(model: nn.Module, arguments: ModelArguments, tuned: set[str]) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    targets = list_lora_targets(model, arguments.lora_target_modules, tuned - {MERGER})
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        use_dora=arguments.use_dora,
        use_rslora=arguments.use_rslora,
        target_modules=_as_pattern(targets),
        modules_to_save=list_merger_names(model) if MERGER in tuned else None,
    )
    return get_peft_model(model, config)


def list_lora_targets(model: nn.Module, wanted: str, parts: set[str]) -> list[str]:
    """Full names of the linear layers that get adapters, never the head.

    Args:
        wanted: "all", "attention" (q, k, v, o as upstream), or last names with commas between them.
        parts: the parts whose layers may be adapted.

    Raises:
        DrivingError: A wanted name is no linear layer of these parts.
    """
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and part_of(f"{name}.") in parts and not name.endswith("lm_head")
    ]
    if wanted == "all":
        return linear
    names = ATTENTION if wanted == "attention" else tuple(part.strip() for part in wanted.split(",") if part.strip())
    known = {name.rsplit(".", 1)[-1] for name in linear}
    missing = [name for name in names if name not in known]
    if wanted == "attention":
        names = (*names, "qkv", "proj")  # how the vision tower spells them
        missing = missing if LANGUAGE in parts else []
    if missing or not names:
        raise DrivingError(
            f"--lora_target_modules {wanted!r}: {', '.join(missing) or 'nothing'} is no linear layer of the tuned "
            f"parts; there are {', '.join(sorted(known))} (or 'all', 'attention')"
        )
    return [name for name in linear if name.rsplit(".", 1)[-1] in names]


def _as_pattern(targets: list[str]) -> str:
    """One regular expression for the targets: layer numbers fold, so the adapter's config stays readable."""
    folded = sorted({re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(name)) for name in targets})
    return "|".join(folded)
