"""One training run of Qwen's own qwen-vl-finetune, inside its environment; called by benchmarks.peer_runs.

Its folder is named by the variable UPSTREAM_DIR (a checkout's qwen-vl-finetune/). It needs transformers 4.57, whose
files differ from those of 5: the model folder is written again for it. `flash_attn`, which it imports before
anything else, needs a GPU; in its place stands one SDPA call a sample, which is what the kernel computes. Its LoRA
dropout cannot be zero (0 is read as 0.05), so its losses after the first step are its own; its adapters are on q, k, v
and o, whatever is asked (`trainable` tells).
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any


def run_upstream(folder: Path, output_dir: Path, arguments: dict[str, Any], own: dict[str, Any]) -> None:
    """train_qwen.train with --data_flatten True, as its own scripts call it.

    Args:
        own: lora_r, lora_alpha, fps, max_tokens, max_pixels (of all frames together).
    """
    source = Path(os.environ["UPSTREAM_DIR"])
    # The class is chosen by the path: "qwen3" somewhere in it, and no "a" in its last part, or it takes the MoE.
    model = output_dir / "qwen3" / "dense"
    write_old_model(folder / "model", folder / "processor", model)
    for name in ("flash_attn", "flash_attn.flash_attn_interface"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)  # transformers looks for it
    sys.modules["flash_attn.flash_attn_interface"].flash_attn_varlen_func = attend_samples
    sys.path[:0] = [str(source), str(source / "qwenvl" / "train")]
    decode_with_pyav()
    from qwenvl import data
    from qwenvl.train import train_qwen

    data.data_dict["rows"] = {"annotation_path": str(folder / "train.json"), "data_path": str(folder)}
    flags = {
        **arguments,
        "model_name_or_path": model,
        "dataset_use": "rows",
        "data_flatten": True,
        "tune_mm_llm": True,
        "lora_enable": True,
        "lora_r": own["lora_r"],
        "lora_alpha": own["lora_alpha"],
        "model_max_length": own["max_tokens"],
        "video_fps": own["fps"],
        "video_max_frames": own["fps"],
        "video_max_pixels": own["max_pixels"],
        "video_min_pixels": 4096,
    }
    sys.argv = ["train_qwen.py", *(text for name, value in flags.items() for text in (f"--{name}", str(value)))]
    train_qwen.train(attn_implementation="sdpa")


def write_old_model(source: Path, processor: Path, target: Path) -> None:
    """The same weights with a config and processor files that transformers 4.57 reads."""
    shutil.copytree(processor, target, dirs_exist_ok=True)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    text["rope_scaling"] = rope
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = target / "model.safetensors"
    weights.unlink(missing_ok=True)
    weights.symlink_to(source / "model.safetensors")


def attend_samples(query: Any, key: Any, value: Any, *, cu_seqlens_q: Any, causal: bool, **_: Any) -> Any:
    """(L, heads, D) -> the same: causal attention within each sample of a row."""
    import torch

    lengths = (cu_seqlens_q[1:] - cu_seqlens_q[:-1]).tolist()
    parts = zip(*(tensor.split(lengths) for tensor in (query, key, value)), strict=True)
    attended = [
        torch.nn.functional.scaled_dot_product_attention(
            *(tensor.transpose(0, 1)[None] for tensor in part), is_causal=causal, enable_gqa=True
        )
        for part in parts
    ]
    return torch.cat([part[0].transpose(0, 1) for part in attended])


def decode_with_pyav() -> None:
    """transformers 4.57 decodes with torchvision, which no longer does; PyAV is its other way."""
    from transformers import video_utils

    for name in video_utils.VIDEO_DECODERS:
        video_utils.VIDEO_DECODERS[name] = video_utils.read_video_pyav
