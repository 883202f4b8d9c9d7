"""The loss: cross entropies of the supervised tokens, summed, without ever holding all their logits.

    hidden rows (S, E) ──chunk──▶ logits (C, V) ──▶ sum of losses, and their gradient at once ──▶ next chunk

On video 90 to 97 percent of the tokens are not supervised; their logits would be the largest tensor of the step and
teach nothing. Of the others only C rows exist at a time: the gradient is taken while a chunk is there, so nothing is
computed twice. S = supervised tokens, E = width, V = vocabulary, C = rows of a chunk
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn

# Logits held at once, 128 and 256 MiB of fp32: products with fewer rows are slower (on CPU 1.5 times at half of it).
CHUNK_LOGITS = {"cpu": 2**25, "cuda": 2**26}
SCALED_ROWS = 8192


def sum_in_chunks(head: nn.Module) -> None:
    """Teach the head to answer `head(rows, targets)` with the summed loss; `head(rows)` stays as it was.

    It is the head's own forward that computes the loss, because under ZeRO-3 its weight is there only inside it.
    """
    plain_forward = head.forward

    def forward(self: nn.Module, rows: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        if targets is None:
            return plain_forward(rows)
        kind = rows.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
        return _SummedLoss.apply(rows, self.weight, targets, dtype)

    head.forward = types.MethodType(forward, head)


def count_chunk_rows(vocabulary: int, device: str) -> int:
    """Rows whose logits are held at once."""
    return max(16, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cuda"]) // vocabulary)


class _SummedLoss(torch.autograd.Function):
    """Sum of cross entropies in fp32; products in `dtype`. The gradients are ready when the forward pass is."""

    @staticmethod
    def forward(
        context: Any, rows: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        needs_rows, needs_weight = context.needs_input_grad[:2]
        product_weight = weight.detach().to(dtype)
        row_gradient = torch.empty_like(rows) if needs_rows else None
        weight_gradient = torch.zeros_like(weight) if needs_weight else None
        loss = rows.new_zeros((), dtype=torch.float32)
        size = count_chunk_rows(weight.shape[0], rows.device.type)
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size].detach().to(dtype)
            wanted = targets[start : start + size, None]
            # One buffer: logits, then their exponentials, then softmax - one hot.
            scores = (chunk @ product_weight.T).float()
            peak = scores.amax(dim=1, keepdim=True)
            loss -= scores.gather(1, wanted).sum()
            total = scores.sub_(peak).exp_().sum(dim=1, keepdim=True)
            loss += (total.log() + peak).sum()
            if not (needs_rows or needs_weight):
                continue
            scores.div_(total)
            scores.scatter_add_(1, wanted, scores.new_full((1, 1), -1.0).expand_as(wanted))
            gradient = scores.to(dtype)
            if row_gradient is not None:
                row_gradient[start : start + size] = gradient @ product_weight
            if weight_gradient is not None:
                weight_gradient += gradient.T @ chunk
        context.save_for_backward(row_gradient, weight_gradient)
        return loss

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        ready = context.saved_tensors
        for gradient in ready:
            if gradient is not None:
                _scale(gradient, gradients[0])
        return *ready, None, None


def _scale(gradient: torch.Tensor, factor: torch.Tensor) -> None:
    """Multiply in place, in fp32: the factor of a loss scaler does not fit 16 bits, and a head's gradient is large."""
    for part in gradient.split(SCALED_ROWS):
        part.copy_(part.float() * factor)
