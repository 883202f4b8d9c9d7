"""Memory that runs out inside a real run: one message with what to change, exit code 1, no traceback."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from tiny_runs import list_flags  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.data.dataset import DrivingDataset  # noqa: E402
from qwenvl.train.activations import Kept  # noqa: E402
from qwenvl.train.memory import NF4_BYTES, Engine, MemoryPlan, MicroBatch, estimate_memory  # noqa: E402
from qwenvl.train.model_shape import ModelShape, TextShape, VisionShape  # noqa: E402
from qwenvl.train.out_of_memory import (  # noqa: E402
    OutOfMemoryError,
    explain_out_of_memory,
    format_advice,
    is_on_host,
    is_out_of_memory,
)
from qwenvl.train.ranks import run_rank  # noqa: E402
from qwenvl.train.savings import Situation, list_loader_savings, list_savings  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch

SHAPE = ModelShape(
    TextShape(
        width=1024, num_layers=10, num_heads=16, num_key_heads=8, head_width=64, mlp_width=4096, vocabulary=100
    ),
    VisionShape(
        width=32, num_layers=4, num_heads=2, mlp_width=64, num_mlp_matrices=2, patch_values=1536, merge=2,
        num_mergers=4, out_width=1024,
    ),
)  # fmt: skip
HALF = Kept(in_full=True, compute_bytes=2, casts=True, mask_bytes=1)
LAYER_WEIGHTS = 2 * 1024 * (1024 + 512) + 3 * 1024 * 4096  # q, k, v, o; gate, up, down
FULL = MemoryPlan(
    SHAPE,
    {"language": (10 * LAYER_WEIGHTS, 10 * LAYER_WEIGHTS), "merger": (1000, 1000), "vision": (0, 50_000)},
    MicroBatch(tokens=1600, longest=400, supervised=400, patches=4 * 1200),
    text=HALF,
    vision=replace(HALF, in_full=False),
    engine=Engine(2),
    device="cuda",
)
LORA = replace(
    FULL, text=replace(HALF, in_full=False, rank=8, adapts_attention=True, adapts_mlp=True),
    parameters={**FULL.parameters, "language": (30_000, 10 * LAYER_WEIGHTS + 30_000)},
)  # fmt: skip
SITUATION = Situation(FULL, batch_size=4, accumulation=2, frame_px=114_688, batch_bytes=100, num_workers=3, step=7)


def savings_of(memory) -> dict[str, int]:
    return {saving.change: saving.saved_bytes for saving in list_savings(memory, replace(SITUATION, memory=memory))}


def test_full_training_can_save_in_six_ways():
    changes = list(savings_of(FULL))
    assert changes == [
        "BATCH_SIZE=1 GRAD_ACCUM_STEPS=8",
        "GRADIENT_CHECKPOINTING=True",
        "VIDEO_FRAME_PIXELS=57344",
        "./train_physical_ai_lora.sh (--lora_enable True)",
        "DEEPSPEED_CONFIG=qwen-vl-finetune/scripts/zero3.json",
        "DEEPSPEED_CONFIG=qwen-vl-finetune/scripts/zero3_offload.json (slower)",
    ]


def test_four_bits_save_what_they_save_by_hand():
    unpacked = 1024 * 4096 * 2
    saved = 10 * LAYER_WEIGHTS * (2 - NF4_BYTES) - unpacked
    assert savings_of(LORA)["--load_in_4bit True"] == pytest.approx(saved, abs=1)


def test_everything_that_is_advised_can_be_typed(repository):
    from qwenvl.train.argument import DataArguments, ModelArguments, TrainingArguments

    launchers = (repository / "train_physical_ai_lora.sh").read_text() + (repository / "scripts/launch.sh").read_text()
    flags = {name for kind in (DataArguments, ModelArguments, TrainingArguments) for name in kind.__dataclass_fields__}
    situation = replace(SITUATION, cache_bytes=1)
    changes = " ".join([*savings_of(FULL), *savings_of(LORA), *(one.change for one in list_loader_savings(situation))])
    assert [name for name in re.findall(r"\b([A-Z_]{5,})=", changes) if name not in launchers] == []
    assert [name for name in re.findall(r"--(\w+)", changes) if name not in flags] == []
    assert [name for name in re.findall(r"\w[\w/-]*\.(?:json|sh)", changes) if not (repository / name).exists()] == []


def test_what_is_done_already_is_not_advised_again():
    memory = replace(
        LORA, checkpointing=True, quantised_weights=10 * LAYER_WEIGHTS,
        engine=Engine(2, 3, offloads_optimizer=True, offloads_weights=True),
    )  # fmt: skip
    changes = list_savings(memory, replace(SITUATION, memory=memory, batch_size=1, frame_px=0))
    assert changes == []


def test_half_the_frame_area_is_half_the_patches_and_half_the_visual_tokens():
    half = replace(LORA, batch=MicroBatch(1600 - 4 * 150, 400, 400, 4 * 600))
    saved = estimate_memory(LORA).total - estimate_memory(half).total
    assert savings_of(LORA)["VIDEO_FRAME_PIXELS=57344"] == saved > 0


def test_the_loader_can_wait_with_less():
    # three workers hold two batches of 100 bytes each
    situation = replace(SITUATION, cache_bytes=5000)
    assert {saving.change: saving.saved_bytes for saving in list_loader_savings(situation)} == {
        "--dataloader_num_workers 1": 400,
        "--dataloader_prefetch_factor 1": 300,
        "--cache_frames False": 5000,
        "BATCH_SIZE=1 GRAD_ACCUM_STEPS=8": 450,
    }


def test_the_message_names_the_largest_saving_first():
    said = format_advice(SITUATION, on_host=False).splitlines()
    assert re.match(
        r"the GPU ran out of memory at step 7 \(a process was estimated to need about [\d.]+ GiB\); ", said[0]
    )
    saved = [float(line.split()[-2]) * {"GiB": 1024, "MiB": 1}[line.split()[-1]] for line in said[1:-1]]
    assert len(saved) == 6 and saved == sorted(saved, reverse=True)
    assert said[-1].startswith("a changed batch size, frame size or set of trained weights is another run")


def test_a_gpu_run_whose_host_is_full_is_told_about_the_loader_only():
    said = format_advice(SITUATION, on_host=True)
    assert said.startswith("the host ran out of memory at step 7")
    assert "--dataloader_num_workers 1" in said and "GRADIENT_CHECKPOINTING" not in said


def test_a_model_that_does_not_load_is_advised_without_figures():
    said = format_advice(Situation(), on_host=True)
    assert said.startswith("the host ran out of memory while the model was loaded; take LoRA with --load_in_4bit True")


def test_where_nothing_can_be_saved_it_says_so():
    memory = replace(LORA, checkpointing=True, quantised_weights=10 * LAYER_WEIGHTS, device="cpu")
    said = format_advice(Situation(memory), on_host=False)
    assert "nothing is left to save, take a smaller --model_name_or_path or a larger machine" in said


@pytest.mark.parametrize(
    "error, is_memory, on_host",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory"), True, True),
        (MemoryError(), True, True),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), True, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("out of memory"), False, False),
    ],
)  # fmt: skip
def test_errors_that_mean_missing_memory_are_told_apart(error, is_memory, on_host):
    assert (is_out_of_memory(error), is_on_host(error)) == (is_memory, on_host)


def test_another_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory():
        raise RuntimeError("shapes cannot be multiplied")
    assert issubclass(OutOfMemoryError, DrivingError)


class OutOfMemoryAt(transformers.TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def command(tiny_model, training_json, output_dir, *extra: str) -> list[str]:
    return list_flags(tiny_model, training_json, output_dir, "--max_steps", "3", *extra)


def test_a_run_whose_step_does_not_fit_ends_with_one_message(tiny_model, training_json, tmp_path, capsys):
    argv = command(tiny_model, training_json, tmp_path / "run")
    assert run_rank(lambda: run(argv, callbacks=[OutOfMemoryAt(2)])) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the host ran out of memory at step 2 (a process was estimated to need about 0.0")
    assert "BATCH_SIZE=1 GRAD_ACCUM_STEPS=2" in said and "GRADIENT_CHECKPOINTING=True" in said
    assert "Traceback" not in said and "\nerror" not in said


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_a_loader_that_runs_out_of_memory_ends_with_one_message(
    tiny_model, training_json, tmp_path, capfd, monkeypatch, num_workers
):
    read = DrivingDataset.__getitem__
    parent = torch.multiprocessing.current_process().pid

    def fail(self, index):
        if fail.is_armed and (num_workers == "0" or torch.multiprocessing.current_process().pid != parent):
            np.zeros(2**60, np.uint8)  # numpy's own kind of MemoryError
        return read(self, index)

    class Arm(transformers.TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            fail.is_armed = True

    fail.is_armed = False
    monkeypatch.setattr(DrivingDataset, "__getitem__", fail)
    argv = command(tiny_model, training_json, tmp_path / "run", "--dataloader_num_workers", num_workers)
    assert run_rank(lambda: run(argv, callbacks=[Arm()])) == 1
    said = capfd.readouterr().err
    assert "error: the host ran out of memory at step 1" in said and "Traceback" not in said
    if num_workers == "2":
        assert "--dataloader_num_workers 1" in said
