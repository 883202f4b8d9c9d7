"""Bytes that a forward pass keeps for the backward pass, counted from the model's sizes.

What each operation keeps was read off autograd for the modules of transformers and peft that we run; on a CPU in fp32
the tests compare the sums with what autograd really held. A token (or patch) keeps the same bytes wherever it is, so
everything here is bytes a token, bytes a patch. Frozen linear layers keep nothing; norms and activations do.
E = width, A = heads x head width, K = key heads x head width, I = MLP width, C = tower width
"""

from __future__ import annotations

from dataclasses import dataclass

from qwenvl.train.model_shape import TextShape, VisionShape

FP32 = 4


@dataclass(frozen=True)
class Kept:
    """How a part is trained, as far as it decides what is kept.

    Attributes:
        in_full: its own weights learn.
        rank: of the adapters; 0: none.
        adapts_attention, adapts_mlp: which linear layers have adapters.
        has_dropout: the adapters drop some of their input.
        compute_bytes: of a number in matrix products: 2 or 4.
        casts: products run in 16 bits on fp32 weights (autocast), so that what is between them stays fp32.
        mask_bytes: of a dropout mask: 1 on a GPU; a CPU keeps the factors in fp32.
    """

    in_full: bool = False
    rank: int = 0
    adapts_attention: bool = False
    adapts_mlp: bool = False
    has_dropout: bool = False
    compute_bytes: int = FP32
    casts: bool = False
    mask_bytes: int = FP32

    @property
    def stream_bytes(self) -> int:
        """Of a number between two blocks."""
        return FP32 if self.casts and self.in_full else self.compute_bytes

    @property
    def adapter_input_bytes(self) -> int:
        """Of a number that an adapter keeps of its input, a copy of its own; 0 where it shares the layer's."""
        if self.compute_bytes == FP32 and not self.has_dropout:
            return 0
        return self.compute_bytes + (self.mask_bytes if self.has_dropout else 0)

    def input_bytes(self, num_layers: int, *, is_adapted: bool) -> int:
        """Of a number of an input that `num_layers` linear layers share."""
        if self.in_full:
            return num_layers * self.compute_bytes if self.stream_bytes > self.compute_bytes else self.compute_bytes
        if not is_adapted:
            return 0
        return num_layers * self.adapter_input_bytes or self.compute_bytes


def layer_bytes_a_token(text: TextShape, kept: Kept, eager_tokens: int = 0) -> int:
    """One layer of the language model.

    Args:
        eager_tokens: with eager attention, the tokens that each token is compared with; 0 otherwise.
    """
    c, full = kept.compute_bytes, kept.in_full
    width, attention, keys, mlp = text.width, text.attention_width, text.key_width, text.mlp_width
    norms = 2 * (FP32 + full * kept.stream_bytes) * width
    head_norms = (FP32 + full * c) * (attention + keys)
    scores = 2 * c * (attention + keys) + eager_tokens * text.num_heads * (FP32 + c) * bool(eager_tokens)
    inputs = (
        kept.input_bytes(3, is_adapted=kept.adapts_attention) + kept.input_bytes(2, is_adapted=kept.adapts_mlp)
    ) * width
    # The attention's output is kept anyway; an adapter's copy of it is not.
    out_input = kept.adapter_input_bytes * attention if kept.adapts_attention and not full else 0
    gated = (3 * c + kept.input_bytes(1, is_adapted=kept.adapts_mlp)) * mlp
    adapters = kept.rank * c * (4 * kept.adapts_attention + 3 * kept.adapts_mlp)
    scalars = FP32 * (2 + 2 * text.num_heads + text.num_key_heads)
    return norms + head_norms + scores + inputs + out_input + gated + adapters + scalars


def block_bytes_a_patch(vision: VisionShape, kept: Kept) -> int:
    """One block of a vision tower that learns."""
    c, width, mlp = kept.compute_bytes, vision.width, vision.mlp_width
    norms = 2 * (kept.stream_bytes * width + 2 * FP32)
    # q, k and v in one piece, q and k turned, the output.
    attention = (3 + 2 + 1) * c * width + FP32 * vision.num_heads
    num_inner = vision.num_mlp_matrices - 1
    if kept.in_full:
        inputs = c * (2 * width + mlp) + c * width
    else:
        copy = kept.adapter_input_bytes or c
        inputs = copy * (2 * width * kept.adapts_attention + (width * num_inner + mlp) * kept.adapts_mlp)
    inner = c * mlp * (1 if num_inner == 1 else 3)
    adapters = kept.rank * c * (2 * kept.adapts_attention + vision.num_mlp_matrices * kept.adapts_mlp)
    return norms + attention + inputs + inner + adapters


def merger_bytes_a_patch(vision: VisionShape, compute_bytes: int) -> int:
    """All mergers, where they or the tower learn: input of the norm and of two linear layers, and of the activation."""
    return 4 * vision.num_mergers * vision.width * compute_bytes
