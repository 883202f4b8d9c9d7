"""QLoRA: the frozen language model in 4 bits (NF4, its scales quantised once more); what sees and what speaks is not.

The vision tower, the mergers and the head keep the precision of the run: they are a tenth of the weights, and errors
there reach every token. Nothing is cast to fp32 for its own sake; what learns is fp32 (tuning.py).
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from driving.errors import DrivingError
from qwenvl.train.parts import LANGUAGE, part_of

# Full names from the root: transformers 5 matches these at the beginning or the end of a module's name, and the
# customary "visual" matches nothing, which quantises the tower without a word.
UNQUANTISED = ("model.visual", "lm_head")


def check_bitsandbytes() -> None:
    """Raise where --load_in_4bit was asked for (or a checkpoint needs it) and its library is not here."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise DrivingError(
            "4 bits need bitsandbytes, which is not installed; uv pip install bitsandbytes, or leave out "
            "--load_in_4bit (a QLoRA checkpoint needs it in any case)"
        )


def build_quantisation(compute_dtype: torch.dtype) -> Any:
    """transformers' config of NF4 with double quantisation, for everything but the tower, the mergers and the head."""
    from transformers import BitsAndBytesConfig

    check_bitsandbytes()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=list(UNQUANTISED),
    )


def list_quantised(model: nn.Module) -> list[str]:
    """Full names of the layers that hold 4-bit weights (and not of peft's wrappers around them)."""
    return [name for name, module in model.named_modules() if _is_quantised(module)]


def _is_quantised(module: nn.Module) -> bool:
    kind = type(module)
    is_real = kind.__module__.startswith("bitsandbytes.") and kind.__name__ == "Linear4bit"
    return is_real or getattr(module, "will_be_quantised", False)


def count_quantised(model: nn.Module) -> int:
    """How many weights are held in 4 bits."""
    layers = [model.get_submodule(name) for name in list_quantised(model)]
    return sum(layer.in_features * layer.out_features for layer in layers)


def check_quantised(model: nn.Module) -> None:
    """Raise where the library quantised another set of layers than was asked for.

    Raises:
        DrivingError: The tower, a merger or the head is quantised, or nothing is.
    """
    import transformers

    names = list_quantised(model)
    wrong = [name for name in names if part_of(f"{name}.") != LANGUAGE or name.endswith("lm_head")]
    if wrong or not names:
        raise DrivingError(
            f"transformers {transformers.__version__} quantised {wrong[0] if wrong else 'no layer'} against what was "
            "asked; install the version that uv.lock names"
        )


def keep_weights(model: nn.Module) -> None:
    """Stop bitsandbytes from repacking its weights at the first forward pass without gradients on a CPU.

    The repacked scales are bf16, and it goes on training with them: an evaluation would change the model (0.50).
    """
    for name in list_quantised(model):
        model.get_submodule(name).support_avx512bf16_for_cpu = False


def plan_quantisation(model: nn.Module) -> None:
    """Mark the layers that loading would quantise in a model without weights, for a dry run."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith(UNQUANTISED):
            module.will_be_quantised = True


def cast_unquantised(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights that are not quantised another float type, in place; the quantised ones stay as they are."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def copy_dequantised(quantised: nn.Module, plain: nn.Module) -> None:
    """Give the plain model the weights that the 4-bit one computes with: its own were rounded away in quantising."""
    from bitsandbytes.functional import dequantize_4bit

    for name in list_quantised(quantised):
        weight = quantised.get_submodule(name).weight
        target = plain.get_submodule(name).weight
        target.data.copy_(dequantize_4bit(weight.data, weight.quant_state).to(target.device))
