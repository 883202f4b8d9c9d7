"""A training step of ours beside the plain way's: speed, peak memory, and the same loss.

    model of step_model.json, 2 drawn clips ──▶ reference | ours | reference | ours ...   one process each, in turn

`uv run python -m benchmarks.train_step [--json FILE]` makes its own input and prints one JSON object as its last line:

    step_speedup     median step of the reference / of ours
    memory_ratio     peak resident memory of ours over its baseline / of the reference's over its own
    peak_rss_ratio   the same without taking the baseline off
    loss_rel_diff    loss of step 1, |ours - reference| / reference

A step is what stands between the batch in the loader's hands and the updated weights: transfer and normalising,
forward, backward, clipping, optimizer. Ours is `train_qwen.run`, the launchers' own entry, timed by a callback
(on_step_begin to on_step_end); the reference is benchmarks/reference.py. Both: the same weights and clips, fp32, SDPA,
LoRA r 16 on the language model's attention without dropout, fused AdamW, clipping at 1, threads, workers. The first
step of a process is dropped. The baseline is the resident memory once all libraries are imported, before the model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    StepClock,
    describe_machine,
    describe_versions,
    read_rss_bytes,
    run_child,
    thread_settings,
)

SIZES = Path(__file__).with_name("step_model.json")
FRAME_SIZES = ((256, 448), (128, 256))
LORA_R, LORA_ALPHA, LEARNING_RATE = 16, 32, 1e-4
WAYS = ("reference", "ours")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark (or, in a child, one way of it) and print its numbers as the last line."""
    parser = argparse.ArgumentParser(prog="benchmarks.train_step", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a process, after the one that is dropped")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", type=Path, default=SIZES, help="text_config and vision_config")
    parser.add_argument("--processor", type=Path, help="a folder with a real Qwen3-VL tokenizer (default: a small one)")
    parser.add_argument("--batch", choices=("flat", "padded"), default="flat", help="how ours puts samples together")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.way:
        run_way = run_ours if args.way == "ours" else run_reference
        numbers = run_way(args.folder, args.steps + 1, args.workers, args.batch)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_workload(Path(folder), json.loads(args.sizes.read_text(encoding="utf-8")), args.processor)
            numbers = measure(Path(folder), args)
    line = json.dumps(numbers)
    if args.json is not None:
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0


def write_workload(folder: Path, sizes: dict, processor: Path | None) -> None:
    """The model and the rows that all ways train on."""
    from benchmarks.workload import write_model, write_rows

    write_model(folder / "model", sizes, processor=processor)
    write_rows(folder, FRAME_SIZES)


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run every way `rounds` times in turn, one process each, and compare."""
    runs: dict[str, list[dict]] = {way: [] for way in WAYS}
    options = ("steps", "workers", "batch")
    shared = [text for name in options for text in (f"--{name}", str(getattr(args, name)))]
    for _ in range(args.rounds):
        for way in WAYS:
            arguments = ["-m", "benchmarks.train_step", "--way", way, "--folder", str(folder / way), *shared]
            (folder / way).mkdir(exist_ok=True)
            run = run_child(arguments, env=thread_settings(args.threads))
            runs[way].append(run)
            print(f"{way}: {run['step_s']} s, peak {run['peak_bytes'] / 2**30:.2f} GiB, loss {run['losses'][0]:.6f}")
    return {
        **compare(runs["reference"], runs["ours"]),
        "runs": runs,
        "rounds": args.rounds,
        "threads": args.threads,
        **{name: getattr(args, name) for name in options},
        "frame_sizes": FRAME_SIZES,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def compare(reference: Sequence[dict], ours: Sequence[dict]) -> dict[str, float]:
    """The ratios of two ways' runs: medians over all timed steps, medians over the processes' peaks."""

    def step_s(runs: Sequence[dict]) -> float:
        return statistics.median(seconds for run in runs for seconds in run["step_s"])

    def peak(runs: Sequence[dict], baseline: str = "baseline_bytes") -> float:
        return statistics.median(run["peak_bytes"] - run.get(baseline, 0) for run in runs)

    losses = [run["losses"][0] for run in (*reference, *ours)]
    return {
        "step_speedup": round(step_s(reference) / step_s(ours), 3),
        "memory_ratio": round(peak(ours) / peak(reference), 3),
        "peak_rss_ratio": round(peak(ours, "") / peak(reference, ""), 3),
        "loss_rel_diff": (max(losses) - min(losses)) / min(losses),
        "loss_step_1": {"reference": reference[0]["losses"][0], "ours": ours[0]["losses"][0]},
    }


def run_reference(folder: Path, num_steps: int, workers: int, batch: str) -> dict[str, Any]:
    """The plain way in this process."""
    import transformers

    from benchmarks import reference

    baseline = read_rss_bytes()
    transformers.set_seed(42)
    processor = transformers.AutoProcessor.from_pretrained(folder.parent / "model")
    loader = reference.build_loader(folder.parent / "train.json", processor, len(FRAME_SIZES), workers)
    pattern = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)"
    lora = {"r": LORA_R, "lora_alpha": LORA_ALPHA, "lora_dropout": 0.0, "target_modules": pattern}
    model = reference.build_model(folder.parent / "model", lora)
    clock = StepClock()
    reference.train(model, loader, num_steps, clock, LEARNING_RATE)
    labels = [loader.dataset[index]["labels"] for index in range(len(loader.dataset))]
    return {
        **summarise(clock, [float(loss) for loss in clock.losses], baseline),
        "tokens": [row.numel() for row in labels],
        "supervised_tokens": [int((row != -100).sum()) for row in labels],
    }


def run_ours(folder: Path, num_steps: int, workers: int, batch: str) -> dict[str, Any]:
    """Ours in this process, by the launchers' entry."""
    from qwenvl.train.quiet import drop_harmless_messages

    drop_harmless_messages()
    import transformers

    from qwenvl.train import prepare, train_qwen, trainer  # noqa: F401  imported before the baseline is read

    class Watch(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.stop()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "loss" in logs:
                clock.losses.append(logs["loss"])

    clock, baseline = StepClock(), read_rss_bytes()
    code = train_qwen.run(list_flags(folder, num_steps, workers, batch), callbacks=[Watch()])
    if code:
        raise SystemExit(code)
    return summarise(clock, clock.losses, baseline)


def list_flags(folder: Path, num_steps: int, workers: int, batch: str) -> list[str]:
    """The command line of ours that trains what the reference trains."""
    flags = {
        "model_name_or_path": folder.parent / "model",
        "dataset_use": folder.parent / "train.json",
        "output_dir": folder / "run",
        "overwrite_output": True,
        "tune_mm_llm": True,
        "tune_mm_mlp": False,
        "tune_mm_vision": False,
        "lora_enable": True,
        "lora_r": LORA_R,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0,
        "lora_target_modules": "attention",
        "data_flatten": batch == "flat",
        "per_device_train_batch_size": len(FRAME_SIZES),
        "max_steps": num_steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "gradient_checkpointing": False,
        "precision": "fp32",
        "use_cpu": True,
        "attn_implementation": "sdpa",
        "dataloader_num_workers": workers,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))]


def summarise(clock: StepClock, losses: Sequence[float], baseline: int) -> dict[str, Any]:
    """One run's numbers; its first step is dropped from the seconds, not from the losses."""
    return {
        "step_s": [round(seconds, 4) for seconds in clock.step_s[1:]],
        "losses": list(losses),
        "baseline_bytes": baseline,
        "peak_bytes": read_rss_bytes(peak=True),
    }


if __name__ == "__main__":
    sys.exit(main())
