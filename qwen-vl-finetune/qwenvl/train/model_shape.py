"""The sizes of a model that decide what a step costs, read from its config.

E = language width, C = tower width, A = heads x head width, K = key heads x head width
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TextShape:
    """The language model: widths and counts; `mlp_width` is what one token passes through, experts together."""

    width: int
    num_layers: int
    num_heads: int
    num_key_heads: int
    head_width: int
    mlp_width: int
    vocabulary: int
    num_experts: int = 0

    @property
    def attention_width(self) -> int:
        return self.num_heads * self.head_width

    @property
    def key_width(self) -> int:
        return self.num_key_heads * self.head_width

    @property
    def attention_weights(self) -> int:
        """Weights of one layer's q, k, v and o: 2 E A + 2 E K."""
        return 2 * self.width * (self.attention_width + self.key_width)

    @property
    def mlp_weights_used(self) -> int:
        """Weights of one layer's MLP that a token meets: gate, up and down (of its experts), and the router."""
        return 3 * self.width * self.mlp_width + self.width * self.num_experts

    @property
    def quantisable_weights(self) -> int:
        """What QLoRA holds in 4 bits: linear layers, and no experts."""
        return self.attention_weights + (0 if self.num_experts else 3 * self.width * self.mlp_width)


@dataclass(frozen=True)
class VisionShape:
    """The vision tower and its mergers."""

    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    num_mlp_matrices: int  # 2, or 3 where the MLP is gated
    patch_values: int  # colours x frames x height x width of a patch
    merge: int  # patches a side that become one visual token
    num_mergers: int
    out_width: int
    window_patches: int = 0  # patches of a window; 0: every layer attends to the whole frame
    num_whole_frame_layers: int = 0  # where there are windows, the layers without

    @property
    def block_weights(self) -> int:
        return 4 * self.width**2 + self.num_mlp_matrices * self.width * self.mlp_width

    @property
    def merged_width(self) -> int:
        return self.width * self.merge**2


@dataclass(frozen=True)
class ModelShape:
    text: TextShape
    vision: VisionShape


def read_model_shape(config: Any) -> ModelShape:
    """From a transformers config (Qwen3-VL dense or MoE, Qwen2.5-VL), or the same as a dict."""
    text, vision = _part(config, "text_config"), _part(config, "vision_config")
    heads = text["num_attention_heads"]
    experts = text.get("num_experts") or 0
    chosen = text.get("num_experts_per_tok") or 0
    expert_width = text.get("moe_intermediate_size") or 0
    side = vision["patch_size"]
    is_windowed = bool(vision.get("window_size"))
    return ModelShape(
        TextShape(
            width=text["hidden_size"],
            num_layers=text["num_hidden_layers"],
            num_heads=heads,
            num_key_heads=text.get("num_key_value_heads") or heads,
            head_width=text.get("head_dim") or text["hidden_size"] // heads,
            mlp_width=chosen * expert_width if experts else text["intermediate_size"],
            vocabulary=text["vocab_size"],
            num_experts=experts,
        ),
        VisionShape(
            width=vision["hidden_size"],
            num_layers=vision["depth"],
            num_heads=vision["num_heads"],
            mlp_width=vision["intermediate_size"],
            num_mlp_matrices=3 if is_windowed else 2,  # Qwen2.5-VL has both
            patch_values=(vision.get("in_channels") or 3) * vision["temporal_patch_size"] * side**2,
            merge=vision["spatial_merge_size"],
            num_mergers=1 + len(vision.get("deepstack_visual_indexes") or ()),
            out_width=vision["out_hidden_size"],
            window_patches=(vision["window_size"] // side) ** 2 if is_windowed else 0,
            num_whole_frame_layers=len(vision.get("fullatt_block_indexes") or ()) if is_windowed else 0,
        ),
    )


def _part(config: Any, name: str) -> Mapping[str, Any]:
    part = config[name] if isinstance(config, Mapping) else getattr(config, name)
    return part if isinstance(part, Mapping) else part.to_dict()
