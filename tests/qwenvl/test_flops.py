"""Operations of a step: by hand for small numbers, and beside torch's own counter on a real model."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
from qwenvl.train.flops import Learning, Work, compute_mfu, count_flops, describe_work  # noqa: E402
from qwenvl.train.model_shape import ModelShape, TextShape, VisionShape, read_model_shape  # noqa: E402

pytestmark = pytest.mark.needs_torch

TEXT = TextShape(
    width=4, num_layers=3, num_heads=2, num_key_heads=1, head_width=3, mlp_width=8, vocabulary=100
)  # one layer: q 4x6, k 4x3, v 4x3, o 6x4 = 72; gate, up, down 3 x 32 = 96
VISION = VisionShape(
    width=6, num_layers=2, num_heads=2, mlp_width=10, num_mlp_matrices=2, patch_values=24, merge=2, num_mergers=2,
    out_width=4,
)  # fmt: skip
# one block: 4 x 36 + 2 x 60 = 264; one merger: 24 x 24 + 24 x 4 = 672 a visual token
SMALL = ModelShape(TEXT, VISION)
WORK = describe_work([10, 20], supervised=5, grids=[(1, 2, 4), (2, 2, 2)])  # frames of 8, 4 and 4 patches
FORWARD = {
    "text": 2 * 3 * (30 * (72 + 96) + 2 * 6 * (100 + 400) / 2),
    "head": 2 * 5 * 4 * 100,
    "vision": 2 * (16 * 6 * 24 + 2 * (16 * 264 + 2 * 6 * (64 + 16 + 16))),
    "mergers": 2 * 2 * 4 * 672,
}


def test_the_work_of_samples_is_counted_by_hand():
    assert Work(tokens=30, token_pairs=250, supervised=5, patches=16, patch_pairs=96) == WORK


def test_forward_operations_are_those_counted_by_hand():
    assert count_flops(SMALL, WORK, Learning()).forward == FORWARD


def test_nothing_goes_backward_where_nothing_learns():
    assert sum(count_flops(SMALL, WORK, Learning()).backward.values()) == 0


def test_learning_everything_costs_twice_the_forward_pass_more():
    flops = count_flops(SMALL, WORK, Learning(in_full=frozenset({"language", "merger", "vision"})))
    patching = 2 * 16 * 6 * 24  # no gradient of the pixels
    assert flops.backward == {**{k: 2 * v for k, v in FORWARD.items()}, "vision": 2 * FORWARD["vision"] - patching}


def test_adapters_below_a_frozen_tower_cost_no_gradient_in_the_tower_and_none_of_frozen_weights():
    learning = Learning(in_full=frozenset({"merger"}), adapters={"language": 50})
    flops = count_flops(SMALL, WORK, learning)
    linear, attention, adapters = 2 * 3 * 30 * 168, 2 * 3 * 12 * 250, 2 * 30 * 50
    first, second = 2 * 2 * 4 * 576, 2 * 2 * 4 * 96
    assert flops.forward["text"] == linear + attention + adapters
    assert flops.backward == {
        "text": linear + 2 * attention + 2 * adapters,
        "head": FORWARD["head"],
        "vision": 0,
        "mergers": first + 2 * second,
    }


def test_checkpointing_repeats_the_layers_that_have_a_backward_pass_and_is_no_use_to_mfu():
    learning = Learning(in_full=frozenset({"language"}), recomputes=True)
    flops = count_flops(SMALL, WORK, learning)
    assert flops.again == {"text": FORWARD["text"], "head": 0, "vision": 0, "mergers": 0}
    assert flops.computed - flops.needed == FORWARD["text"]
    assert compute_mfu(flops, seconds=2.0, peak_flops_per_s=flops.needed) == 0.5


def test_a_token_meets_its_own_experts_only():
    config = json.loads(json.dumps(MOE))
    text = read_model_shape(config).text
    assert text.mlp_weights_used == 3 * 2048 * 8 * 768 + 2048 * 128
    assert text.attention_weights == 2 * 2048 * (4096 + 512)


MOE = {  # the sizes of Qwen3-VL-30B-A3B
    "text_config": {
        "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "intermediate_size": 6144, "vocab_size": 151936, "num_experts": 128,
        "num_experts_per_tok": 8, "moe_intermediate_size": 768,
    },
    "vision_config": {
        "hidden_size": 1152, "depth": 27, "num_heads": 16, "intermediate_size": 4304, "in_channels": 3,
        "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 2048,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}  # fmt: skip


def test_windows_bound_who_looks_at_whom():
    vision = VisionShape(
        width=6, num_layers=4, num_heads=2, mlp_width=10, num_mlp_matrices=3, patch_values=24, merge=2, num_mergers=1,
        out_width=4, window_patches=4, num_whole_frame_layers=1,
    )  # fmt: skip
    work = describe_work([1], 0, grids=[(2, 4, 4)])  # two frames of 16 patches: 512 pairs, in windows of 4: 128
    with_attention = count_flops(ModelShape(TEXT, vision), work, Learning()).forward["vision"]
    assert with_attention == 2 * (32 * 6 * 24 + 4 * 32 * (4 * 36 + 3 * 60) + 2 * 6 * (1 * 512 + 3 * 128))


def test_the_4b_model_has_the_sizes_that_its_config_says(shared_data):
    shape = read_model_shape(json.loads((shared_data / "qwen3vl_processor/config.json").read_text()))
    assert shape.text.attention_weights == 2 * 2560 * (4096 + 1024)
    assert shape.text.mlp_weights_used == 3 * 2560 * 9728
    assert (shape.vision.patch_values, shape.vision.num_mergers, shape.vision.merged_width) == (1536, 4, 4096)


@pytest.mark.parametrize("trains", ["everything", "language"])
def test_torch_counts_the_same_operations_in_a_real_step(tiny_model, processor, training_json, trains):
    """torch's counter sees matrix products; with eager attention it sees both halves of the scores."""
    from torch.utils.flop_counter import FlopCounterMode

    from qwenvl.data.collate import collate, to_step_inputs
    from qwenvl.data.dataset import DrivingDataset
    from qwenvl.data.preprocessing import Preprocessing
    from qwenvl.train.forward import use_driving_forward
    from qwenvl.train.loading import load_model
    from qwenvl.train.parts import part_of

    records = json.loads(training_json.read_text())[:2]
    dataset = DrivingDataset(records, [[training_json.parent]] * 2, processor, Preprocessing(video_fps=10.0), 4096)
    batch = collate([dataset[0], dataset[1]], pad_token_id=processor.tokenizer.pad_token_id)
    inputs = to_step_inputs(batch, processor, "cpu")
    model = load_model(tiny_model, attention="eager", dtype=torch.float32)
    use_driving_forward(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains == "everything" or part_of(name) == trains)
    with FlopCounterMode(display=False) as counter:
        model(**inputs).loss.backward()
    rows, length = batch["input_ids"].shape
    work = describe_work([length] * rows, batch["num_supervised"], inputs["grids"])
    assert work.patches == len(inputs["patches"])
    work = Work(**{**vars(work), "token_pairs": 2 * work.token_pairs})
    in_full = frozenset({"language", "merger", "vision"} if trains == "everything" else {trains})
    expected = count_flops(read_model_shape(model.config), work, Learning(in_full=in_full)).needed
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.005)
