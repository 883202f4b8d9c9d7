"""Configs and processors of small models, one for each family that we train: the real classes, small numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PATCH_PX = {"qwen3_vl": 16, "qwen3_vl_moe": 16, "qwen2_5_vl": 14}
NAMES = {"qwen3_vl": "Qwen3-VL", "qwen3_vl_moe": "Qwen3-VL mixture of experts", "qwen2_5_vl": "Qwen2.5-VL"}
MERGE, TEMPORAL = 2, 2
NUM_DEEPSTACK = 3
NUM_EXPERTS, NUM_EXPERTS_CHOSEN = 4, 2
WINDOW_TOKENS = 2  # a side, of Qwen2.5-VL's windows; the real one has 4


def plan_mrope_section(head_dim: int) -> list[int]:
    """How many rotary frequencies time, height and width get: Qwen's 24 : 20 : 20 scaled to head_dim / 2 of them."""
    num_frequencies = head_dim // 2
    side = num_frequencies * 5 // 16
    return [num_frequencies - 2 * side, side, side]


def build_config(options: Any, tokenizer: Any) -> Any:
    """The transformers config of a small model; every size comes from the options (tiny_model.TinyModelOptions)."""
    import transformers

    token_id = tokenizer.convert_tokens_to_ids
    head_dim = options.hidden // options.heads
    depth = options.vision_layers
    is_windowed = options.model_type == "qwen2_5_vl"
    is_tied = options.model_type == "qwen3_vl"  # as in the 4B model; the 30B mixture and Qwen2.5-VL 7B have a head
    rope = {"rope_type": "default", "rope_theta": options.rope_theta, "mrope_section": plan_mrope_section(head_dim)}
    text: dict[str, Any] = {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": options.hidden,
        "intermediate_size": options.intermediate,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads,
        "max_position_embeddings": 32_768,
        "initializer_range": options.init_range,
        "tie_word_embeddings": is_tied,
        "eos_token_id": token_id("<|im_end|>"),
        "bos_token_id": token_id("<|endoftext|>"),
        "rope_parameters": rope if is_windowed else rope | {"mrope_interleaved": True},
    }
    vision: dict[str, Any] = {
        "depth": depth,
        "hidden_size": options.vision_hidden,
        "intermediate_size": options.vision_intermediate,
        "num_heads": options.vision_heads,
        "out_hidden_size": options.hidden,
        "patch_size": PATCH_PX[options.model_type],
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL,
        "initializer_range": options.init_range,
    }
    if is_windowed:
        vision |= {
            "window_size": WINDOW_TOKENS * MERGE * PATCH_PX["qwen2_5_vl"],
            "fullatt_block_indexes": [depth - 1],
            "tokens_per_second": 2,
        }
    else:
        text["head_dim"] = head_dim
        # A quarter, half and three quarters of the way up, as the real towers have them (5, 11, 17 of 24).
        stops = [(i + 1) * depth // (NUM_DEEPSTACK + 1) - 1 for i in range(NUM_DEEPSTACK)]
        vision |= {"num_position_embeddings": 256, "deepstack_visual_indexes": stops}
    if options.model_type == "qwen3_vl_moe":
        text |= {
            "num_experts": NUM_EXPERTS,
            "num_experts_per_tok": NUM_EXPERTS_CHOSEN,
            "moe_intermediate_size": options.intermediate // NUM_EXPERTS_CHOSEN,
        }
    classes = {
        "qwen3_vl": transformers.Qwen3VLConfig,
        "qwen3_vl_moe": transformers.Qwen3VLMoeConfig,
        "qwen2_5_vl": transformers.Qwen2_5_VLConfig,
    }
    return classes[options.model_type](
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=is_tied,
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
    )


def build_processor(tokenizer: Any, model_type: str = "qwen3_vl") -> Any:
    """The real processor classes around our tokenizer, with the family's pixel statistics and its frame budget."""
    import transformers

    template = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer.chat_template = template
    pixels: dict[str, Any] = {
        "patch_size": PATCH_PX[model_type],
        "temporal_patch_size": TEMPORAL,
        "merge_size": MERGE,
    }
    if model_type == "qwen2_5_vl":  # whose means and deviations are its processors' own
        return transformers.Qwen2_5_VLProcessor(
            image_processor=transformers.Qwen2VLImageProcessor(**pixels),
            tokenizer=tokenizer,
            video_processor=transformers.Qwen2VLVideoProcessor(cap_pixels_per_frame=False, **pixels),
            chat_template=template,
        )
    pixels |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    images, videos = transformers.Qwen2VLImageProcessor, transformers.Qwen3VLVideoProcessor
    return transformers.Qwen3VLProcessor(
        image_processor=images(size={"longest_edge": 16_777_216, "shortest_edge": 65_536}, **pixels),
        tokenizer=tokenizer,
        video_processor=videos(size={"longest_edge": 25_165_824, "shortest_edge": 4_096}, **pixels),
        chat_template=template,
    )
