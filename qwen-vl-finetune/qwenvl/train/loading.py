"""Load models and processors: by what the folder says it holds, never by its name.

path ──▶ config.json model_type ──▶ class ──▶ weights in a precision, or in 4 bits
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from qwenvl.data.families import FAMILIES, check_config
from qwenvl.train.hub import check_findable
from qwenvl.train.quantised import (
    build_quantisation,
    check_quantised,
    keep_weights,
    plan_quantisation,
)
from qwenvl.train.quiet import bars_on_terminals_only
from qwenvl.train.sharded_weights import forget_unused_renamings, turn_by_full_shapes

VOCABULARY_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
NEEDED_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>")
ATTENTION = ("auto", "flash_attention_2", "sdpa", "eager")


def check_model_folder(path: str | Path) -> None:
    """Raise where a local folder is no model that can be trained; a hub name is left to the hub.

    transformers 5 loads a folder without vocabulary files *silently*, as a tokenizer that knows no word.

    Raises:
        DrivingError: Config or vocabulary is missing, or the model is of a kind that we do not train.
    """
    folder = Path(path)
    if not folder.is_dir():
        if folder.is_absolute() or str(path).startswith((".", "~")) or len(folder.parts) > 2:
            raise DrivingError(f"the model folder {path} does not exist; give a model folder or a hub name")
        return
    if not (folder / "config.json").exists():
        if (folder / "adapter_config.json").exists():
            raise DrivingError(f"{path} is an adapter, not a model; give the base model it was trained on")
        raise DrivingError(f"{path} holds no config.json; it is not a model folder")
    read_model_type(folder)
    _check_vocabulary(folder)


def _check_vocabulary(folder: Path) -> None:
    if not any(all((folder / name).exists() for name in names) for names in VOCABULARY_FILES):
        raise DrivingError(
            f"{folder} has no vocabulary (tokenizer.json, or vocab.json and merges.txt); "
            "copy them from the model it was made from"
        )


def read_model_type(folder: Path) -> str:
    """The config's model_type.

    Raises:
        DrivingError: The config is not JSON, or names a model that we do not train.
    """
    path = Path(folder) / "config.json"
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise DrivingError(f"{path} is not a model config ({error}); take the model's own") from error
    return check_type(model_type, str(folder))


def check_type(model_type: object, path: str) -> str:
    """Raise for a model that is in no family of ours; returns its type."""
    if model_type not in FAMILIES:
        raise DrivingError(f"{path} is a {model_type!r} model; this version trains {', '.join(FAMILIES)}")
    return str(model_type)


def load_processor(path: str | Path, cache_dir: str | None = None, commit: str = "") -> Any:
    """Load tokenizer, chat template and image and video processors, and check that the tokenizer knows words.

    Args:
        commit: of a hub model; "" takes the newest.

    Raises:
        DrivingError: The processor is neither here nor to be had, cannot be read, or has no vocabulary.
    """
    from transformers import AutoProcessor

    check_findable(str(path), commit, cache_dir, file_name="tokenizer_config.json")
    if Path(path).is_dir():
        _check_vocabulary(Path(path))
    try:
        processor = AutoProcessor.from_pretrained(path, cache_dir=cache_dir, revision=commit or "main")
    except (OSError, ValueError, KeyError, TypeError) as error:  # what foreign JSON leads to
        raise DrivingError(
            f"no processor can be loaded from {path}: {type(error).__name__}: {first_line(error)}; "
            "copy the processor's files again"
        ) from error
    vocabulary = processor.tokenizer.get_vocab()
    missing = [token for token in NEEDED_TOKENS if token not in vocabulary]
    if missing or len(vocabulary) <= 2 * len(NEEDED_TOKENS):
        raise DrivingError(
            f"the tokenizer of {path} knows {len(vocabulary)} tokens and not {', '.join(missing) or 'any words'}; "
            "its vocabulary files are missing or foreign"
        )
    if not processor.chat_template:
        raise DrivingError(f"{path} has no chat template (chat_template.jinja); copy that of its base model")
    if hasattr(processor.video_processor, "cap_pixels_per_frame"):
        # The default is about to change between versions; the frame size is ours to decide.
        processor.video_processor.cap_pixels_per_frame = False
    return processor


def choose_attention(asked: str, dtype: Any = None) -> str:
    """The attention implementation of this machine: "auto" takes flash attention where it can run, else SDPA.

    Args:
        dtype: that the model computes in; None is one of 16 bits.

    Raises:
        DrivingError: The name is unknown, or flash attention was asked for where it cannot run.
    """
    if asked not in ATTENTION:
        raise DrivingError(f"attention {asked!r} is none of {', '.join(ATTENTION)}")
    import torch

    can_flash = (
        importlib.util.find_spec("flash_attn") is not None
        and torch.cuda.is_available()
        and torch.cuda.get_device_capability() >= (8, 0)
        and dtype != torch.float32
    )
    if asked == "flash_attention_2" and not can_flash:
        raise DrivingError(
            "flash_attention_2 needs the flash-attn package, a GPU of compute capability 8 or more (A100, RTX 30 and "
            "later) and 16 bits (bf16 or fp16); use --attn_implementation auto"
        )
    if asked == "auto":
        return "flash_attention_2" if can_flash else "sdpa"
    return asked


def load_model(
    path: str | Path,
    *,
    attention: str,
    dtype: Any,
    cache_dir: str | None = None,
    commit: str = "",
    load_in_4bit: bool = False,
    compute_dtype: Any = None,
    device: Any = "cpu",
    without_weights: bool = False,
) -> Any:
    """Load weights with the class that the config's model_type names.

    Args:
        dtype: of the weights; those that are quantised have it before they are.
        commit: of a hub model; "" takes the newest.
        load_in_4bit: quantise the language model, on `device`, to compute in `compute_dtype` (default: `dtype`).
        without_weights: shapes only (on torch's meta device), for a plan that is not run.

    Raises:
        DrivingError: Nothing can be loaded from there, or bitsandbytes is missing.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers.integrations import is_deepspeed_zero3_enabled

    if Path(path).is_dir() and not (Path(path) / "config.json").exists():
        raise DrivingError(f"{path} holds no config.json; it is not a model folder")
    compute_dtype = compute_dtype or dtype
    options: dict[str, Any] = {"cache_dir": cache_dir, "revision": commit or "main"}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **options)
        family = FAMILIES[check_type(config.model_type, str(path))]
        check_config(config)
        model_class = getattr(transformers, family.model_class)
        if without_weights:
            with torch.device("meta"):
                model = model_class(config).to(dtype)
            if load_in_4bit:
                plan_quantisation(model)
            return model
        if load_in_4bit:
            options["quantization_config"] = build_quantisation(compute_dtype)
            if not is_deepspeed_zero3_enabled():  # which places the weights itself
                options["device_map"] = {"": device}
        if is_deepspeed_zero3_enabled():
            turn_by_full_shapes()
        with bars_on_terminals_only():
            model = model_class.from_pretrained(
                path, config=config, attn_implementation=choose_attention(attention, dtype), dtype=dtype, **options
            )
    except (OSError, ValueError, SafetensorError, StrictDataclassError) as error:
        raise DrivingError(
            f"no model can be loaded from {path}: {first_line(error)}; copy or download its files again"
        ) from error
    if is_deepspeed_zero3_enabled():
        forget_unused_renamings(model)
    if load_in_4bit:
        check_quantised(model)
        keep_weights(model)
    return model


def weights_dtype(precision: str) -> Any:
    """The torch type of "bf16", "fp16" or "fp32"."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


def first_line(error: Exception) -> str:
    """The first line of a library's message: the rest is a list of what it tried."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
