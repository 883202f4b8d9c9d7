"""Training the real 4B shape on a GPU: ours beside the plain way. Refuses without a GPU.

    random weights in the shape of Qwen3-VL-4B, drawn clips of 30 frames of 256x448 ──▶ one process a way:

    reference           benchmarks/reference.py, LoRA r 64 on all linear layers of the language model, bf16
    ours                the same through train_qwen.run
    sync                ours, with one step under torch.cuda.set_sync_debug_mode("error")
    launcher            the defaults of train_physical_ai_lora.sh: batch 4, mergers tuned, recomputation
    qlora               the same with --load_in_4bit True
    *_checkpointing     reference and ours with recomputation
    trl, swift, ...     other frameworks, each in the environment that --peer names (see benchmarks.peers), as reference

`python -m benchmarks.gpu [--json FILE]` stays inside --budget-s seconds (ways that no longer fit are named) and prints
one JSON object as its last line. For each way: samples/s and tokens/s by the wall clock with the loader's waits in it,
MFU (`qwenvl.train.flops`: what a LoRA step needs, the vision tower counted, against the maker's dense bf16 rate),
data_wait_percent (time between the end of a step and the start of the next, an upper bound), and peak memory of the
tensors and of the allocator. The device is waited for after the dropped steps and at the end, nowhere in between.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    NUM_DROPPED,
    EndsClock,
    StepClock,
    build_parser,
    describe_machine,
    describe_versions,
    print_numbers,
    run_child,
)
from benchmarks.peers import PeerEnvironment, add_peer_option
from benchmarks.ways import Setup, import_libraries, train_ours, train_plainly
from driving.errors import DrivingError, run_main

SIZES = Path(__file__).with_name("model_4b.json")
FRAME_SIZE = (256, 448)
WAYS = (
    "reference", "ours", "sync", "launcher", "qlora", "reference_checkpointing", "ours_checkpointing",
)  # fmt: skip
LAUNCHER = {"lora_dropout": 0.05, "tune_mm_mlp": True, "gradient_accumulation_steps": 2, "lr_scheduler_type": "cosine"}
# Dense bf16 operations per second, by the makers' data sheets.
PEAK_FLOPS_PER_S = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}


class StrictClock(StepClock):
    """A clock that makes every wait for the device inside the second step an error."""

    def start(self) -> None:
        import torch

        if len(self.step_s) == 1:
            torch.cuda.set_sync_debug_mode("error")
        super().start()

    def stop(self, loss: Any = None) -> None:
        import torch

        torch.cuda.set_sync_debug_mode("default")
        super().stop(loss)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark (or, in a child, one way of it) and print its numbers as the last line."""
    parser = build_parser("gpu", __doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--steps", type=int, default=12, help="timed steps, after three that are dropped")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=4, help="processes that decode")
    parser.add_argument("--rows", type=int, default=64, help="clips; enough for all steps, or a new epoch stalls both")
    parser.add_argument("--sizes", type=Path, default=SIZES, help="text_config and vision_config")
    parser.add_argument(
        "--processor", type=Path, help="a folder with a real Qwen3-VL tokenizer (default: a small one); --peer needs it"
    )
    add_peer_option(parser)
    parser.add_argument("--budget-s", type=float, default=450, help="seconds for everything")
    parser.add_argument("--way", choices=("workload", *WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.peer and not args.processor:
        parser.error("--peer needs --processor: other frameworks count on Qwen3-VL's own token ids")
    return run_main(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    check_gpu()
    if args.way == "workload":
        numbers = write_workload(args.folder, args, device="cuda")
    elif args.way:
        numbers = run_way(args.way, args.folder, plan_setup(args.way, args, "cuda"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            numbers = measure(Path(folder), args)
    print_numbers(numbers, args.json)
    return 0


def check_gpu() -> None:
    """Raise where there is no GPU to measure on."""
    import torch

    if not torch.cuda.is_available():
        raise DrivingError(
            "this benchmark measures a CUDA GPU and torch sees none here; on a CPU run python -m benchmarks.train_step"
        )
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise DrivingError(f"this benchmark trains in bf16, which a {torch.cuda.get_device_name()} does not have")


def write_workload(folder: Path, args: argparse.Namespace, device: str) -> dict[str, Any]:
    """The model (bf16 on a GPU) and the clips; returns what a row holds."""
    from benchmarks.workload import describe_rows, write_model, write_rows

    sizes = json.loads(args.sizes.read_text(encoding="utf-8"))
    dtype = "float32" if device == "cpu" else "bfloat16"
    write_model(folder / "model", sizes, processor=args.processor, device=device, dtype=dtype)
    write_rows(folder, [FRAME_SIZE] * args.rows)
    if args.processor:
        (folder / "processor").symlink_to(args.processor.resolve())
    return describe_rows(folder)


def plan_setup(way: str, args: argparse.Namespace, device: str) -> Setup:
    """What one way trains with."""
    setup = Setup(
        batch_size=args.batch_size,
        num_steps=NUM_DROPPED + args.steps,
        workers=args.workers,
        lora_r=64,
        lora_alpha=128,
        targets="all",
        device=device,
    )
    if way == "sync":
        return replace(setup, num_steps=NUM_DROPPED)
    return replace(setup, checkpointing=way in ("launcher", "qlora") or way.endswith("checkpointing"))


def plan_flags(way: str, setup: Setup) -> dict[str, Any]:
    """What a way of ours changes of the flags that train what the plain way trains."""
    # One line at the first step and one at the end: a line in between would wait for the device.
    logging = {"logging_first_step": True, "logging_steps": setup.num_steps}
    others = LAUNCHER if way in ("launcher", "qlora") else {}
    return {**logging, "cache_frames": False, **others, **({"load_in_4bit": True} if way == "qlora" else {})}


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Every way in a process of its own, while the budget lasts."""
    started_s = time.monotonic()
    names = ("steps", "batch-size", "workers", "rows", "sizes")
    shared = [text for name in names for text in (f"--{name}", str(getattr(args, name.replace("-", "_"))))]
    shared += ["--processor", str(args.processor)] if args.processor else []

    def child(way: str, arguments: Sequence[str], **settings: Any) -> dict[str, Any]:
        left_s = args.budget_s - (time.monotonic() - started_s)
        if left_s < 30:
            return {"error": f"not run: the budget of {args.budget_s:g} s is spent"}
        try:
            numbers = run_child(arguments, timeout_s=left_s, **settings)
        except subprocess.TimeoutExpired:
            numbers = {"error": f"stopped after {left_s:.0f} s: the budget is spent"}
        except RuntimeError as error:
            numbers = {"error": str(error)}
        print(f"{time.monotonic() - started_s:4.0f} s  {way}: {json.dumps(numbers)}", flush=True)
        return numbers

    def run_ours(way: str) -> dict[str, Any]:
        arguments = ["-m", "benchmarks.gpu", "--way", way, "--folder", str(folder), *shared]
        return child(way, arguments, env={"TOKENIZERS_PARALLELISM": "false"})

    def run_peer(peer: PeerEnvironment) -> dict[str, Any]:
        arguments = peer.list_arguments(folder, plan_setup(peer.name, args, "cuda"))
        return child(peer.name, arguments, python=peer.python, env={"TOKENIZERS_PARALLELISM": "false", **peer.env})

    rows = run_ours("workload")
    if "error" in rows:
        raise DrivingError(f"the model and the clips could not be made: {rows['error']}")
    runs = {way: run_ours(way) for way in args.ways} | {peer.name: run_peer(peer) for peer in args.peer}
    sizes = json.loads(args.sizes.read_text(encoding="utf-8"))
    for way, numbers in runs.items():
        if "wall_s" in numbers:
            numbers.update(summarise(way, numbers, rows, sizes, plan_setup(way, args, "cuda")))
    return {
        **compare(runs),
        "runs": runs,
        "row": rows,
        "batch_size": args.batch_size,
        "steps": args.steps,
        "workers": args.workers,
        "frame_size": FRAME_SIZE,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def run_way(way: str, folder: Path, setup: Setup) -> dict[str, Any]:
    """One way in this process."""
    import_libraries()
    import torch

    if way == "sync":
        return run_strictly(folder, setup)
    clock = EndsClock(setup.num_steps, torch.cuda.synchronize if setup.device != "cpu" else lambda: None)
    if way.startswith("reference"):
        result = train_plainly(folder, setup, clock)
    else:
        result = train_ours(folder, folder / way, setup, clock, plan_flags(way, setup))
    return {**clock.to_json(), **result}


def run_strictly(folder: Path, setup: Setup) -> dict[str, Any]:
    """One step of ours in which waiting for the device is an error; says where it was waited for."""
    try:
        train_ours(folder, folder / "sync", setup, StrictClock(), plan_flags("sync", setup))
    except RuntimeError as error:
        frames = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        return {"is_sync_free": False, "said": str(error).splitlines()[0], "at": frames[-6:]}
    return {"is_sync_free": True}


def summarise(way: str, numbers: dict[str, Any], row: dict[str, Any], sizes: dict, setup: Setup) -> dict[str, Any]:
    """Rates and MFU of one way's run.

    Args:
        numbers: what `run_way` returned.
        row: mean tokens, supervised tokens and the grid of a row.
    """
    import torch

    from qwenvl.train.flops import Learning, compute_mfu, count_flops, describe_work
    from qwenvl.train.model_shape import read_model_shape
    from qwenvl.train.parts import LANGUAGE, MERGER

    is_launcher = way in ("launcher", "qlora")
    shape = read_model_shape(sizes)
    samples = setup.batch_size * (LAUNCHER["gradient_accumulation_steps"] if is_launcher else 1)
    work = describe_work([row["tokens"]] * samples, row["supervised_tokens"] * samples, [row["grid"]] * samples)
    adapters = {LANGUAGE: count_adapters(shape.text, setup.lora_r)}
    flops = count_flops(shape, work, Learning(frozenset([MERGER] if is_launcher else []), adapters))
    step_s = numbers["wall_s"] / numbers["num_steps"]
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((rate for part, rate in PEAK_FLOPS_PER_S.items() if part in name), None)
    return {
        "samples_per_s": round(samples / step_s, 3),
        "tokens_per_s": round(samples * row["tokens"] / step_s, 1),
        "data_wait_percent": round(100 * numbers["waited_s"] / numbers["wall_s"], 2),
        "tflops_per_s": round(flops.needed / step_s / 1e12, 2),
        "mfu": None if peak is None else round(compute_mfu(flops, step_s, peak), 4),
        "peak_memory_gib": round(numbers["peak_memory_bytes"] / 2**30, 2),
    }


def count_adapters(text: Any, rank: int) -> int:
    """Weights of the adapters on q, k, v, o, gate, up and down of all layers."""
    attention = 2 * (text.width + text.attention_width) + 2 * (text.width + text.key_width)
    return text.num_layers * rank * (attention + 3 * (text.width + text.mlp_width))


def compare(runs: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Ours over the plain way, where both ran; every other framework too."""
    plain, ratios = runs.get("reference", {}), {}
    for name, numbers in runs.items():
        if name not in WAYS and "samples_per_s" in plain and "samples_per_s" in numbers:
            ratios[f"speedup_{name}"] = round(numbers["samples_per_s"] / plain["samples_per_s"], 3)
            ratios[f"memory_ratio_{name}"] = round(numbers["peak_memory_bytes"] / plain["peak_memory_bytes"], 3)
    for suffix in ("", "_checkpointing"):
        plain, ours = runs.get(f"reference{suffix}", {}), runs.get(f"ours{suffix}", {})
        if "samples_per_s" in plain and "samples_per_s" in ours:
            ratios[f"speedup{suffix}"] = round(ours["samples_per_s"] / plain["samples_per_s"], 3)
            ratios[f"memory_ratio{suffix}"] = round(ours["peak_memory_bytes"] / plain["peak_memory_bytes"], 3)
    return ratios


if __name__ == "__main__":
    sys.exit(main())
