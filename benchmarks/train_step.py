"""A training step of ours beside the plain way's: speed, peak memory, and the same loss.

    model of step_model.json, 2 drawn clips ──▶ reference | ours | reference | ours ...   one process each, in turn

`uv run python -m benchmarks.train_step [--json FILE]` makes its own input and prints one JSON object as its last line:

    step_speedup     median step of the reference / of ours
    cpu_speedup      the same in processor seconds of the training process, which other work on the machine moves less
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
    build_parser,
    describe_machine,
    describe_versions,
    print_numbers,
    read_rss_bytes,
    run_child,
    thread_settings,
)
from benchmarks.ways import Setup, import_libraries, train_ours, train_plainly

SIZES = Path(__file__).with_name("step_model.json")
FRAME_SIZES = ((256, 448), (128, 256))
WAYS = ("reference", "ours")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark (or, in a child, one way of it) and print its numbers as the last line."""
    parser = build_parser("train_step", __doc__)
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
        setup = Setup(len(FRAME_SIZES), args.steps + 1, args.workers, flat=args.batch == "flat")
        numbers = run_way(args.way, args.folder, setup)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_workload(Path(folder), json.loads(args.sizes.read_text(encoding="utf-8")), args.processor)
            numbers = measure(Path(folder), args)
    print_numbers(numbers, args.json)
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
            arguments = ["-m", "benchmarks.train_step", "--way", way, "--folder", str(folder), *shared]
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

    def median(runs: Sequence[dict], name: str) -> float:
        return statistics.median(seconds for run in runs for seconds in run[name])

    def peak(runs: Sequence[dict], baseline: str = "baseline_bytes") -> float:
        return statistics.median(run["peak_bytes"] - run.get(baseline, 0) for run in runs)

    losses = [run["losses"][0] for run in (*reference, *ours)]
    return {
        "step_speedup": round(median(reference, "step_s") / median(ours, "step_s"), 3),
        "cpu_speedup": round(median(reference, "cpu_s") / median(ours, "cpu_s"), 3),
        "memory_ratio": round(peak(ours) / peak(reference), 3),
        "peak_rss_ratio": round(peak(ours, "") / peak(reference, ""), 3),
        "loss_rel_diff": (max(losses) - min(losses)) / min(losses),
        "loss_step_1": {"reference": reference[0]["losses"][0], "ours": ours[0]["losses"][0]},
    }


def run_way(way: str, folder: Path, setup: Setup) -> dict[str, Any]:
    """One way in this process: what it took, and its losses. The first step is dropped from the seconds."""
    import_libraries()
    clock, baseline = StepClock(), read_rss_bytes()
    if way == "ours":
        result = train_ours(folder, folder / "run", setup, clock)
    else:
        result = train_plainly(folder, setup, clock)
    return {
        "step_s": [round(seconds, 4) for seconds in clock.step_s[1:]],
        "cpu_s": [round(seconds, 4) for seconds in clock.cpu_s[1:]],
        "baseline_bytes": baseline,
        "peak_bytes": read_rss_bytes(peak=True),
        **result,
    }


if __name__ == "__main__":
    sys.exit(main())
