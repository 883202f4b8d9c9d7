"""Attention of the language model over a row that holds several samples: each attends to itself alone.

transformers would build an L x L mask for such a row and compute what it hides; here each sample is one causal call
of its own. With flash attention installed its own kernel does the same in one call, told where samples begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

BY_SAMPLE = "sdpa_by_sample"


def attend_by_sample(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sample_lengths: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sample: (B, heads, L, D) -> (B, L, heads, D).

    Args:
        sample_lengths: tokens of each sample of the row, () where each row of the batch is one sample (padded on the
            right); None is not a training step of ours, and plain SDPA answers (generation).
    """
    if sample_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    lengths = list(sample_lengths) or [query.shape[2]]
    dropout = kwargs.get("dropout", 0.0)
    shares_keys = query.shape[1] != key.shape[1]
    if shares_keys and not can_share_keys(query):
        key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for tensor in (key, value))
        shares_keys = False
    parts = [
        functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=shares_keys
        )
        for q, k, v in zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    ]
    attended = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
    return attended.transpose(1, 2).contiguous(), None


def can_share_keys(query: torch.Tensor) -> bool:
    """Whether SDPA has a kernel for fewer key heads than query heads that does not build L x L numbers a head.

    On a GPU that is flash attention's alone: 16 bits, compute capability 8.
    """
    if not query.is_cuda:
        return True
    return query.element_size() == 2 and torch.cuda.get_device_capability(query.device) >= (8, 0)


def attend_samples_alone(language_model: Any) -> None:
    """Use `attend_by_sample` in a language model that was loaded with SDPA; others stay as they are."""
    if language_model.config._attn_implementation == "sdpa":
        AttentionInterface.register(BY_SAMPLE, attend_by_sample)
        AttentionMaskInterface.register(BY_SAMPLE, sdpa_mask)
        language_model.config._attn_implementation = BY_SAMPLE


def describe_samples(implementation: str, sample_lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """Keyword arguments that tell the attention where the samples of a row are; () means one sample a row.

    "eager" is told nothing: transformers finds the samples in the position ids, where they restart at 0, as long as
    there is no attention mask and no cache.
    """
    if implementation == BY_SAMPLE:
        # A mask of four dimensions is taken as it is; building one would read the positions back from the device.
        return {"sample_lengths": tuple(sample_lengths), "attention_mask": torch.empty(1, 1, 1, 1, device=device)}
    if implementation.startswith("flash") and sample_lengths:
        edges = torch.tensor([0, *sample_lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        edges = edges.to(device, non_blocking=True)
        longest = max(sample_lengths)
        return {"cu_seq_lens_q": edges, "cu_seq_lens_k": edges, "max_length_q": longest, "max_length_k": longest}
    return {}
