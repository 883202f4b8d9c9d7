"""Memory of one process while it trains, counted before anything is loaded: an estimate, and it says so.

    sizes, what learns, engine, largest micro-batch ──estimate_memory──▶ bytes by purpose, on the device and on the host

Not counted: what CUDA and the program hold for themselves, fragments that the allocator cannot use, buckets of the
engine, and the batches that wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwenvl.train.activations import FP32, Kept, block_bytes_a_patch, layer_bytes_a_token, merger_bytes_a_patch
from qwenvl.train.loss import count_chunk_rows
from qwenvl.train.model_shape import ModelShape
from qwenvl.train.parts import MERGER, VISION

# NF4: half a byte, a scale of one byte for 64 weights, and a scale of the scales (fp32) for 256 of those.
NF4_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
# Optimizer state of a trained weight; Adam's two moments where the name says nothing else.
STATE_BYTES = {"sgd": 0, "adafactor": 0, "lion": 4, "8bit": 2, "paged": 0}
ADAM_BYTES = 8
ZERO3_LIVE_WEIGHTS = 10**9  # stage3_max_live_parameters


@dataclass(frozen=True)
class Engine:
    """Who holds what.

    Attributes:
        num_processes: that train together.
        zero_stage: 0 is plain data parallel.
        offloads_optimizer, offloads_weights: to the host's memory.
    """

    num_processes: int = 1
    zero_stage: int = 0
    offloads_optimizer: bool = False
    offloads_weights: bool = False


@dataclass(frozen=True)
class MicroBatch:
    """The largest micro-batch. `tokens` holds the padding; `longest` is one row."""

    tokens: int
    longest: int
    supervised: int
    patches: int


@dataclass(frozen=True)
class MemoryPlan:
    """Everything that decides the memory of a process.

    Attributes:
        parameters: {part: (trainable, all)}.
        text, vision: how the language model and the tower are trained.
        quantised_weights: how many of the language model's are held in 4 bits.
    """

    shape: ModelShape
    parameters: dict[str, tuple[int, int]]
    batch: MicroBatch
    text: Kept
    vision: Kept
    engine: Engine = Engine()
    optimizer: str = "adamw_torch"
    checkpointing: bool = False
    quantised_weights: int = 0
    attention: str = "sdpa"
    device: str = "cpu"

    @property
    def num_trainable(self) -> int:
        return sum(trainable for trainable, _ in self.parameters.values())

    @property
    def num_weights(self) -> int:
        return sum(total for _, total in self.parameters.values())


@dataclass(frozen=True)
class Memory:
    """Bytes of one process: on its device by purpose, and what the engine puts on the host instead."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    host: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def estimate_memory(plan: MemoryPlan) -> Memory:
    """Bytes of one process at the fullest moment of a step."""
    weights, gradients, optimizer, host = _count_fixed(plan)
    return Memory(weights, gradients, optimizer, count_activations(plan), count_logits(plan), host)


def _count_fixed(plan: MemoryPlan) -> tuple[int, int, int, int]:
    """(weights, gradients, optimizer, host) whatever the batch is."""
    c, engine = plan.text.compute_bytes, plan.engine
    trainable, frozen = plan.num_trainable, plan.num_weights - plan.num_trainable
    state = trainable * _state_bytes(plan.optimizer)
    quantised = round(plan.quantised_weights * NF4_BYTES)
    # One layer's weights are unpacked at a time.
    unpacked = plan.shape.text.width * plan.shape.text.mlp_width * c if quantised else 0
    if engine.zero_stage == 0:
        weights = trainable * FP32 + (frozen - plan.quantised_weights) * c + quantised + unpacked
        weights += count_copies(plan)
        buckets = trainable * FP32 if engine.num_processes > 1 else 0
        return weights, trainable * FP32 + buckets, state, 0
    ranks, shards = engine.num_processes, engine.zero_stage >= 3
    held = (plan.num_weights - plan.quantised_weights) * c + quantised
    weights = held // (ranks if shards else 1) + unpacked
    gradients = trainable * c // (ranks if engine.zero_stage >= 2 else 1)
    optimizer = (trainable * FP32 + state) // ranks
    host = 0
    if engine.offloads_optimizer:
        host, optimizer = host + optimizer, 0
    if shards:
        if engine.offloads_weights:
            host, weights = host + weights, 0
        # gathered, while they are in use
        weights += held * min(plan.num_weights, ZERO3_LIVE_WEIGHTS) // plan.num_weights
    return weights, gradients, optimizer, host


def count_copies(plan: MemoryPlan) -> int:
    """Bytes of the 16-bit copies that autocast makes of fp32 weights; a layer that is computed again casts again."""
    c = plan.text.compute_bytes
    if c == FP32:
        return 0
    return c * (plan.parameters.get(MERGER, (0, 0))[0] if plan.checkpointing else plan.num_trainable)


def _state_bytes(optimizer: str) -> int:
    name = optimizer.lower()
    return min((size for part, size in STATE_BYTES.items() if part in name), default=ADAM_BYTES)


def count_activations(plan: MemoryPlan) -> int:
    """What the forward pass keeps, and what one layer's backward pass works with."""
    shape, batch = plan.shape, plan.batch
    text, vision = shape.text, shape.vision
    stream = plan.text.stream_bytes * text.width * batch.tokens
    eager = batch.longest if plan.attention == "eager" else 0
    layer = layer_bytes_a_token(text, plan.text, eager) * batch.tokens
    block = block_bytes_a_patch(vision, plan.vision) * batch.patches
    rim = plan.vision.stream_bytes * vision.width * batch.patches
    learns = {part: trainable > 0 for part, (trainable, _) in plan.parameters.items()}
    if plan.checkpointing:  # one layer at a time is computed again
        kept = text.num_layers * stream + learns.get(VISION, False) * vision.num_layers * rim
        kept += max(layer, learns.get(VISION, False) * block)
    else:
        kept = text.num_layers * layer + learns.get(VISION, False) * vision.num_layers * block
    kept += 4 * text.width * batch.tokens  # the last norm
    working = _working_bytes(plan.text) * text.mlp_width * batch.tokens
    patches = batch.patches * vision.patch_values * plan.text.compute_bytes
    if learns.get(VISION) or learns.get(MERGER):
        kept += merger_bytes_a_patch(vision, plan.text.compute_bytes) * batch.patches
    # A frozen tower is done, and its memory free again, before the language model begins.
    tower = batch.patches * (2 * vision.mlp_width + 8 * vision.width) * plan.vision.compute_bytes
    return patches + max(tower, kept + working)


def _working_bytes(kept: Kept) -> int:
    """Bytes a number of one MLP's width that its backward pass needs beside; measured on a CPU, see the tests."""
    if kept.compute_bytes == FP32:
        return 2 * FP32
    return 3 * FP32 if kept.adapts_mlp else 3 * kept.compute_bytes  # peft's adapters take their input in fp32


def count_logits(plan: MemoryPlan) -> int:
    """The head: rows with their gradients, the logits of one chunk, and the gradient of a head that learns."""
    text, c = plan.shape.text, plan.text.compute_bytes
    rows = min(plan.batch.supervised, count_chunk_rows(text.vocabulary, plan.device))
    chunk = rows * text.vocabulary * (FP32 if c == FP32 else FP32 + 2 * c)
    head = text.vocabulary * text.width * (FP32 + (c if c < FP32 else 0)) if plan.text.in_full else 0
    return chunk + head + 2 * plan.batch.supervised * text.width * plan.text.stream_bytes
