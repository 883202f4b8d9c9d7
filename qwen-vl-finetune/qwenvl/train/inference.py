"""Load what was trained, to be asked: on the base model it was trained on, as that was loaded then.

folder ──▶ config.json ──▶ model
       ──▶ adapter_config.json, base.json ──▶ base model, quantised again where it was ──▶ + adapter
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.data.preview import find_prompt_change
from qwenvl.train.base_model import BaseModel, check_base, resolve_base
from qwenvl.train.hub import check_findable
from qwenvl.train.loading import first_line, load_model, load_processor, weights_dtype
from qwenvl.train.quantised import cast_unquantised
from qwenvl.train.quiet import drop_harmless_messages

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def inference_dtype(device: str) -> Any:
    """bf16 where the GPU has it, fp16 on older cards, fp32 on CPU."""
    import torch

    if not str(device).startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def load_for_inference(
    path: str | Path,
    device: str = "cpu",
    *,
    attention: str = "auto",
    base_model: str | None = None,
    other_base: bool = False,
) -> tuple[Any, Any, Preprocessing]:
    """Load an adapter folder, a full fine-tuned folder or a base model: (model, processor, preprocessing).

    The model is in evaluation mode with its KV cache on; the vision tower computes as in training. A model without
    our preprocessing.json gets the defaults, at the frame sizes of its family. The base of a QLoRA adapter is quantised
    again as it was for training.

    Args:
        base_model: where an adapter's base model is now, if it has moved.
        other_base: put the adapter on its base model even where that has changed since.

    Raises:
        DrivingError: The folder is no model, or an adapter's base model is not where or what it was.
    """
    drop_harmless_messages()
    from qwenvl.train.fast_vision import speed_up_vision

    folder = Path(path)
    is_adapter = (folder / "adapter_config.json").exists()
    if is_adapter:
        base = find_base(folder, base_model, other_base)
        model = load_adapter(_load_base(base, attention, device), folder)
    else:
        check_findable(str(path))
        model = load_model(path, attention=attention, dtype=inference_dtype(device))
    speed_up_vision(model)
    model.to(device).eval()
    model.config.use_cache = True
    if has_processor(folder) or not is_adapter:
        processor = load_processor(path)
    else:
        processor = load_processor(base.path, commit=base.commit)
    pixels = processor.video_processor
    preprocessing = Preprocessing.read(folder) or Preprocessing(factor_px=pixels.patch_size * pixels.merge_size)
    if change := find_prompt_change(preprocessing, processor):
        warnings.warn(change, stacklevel=2)
    return model, processor, preprocessing


def find_base(folder: Path, base_model: str | None, other_base: bool) -> BaseModel:
    """The base model of an adapter, in the form that it was trained in.

    Raises:
        DrivingError: It is gone, or other weights stand in its place.
    """
    path = base_model or _read_base(folder / "adapter_config.json")
    then = BaseModel.read(folder)
    if then is None:
        check_findable(path)
        return BaseModel(path, "")
    now = resolve_base(path, then.commit if path == then.path else "")
    if not other_base:
        check_base(
            now, folder, "put back those it was trained on, name their folder with --base-model, or pass --force"
        )
    return dataclasses.replace(now, load_in_4bit=then.load_in_4bit, precision=then.precision)


def _load_base(base: BaseModel, attention: str, device: str) -> Any:
    dtype = inference_dtype(device)
    if not base.load_in_4bit:
        return load_model(base.path, attention=attention, dtype=dtype, commit=base.commit)
    model = load_model(
        base.path,
        attention=attention,
        dtype=weights_dtype(base.precision),
        commit=base.commit,
        load_in_4bit=True,
        compute_dtype=dtype,
        device=device,
    )
    cast_unquantised(model, dtype)
    return model


def load_adapter(model: Any, folder: Path) -> Any:
    """Put a trained adapter on its base model.

    peft only warns about adapter weights that are not in the file, and leaves those as they were drawn.

    Raises:
        DrivingError: The adapter's weights are gone, cut short, incomplete, or of another model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise DrivingError(f"{folder} holds no {ADAPTER_WEIGHTS}; copy it from the run, or take a complete checkpoint")
    try:
        model = PeftModel.from_pretrained(model, str(folder))
        with safe_open(weights, "pt") as file:
            missing = sorted(set(get_peft_model_state_dict(model)) - set(file.keys()))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DrivingError(
            f"{weights} cannot be loaded: {first_line(error)}; copy it again, or take another checkpoint"
        ) from error
    if missing:
        raise DrivingError(f"{weights} lacks {len(missing)} weights of its adapter ({missing[0]}); copy it again")
    return model


def has_processor(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("processor_config.json", "preprocessor_config.json"))


def _read_base(adapter_config: Path) -> str:
    try:
        base = json.loads(adapter_config.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise DrivingError(f"{adapter_config} does not name its base model ({error!r}); train it again") from error
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise DrivingError(f"the base model of {adapter_config.parent} was {base}, which is gone; pass --base-model")
    return base
