"""Drawing several answers for one prompt, each by its own dice: what a row rolls does not depend on its neighbours.

    (seed, row id, sample) ──roll──▶ one number in [0, 1) a token ──RowSampler──▶ the token where the summed
                                                          probabilities of that row, cut at top-p, reach it

The dice of an answer are the same in any batch. The probabilities are not to the last bit: a matrix product rounds
differently in a batch of another size or padding, and where a number falls within that rounding of a boundary between
two tokens the answers part. The same batches (same rows, same --batch-size) on the same kind of device give the same
answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_LIKELIEST = 256


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        num_samples: answers a row.
        temperature: of the probabilities; 1 is the model's own.
        top_p: the likeliest tokens that hold this share are drawn from; 1 takes all.
        seed: of the dice.
    """

    num_samples: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 7


def roll(sampling: Sampling, row: str, index: int, num_tokens: int) -> np.ndarray:
    """(num_tokens,) float64 in [0, 1): the dice of one answer; more tokens only add to them."""
    digest = hashlib.sha256(f"{sampling.seed}:{row}:{index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little")).random(num_tokens)


def build_sampler(sampling: Sampling, rows: Sequence[str], index: int, num_tokens: int):
    """A logits processor that draws the answers number `index` of these rows; for one call of `generate`.

    It leaves one token a row, so that `generate` is to take the likeliest.
    """
    import torch
    from transformers import LogitsProcessor

    rolled = torch.from_numpy(np.stack([roll(sampling, row, index, num_tokens) for row in rows]))

    class RowSampler(LogitsProcessor):
        step = 0
        dice = rolled

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self.dice = self.dice.to(scores.device)
            chosen = draw_tokens(scores, self.dice[:, self.step], sampling)
            self.step += 1
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    return RowSampler()


def draw_tokens(scores, dice, sampling: Sampling):
    """(B, V) scores and (B,) dice -> (B,) tokens: the inverse of the summed probabilities, likeliest token first.

    Sorting a whole vocabulary takes a hundred times what a step's other work on the scores does, and the few likeliest
    tokens nearly always hold the answer: only rows where they do not are sorted whole.
    """
    logits = scores.float() / sampling.temperature
    total = logits.logsumexp(dim=-1, keepdim=True)
    likeliest, tokens = logits.topk(min(NUM_LIKELIEST, logits.shape[-1]), dim=-1)
    chosen, is_held = _pick(likeliest - total, tokens, dice, sampling.top_p)
    rest = (~is_held).nonzero()[:, 0]
    if len(rest):
        likeliest, tokens = logits[rest].sort(dim=-1, descending=True)
        chosen[rest], _ = _pick(likeliest - total[rest], tokens, dice[rest], sampling.top_p)
    return chosen


def _pick(likeliest, tokens, dice, top_p: float):
    """(tokens, whether the share that is drawn from reaches no further than these) from sorted log probabilities."""
    import torch

    shares = likeliest.double().exp()
    summed = shares.cumsum(dim=-1)
    if top_p < 1:
        num_kept = (summed - shares < top_p).sum(dim=-1, keepdim=True)  # the token that reaches top-p is in
        reached = dice[:, None] * summed.gather(1, num_kept - 1)
        is_held = summed[:, -1] >= top_p
    else:
        num_kept = torch.full_like(tokens[:, :1], tokens.shape[1])
        reached = dice[:, None]
        is_held = summed[:, -1] > dice
    places = (summed <= reached).sum(dim=-1, keepdim=True).clamp(max=num_kept - 1)
    return tokens.gather(1, places)[:, 0], is_held
