"""Floating-point operations of a step: language model, head, vision tower and mergers, forward and backward.

A multiplication and an addition are two operations. Only what must be computed is counted: attention below the
diagonal, the head on supervised rows, gradients where something learns. What gradient checkpointing computes twice
stands apart: it takes time, and is no use (MFU leaves it out).
T = tokens, S = supervised tokens, P = patches, L = tokens of one sample, n = patches of one frame (pair)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from qwenvl.train.model_shape import ModelShape
from qwenvl.train.parts import LANGUAGE, MERGER, VISION

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Work:
    """What a batch asks of the model. Two of them add up; a mean has fractions.

    Attributes:
        tokens: T.
        token_pairs: sum of L^2 / 2 over the samples: who looks at whom.
        supervised: S.
        patches: P.
        patch_pairs: sum of n^2 over the frames (pairs).
    """

    tokens: float
    token_pairs: float
    supervised: float
    patches: float = 0
    patch_pairs: float = 0

    def scaled(self, factor: float) -> Work:
        return Work(*(factor * value for value in vars(self).values()))


def describe_work(sample_tokens: Sequence[int], supervised: int, grids: Iterable[Grid] = ()) -> Work:
    """The work of some samples.

    Args:
        sample_tokens: tokens of each sample.
        supervised: supervised tokens of all together.
        grids: (t, h, w) in patches of each video and image.
    """
    grids = list(grids)
    return Work(
        tokens=sum(sample_tokens),
        token_pairs=sum(length**2 for length in sample_tokens) / 2,
        supervised=supervised,
        patches=sum(t * h * w for t, h, w in grids),
        patch_pairs=sum(t * (h * w) ** 2 for t, h, w in grids),
    )


@dataclass(frozen=True)
class Learning:
    """What learns, as far as it decides the cost.

    Attributes:
        in_full: parts whose own weights learn.
        adapters: {part: weights of all its adapters}.
        recomputes: gradient checkpointing is on.
    """

    in_full: frozenset[str] = frozenset()
    adapters: dict[str, int] = field(default_factory=dict)
    recomputes: bool = False

    def learns(self, part: str) -> bool:
        return part in self.in_full or self.adapters.get(part, 0) > 0


@dataclass(frozen=True)
class Flops:
    """Operations by place ("text", "head", "vision", "mergers").

    Attributes:
        forward, backward: what a step needs.
        again: forward operations that gradient checkpointing repeats.
    """

    forward: dict[str, float]
    backward: dict[str, float]
    again: dict[str, float]

    @property
    def needed(self) -> float:
        """For MFU."""
        return sum(self.forward.values()) + sum(self.backward.values())

    @property
    def computed(self) -> float:
        """For the time it takes."""
        return self.needed + sum(self.again.values())

    def computed_at(self, place: str) -> float:
        return self.forward[place] + self.backward[place] + self.again[place]


def count_flops(shape: ModelShape, work: Work, learning: Learning) -> Flops:
    """Operations of one forward and backward pass over `work`."""
    text, vision = shape.text, shape.vision
    # Multiplications; doubled at the end.
    linear = work.tokens * text.num_layers * (text.attention_weights + text.mlp_weights_used)
    attention = 2 * text.attention_width * work.token_pairs * text.num_layers
    text_adapters = work.tokens * learning.adapters.get(LANGUAGE, 0)
    head = work.supervised * text.width * text.vocabulary
    blocks = work.patches * vision.num_layers * vision.block_weights
    frames = 2 * vision.width * _count_patch_pairs(shape, work)
    vision_adapters = work.patches * learning.adapters.get(VISION, 0)
    patching = work.patches * vision.width * vision.patch_values
    merged = vision.num_mergers * work.patches / vision.merge**2 * vision.merged_width
    merger_in, merger_out = merged * vision.merged_width, merged * vision.out_width

    in_full = {part: part in learning.in_full for part in (LANGUAGE, MERGER, VISION)}
    sees_gradient = learning.learns(VISION)
    tunes = any(learning.learns(part) for part in (LANGUAGE, MERGER, VISION))
    merger_gradient = learning.learns(MERGER) or sees_gradient
    forward = {
        "text": linear + attention + text_adapters,
        "head": head,
        "vision": patching + blocks + frames + vision_adapters,
        "mergers": merger_in + merger_out,
    }
    # A linear layer costs its forward once more for the gradient of its input, and once more for that of its weights.
    backward = {
        "text": tunes * (linear * (1 + in_full[LANGUAGE]) + 2 * attention + 2 * text_adapters),
        "head": tunes * head * (1 + in_full[LANGUAGE]),
        "vision": sees_gradient * (blocks * (1 + in_full[VISION]) + 2 * frames + 2 * vision_adapters)
        + patching * in_full[VISION],
        # A frozen tower below wants no gradient from their first layer.
        "mergers": merger_in * (sees_gradient + in_full[MERGER]) + merger_out * (merger_gradient + in_full[MERGER]),
    }
    again = dict.fromkeys(forward, 0.0)
    if learning.recomputes:
        again["text"] = tunes * forward["text"]
        again["vision"] = sees_gradient * (forward["vision"] - patching)
    return Flops(*({place: 2.0 * count for place, count in counts.items()} for counts in (forward, backward, again)))


def _count_patch_pairs(shape: ModelShape, work: Work) -> float:
    """Pairs of patches that attend to each other, over all layers."""
    vision = shape.vision
    if not vision.window_patches:
        return vision.num_layers * work.patch_pairs
    in_windows = min(work.patches * vision.window_patches, work.patch_pairs)
    windowed = vision.num_layers - vision.num_whole_frame_layers
    return vision.num_whole_frame_layers * work.patch_pairs + windowed * in_windows


def compute_mfu(flops: Flops, seconds: float, peak_flops_per_s: float) -> float:
    """Model FLOPs utilisation: the share of the device's peak that went into what a step needs.

    Args:
        peak_flops_per_s: dense, in the precision of the run, as the maker of the device says it.
    """
    return flops.needed / seconds / peak_flops_per_s
