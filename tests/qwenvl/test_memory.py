"""The memory estimate: fixed bytes by hand, and what a step keeps beside what torch really held."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from qwenvl.train.activations import Kept  # noqa: E402
from qwenvl.train.memory import Engine, MemoryPlan, MicroBatch, count_copies, estimate_memory  # noqa: E402
from qwenvl.train.model_shape import ModelShape, TextShape, VisionShape, read_model_shape  # noqa: E402
from qwenvl.train.parts import count_parameters  # noqa: E402

pytestmark = pytest.mark.needs_torch

TOLERANCE = 0.12  # of what torch held at the fullest moment
SHAPE = ModelShape(
    TextShape(
        width=8, num_layers=2, num_heads=2, num_key_heads=1, head_width=4, mlp_width=16, vocabulary=50
    ),
    VisionShape(
        width=6, num_layers=2, num_heads=2, mlp_width=10, num_mlp_matrices=2, patch_values=24, merge=2, num_mergers=1,
        out_width=8,
    ),
)  # fmt: skip
HALF = Kept(rank=4, adapts_attention=True, adapts_mlp=True, compute_bytes=2, casts=True, mask_bytes=1)
PLAN = MemoryPlan(
    SHAPE,
    {"language": (100, 1100), "merger": (50, 50), "vision": (0, 850)},
    MicroBatch(tokens=10, longest=10, supervised=3, patches=16),
    text=HALF,
    vision=HALF,
    device="cuda",
)  # 150 weights learn, 1,850 do not


def fixed(plan):
    memory = estimate_memory(plan)
    return memory.weights, memory.gradients, memory.optimizer, memory.host


def test_plain_training_holds_fp32_masters_their_gradients_and_two_moments():
    assert fixed(PLAN) == (150 * 4 + 150 * 2 + 1850 * 2, 150 * 4, 150 * 8, 0)


def test_in_fp32_there_are_no_16_bit_copies():
    plan = replace(PLAN, text=Kept(), vision=Kept())
    assert fixed(plan) == (2000 * 4, 150 * 4, 150 * 8, 0)


def test_data_parallel_keeps_buckets_beside_the_gradients():
    assert fixed(replace(PLAN, engine=Engine(4)))[1] == 2 * 150 * 4


def test_zero_2_shares_gradients_and_optimizer():
    assert fixed(replace(PLAN, engine=Engine(4, zero_stage=2))) == (2000 * 2, 150 * 2 // 4, 150 * 12 // 4, 0)


def test_zero_3_shares_the_weights_too_and_gathers_what_it_computes_with():
    assert fixed(replace(PLAN, engine=Engine(4, 3))) == (2000 * 2 // 4 + 2000 * 2, 75, 450, 0)


def test_what_is_offloaded_lies_on_the_host():
    plan = replace(PLAN, engine=Engine(4, 3, offloads_optimizer=True, offloads_weights=True))
    assert fixed(plan) == (2000 * 2, 75, 0, 2000 * 2 // 4 + 450)


def test_four_bits_are_half_a_byte_and_their_scales():
    plan = replace(PLAN, quantised_weights=1000)
    unpacked = 8 * 16 * 2
    assert fixed(plan)[0] == 150 * 6 + 850 * 2 + round(1000 * (0.5 + 1 / 64 + 4 / 16384)) + unpacked


def test_zero_3_shares_4_bit_weights_too():
    plan = replace(PLAN, quantised_weights=1000, engine=Engine(4, zero_stage=3))
    held = 1000 * 2 + round(1000 * (0.5 + 1 / 64 + 4 / 16384))
    assert fixed(plan)[0] == held // 4 + 8 * 16 * 2 + held


@pytest.mark.parametrize("name, size", [("adamw_torch", 8), ("paged_adamw_8bit", 0), ("adamw_8bit", 2), ("sgd", 0)])
def test_the_optimizer_decides_the_state(name, size):
    assert fixed(replace(PLAN, optimizer=name))[2] == 150 * size


def test_logits_are_those_of_one_chunk_whatever_is_supervised():
    plan = replace(PLAN, batch=MicroBatch(10, 10, 3, 16))
    assert estimate_memory(plan).logits == 3 * 50 * (4 + 2 * 2) + 2 * 3 * 8 * 2
    big = replace(PLAN.shape.text, vocabulary=2**20)
    plan = replace(PLAN, shape=replace(SHAPE, text=big), batch=MicroBatch(10, 10, 5000, 16))
    assert estimate_memory(plan).logits == 64 * 2**20 * 8 + 2 * 5000 * 8 * 2  # 2^26 logits are 64 rows


def test_one_layer_of_plain_fp32_training_keeps_what_was_counted_by_hand():
    from qwenvl.train.activations import layer_bytes_a_token

    numbers = 6 * 8 + 4 * 8 + 4 * 4 + 4 * 16  # 6 widths, 4 of the heads, 4 of the keys, 4 of the MLP
    scalars = 2 + 2 * 2 + 1  # roots of the norms, of each head, the softmax's sums
    assert layer_bytes_a_token(SHAPE.text, Kept(in_full=True)) == 4 * (numbers + scalars)


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors that operations have made and that are still held.

    Attributes:
        peak: the most at any moment.
    """

    def __init__(self, ignored) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in ignored}

    def note(self, tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.sizes:
            return
        self.sizes[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.forget, key)

    def forget(self, key) -> None:
        self.now -= self.sizes.pop(key, 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.note(leaf)
        return result


@pytest.fixture(scope="module")
def wider_model(tmp_path_factory):
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    folder = tmp_path_factory.mktemp("models") / "wider"
    make_tiny_model(TinyModelOptions(output_dir=folder))
    return folder


def build_batch(num_rows: int, length: int, num_supervised: int) -> dict:
    """Rows of `length` random tokens with one video of 256 patches each."""
    starts = [row * length for row in range(num_rows)]
    return {
        "input_ids": torch.randint(0, 200, (num_rows, length)),
        "position_ids": torch.arange(length).expand(4, num_rows, length).contiguous(),
        "targets": torch.randint(0, 200, (num_rows * num_supervised,)),
        "supervised_index": torch.cat([torch.arange(length - num_supervised, length) - 1 + at for at in starts]),
        "visual_index": torch.cat([torch.arange(64) + at for at in starts]),
        "patches": torch.randn(num_rows * 256, 1536),
        "grids": [(2, 8, 16)] * num_rows,
    }


CASES = {
    "full": {"tune_mm_vision": False},
    "full-with-tower": {"tune_mm_vision": True},
    "lora": {"lora_enable": True, "lora_dropout": 0.0},
    "lora-dropout": {"lora_enable": True, "lora_dropout": 0.1},
    "lora-attention": {"lora_enable": True, "lora_dropout": 0.1, "lora_target_modules": "attention"},
    "lora-with-tower": {"lora_enable": True, "lora_dropout": 0.0, "tune_mm_vision": True},
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recomputes", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("case", list(CASES))
def test_what_a_step_holds_is_what_was_estimated(wider_model, case, recomputes, precision):
    from qwenvl.train.argument import ModelArguments
    from qwenvl.train.fast_vision import speed_up_vision
    from qwenvl.train.forward import use_driving_forward
    from qwenvl.train.loading import load_model
    from qwenvl.train.tuning import apply_tuning

    is_half = precision == "bf16"
    dtype = torch.bfloat16 if is_half else torch.float32
    model = load_model(wider_model, attention="sdpa", dtype=dtype)
    shape = read_model_shape(model.config)
    speed_up_vision(model)
    use_driving_forward(model)
    arguments = ModelArguments(lora_r=8, **CASES[case])
    model = apply_tuning(model, arguments).train()
    if recomputes:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = build_batch(2, 400, 100)
    batch["patches"] = batch["patches"].to(dtype)

    def compute_loss():
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            return model(**batch).loss

    compute_loss().backward()  # the gradients are there from now on
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    with LiveBytes([*model.parameters(), *model.buffers(), *gradients]) as live:
        live.note(batch["patches"])
        compute_loss().backward()

    lora = arguments.lora_enable
    kept = Kept(
        in_full=not lora,
        rank=8 * lora,
        adapts_attention=lora,
        adapts_mlp=lora and arguments.lora_target_modules == "all",
        has_dropout=lora and arguments.lora_dropout > 0,
        compute_bytes=2 if is_half else 4,
        casts=is_half,
    )
    parameters = count_parameters(model)
    plan = MemoryPlan(shape, parameters, MicroBatch(800, 400, 200, 512), kept, kept, checkpointing=recomputes)
    memory = estimate_memory(plan)
    assert memory.activations + memory.logits + count_copies(plan) == pytest.approx(live.peak, rel=TOLERANCE)


def test_the_4b_model_at_the_launchers_defaults_is_counted_by_hand(shared_data):
    """LoRA on all linear layers of the language model: rank x (inputs + outputs) weights each."""
    shape = read_model_shape(json.loads((shared_data / "qwen3vl_processor/config.json").read_text()))
    adapters = 36 * 64 * ((2560 + 4096) + 2 * (2560 + 1024) + (4096 + 2560) + 3 * (2560 + 9728))
    language = 36 * (2 * 2560 * (4096 + 1024) + 3 * 2560 * 9728 + 2 * 2560 + 2 * 128) + 2560 + 151936 * 2560
    plan = MemoryPlan(
        shape,
        {"language": (adapters, language + adapters), "merger": (0, 0), "vision": (0, 0)},
        MicroBatch(tokens=8000, longest=2000, supervised=1500, patches=26880),
        text=replace(HALF, rank=64, has_dropout=True),
        vision=HALF,
        checkpointing=True,
        device="cuda",
    )
    memory = estimate_memory(plan)
    assert adapters == 132_120_576
    assert memory.weights == adapters * 4 + language * 2
    assert memory.gradients + memory.optimizer == adapters * 12
