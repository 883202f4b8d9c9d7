"""The loss: summed over supervised tokens, the head applied to supervised rows only.

On video 90 to 97 percent of the tokens are not supervised; their logits would be the largest tensor of the step and
teach nothing. B = samples, L = tokens, S = supervised tokens, V = vocabulary
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from qwenvl.data.labels import IGNORED


def use_supervised_rows(model: nn.Module) -> None:
    """Make `model(labels=..., num_items_in_batch=n)` return the summed loss / n without the other rows' logits.

    Without labels the model answers as before (generation does not change).
    """
    plain_forward = model.forward

    def forward(self: nn.Module, *args: Any, labels: Any = None, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        if labels is None:
            return plain_forward(*args, **kwargs)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        kwargs.pop("use_cache", None)
        hidden = self.model(*args, use_cache=False, **kwargs)[0]
        loss_sum, num_supervised = sum_token_losses(hidden, labels, self.lm_head)
        return CausalLMOutputWithPast(loss=loss_sum / (num_items_in_batch or max(1, num_supervised)))

    model.forward = types.MethodType(forward, model)


def sum_token_losses(hidden: torch.Tensor, labels: torch.Tensor, head: nn.Module) -> tuple[torch.Tensor, int]:
    """Sum of the cross entropies of the supervised tokens, in fp32, and how many they are.

    Args:
        hidden: (B, L, E), the last layer's output; row i predicts token i + 1.
        labels: (B, L), IGNORED where not supervised.
        head: (S, E) -> (S, V).
    """
    targets = labels[:, 1:]
    rows, columns = torch.nonzero(targets != IGNORED, as_tuple=True)
    if not len(rows):
        # Nothing supervised (all samples bad): zero, but connected to every weight, the head's too. The other ranks
        # wait for this one's part of each.
        return head(hidden[:1, :1]).float().sum() * 0.0, 0
    logits = head(hidden[rows, columns])
    return functional.cross_entropy(logits.float(), targets[rows, columns], reduction="sum"), len(rows)
