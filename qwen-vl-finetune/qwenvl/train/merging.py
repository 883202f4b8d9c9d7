"""An adapter and its base model -> one plain model that any program loads.

    adapter folder ──find_base──▶ base weights (4-bit ones as they compute) ──▶ + adapter ──merge_layers──▶ weights

Each adapted layer is added up in fp32 and rounded once. Parts that were trained in full (mergers) take the place of
the base's own.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from qwenvl.data.preprocessing import FILE_NAME as PREPROCESSING_NAME
from qwenvl.train.base_model import BASE_NAME, BaseModel
from qwenvl.train.checkpoints import GROUPS_NAME, PREFIX
from qwenvl.train.inference import find_base, has_processor, load_adapter
from qwenvl.train.loading import load_model, load_processor, weights_dtype

# What processors of transformers 4 and 5 are saved as.
PROCESSOR_FILES = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "merges.txt", "preprocessor_config.json",
    "processor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "video_preprocessor_config.json", "vocab.json",
)  # fmt: skip
COMPANIONS = (PREPROCESSING_NAME, GROUPS_NAME, BASE_NAME)
RUN_PAPERS = ("train_plan.json", "training_log.jsonl")  # of a checkpoint-N they stand in the run's folder above it


def load_merged(
    folder: Path, *, base_model: str | None = None, other_base: bool = False, precision: str = ""
) -> tuple[Any, BaseModel]:
    """Put an adapter into its base model for good: (model, base that it stands on).

    Args:
        base_model: where the base is now, if it has moved.
        other_base: also where its weights are not those that were trained on.
        precision: of the result, "bf16", "fp16" or "fp32"; "" takes that of the base in training.

    Raises:
        DrivingError: The base is gone, has changed, or is of another shape; the adapter is incomplete or broken.
    """
    base = find_base(folder, base_model, other_base)
    dtype = weights_dtype(base.precision) if base.precision else "auto"
    model = load_model(base.path, attention="sdpa", dtype=dtype, commit=base.commit)
    if base.load_in_4bit:
        _take_dequantised(model, base)
    kept = weights_dtype(precision) if precision else model.dtype
    model = merge_layers(load_adapter(model, folder), folder).to(kept).eval()
    if name := find_not_finite(model):
        raise DrivingError(f"the merged weights of {name} do not fit into {kept}; pass --dtype bf16")
    return model, dataclasses.replace(base, model_type=model.config.model_type)


def _take_dequantised(model: Any, base: BaseModel) -> None:
    from qwenvl.train.quantised import copy_dequantised

    quantised = load_model(
        base.path,
        attention="sdpa",
        dtype=weights_dtype(base.precision),
        commit=base.commit,
        load_in_4bit=True,
    )
    copy_dequantised(quantised, model)


def merge_layers(model: Any, folder: Path) -> Any:
    """Add every adapter to its layer, in fp32 and back; returns the model without peft around it.

    Raises:
        DrivingError: The adapter holds values that are no numbers.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        weight = layer.get_base_layer().weight
        dtype = weight.dtype
        weight.data = weight.data.float()
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise DrivingError(_explain_broken(folder, name)) from error
        weight = layer.get_base_layer().weight
        weight.data = weight.data.to(dtype)
    merged = model.unload()
    if name := find_not_finite(merged):
        raise DrivingError(_explain_broken(folder, name))
    return merged


def find_not_finite(model: Any) -> str:
    """The first parameter with a value that is no number; "" where there is none."""
    import torch

    return next((name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all()), "")


def _explain_broken(folder: Path, name: str) -> str:
    name = name.removeprefix("base_model.model.")
    return f"{folder} holds values that are no numbers, in {name}; take an earlier checkpoint of the run"


def write_companions_of(folder: Path, base: BaseModel, output: Path) -> None:
    """Copy beside merged weights what evaluation and serving need, as it was saved with the adapter."""
    if has_processor(folder):
        for name in PROCESSOR_FILES:
            if (folder / name).exists():
                shutil.copyfile(folder / name, output / name)
    else:
        load_processor(base.path, commit=base.commit).save_pretrained(output)
    for name in (*COMPANIONS, *RUN_PAPERS):
        is_runs_own = name in RUN_PAPERS and folder.name.startswith(PREFIX)
        for place in (folder, folder.parent) if is_runs_own else (folder,):
            if (place / name).exists():
                shutil.copyfile(place / name, output / name)
                break
