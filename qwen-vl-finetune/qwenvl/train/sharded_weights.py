"""Two things that transformers 5.23 gets wrong about weights that ZeRO-3 has sharded, put right at load and save."""

from __future__ import annotations

from typing import Any


def turn_by_full_shapes() -> None:
    """Let experts' weights be transposed by their true shape; calling it again changes nothing.

    A hub checkpoint of Qwen3-VL-MoE holds them (experts, in, out), one that transformers 5 saved (experts, out, in). It
    tells the two apart by the parameter's shape, which is (0,) for a sharded one: it would turn all of them over. That
    is an error where in and out differ, and silently wrong weights where they are equal.
    """
    from transformers import core_model_loading

    transpose = getattr(core_model_loading, "Transpose", None)
    if transpose is None or hasattr(transpose, "convert_by_shape_seen"):
        return
    transpose.convert_by_shape_seen = transpose.convert
    transpose.convert = _convert


def _convert(self: Any, input_dict: dict, source_patterns: list, target_patterns: list, **kwargs: Any) -> dict:
    if getattr(self, "check_dims", False):
        full_shape = getattr(kwargs["model"].get_parameter(kwargs["full_layer_name"]), "ds_shape", None)
        values = next(iter(input_dict.values()))
        weight = values[0] if isinstance(values, list) else values
        if full_shape is not None and weight.shape == full_shape:
            return {self.get_target_pattern(input_dict, source_patterns, target_patterns): weight}
    return self.convert_by_shape_seen(input_dict, source_patterns, target_patterns, **kwargs)


def forget_unused_renamings(model: Any) -> None:
    """Let a sharded model be saved under the names that its checkpoint had.

    Every renaming that is known for it is remembered, and saving would undo those that were never done:
    model.language_model.model.embed_tokens, which few readers know.
    """
    vars(model).pop("_weight_conversions", None)
