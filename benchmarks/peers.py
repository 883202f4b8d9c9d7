"""A training step of other frameworks beside ours and the plain way's: the same model, clips, LoRA and threads.

    reference | trl | ours | reference | swift | ours ...   one process each, in turn

Each framework runs in an environment of its own, which you make:

    uv venv /tmp/trl && uv pip install --python /tmp/trl/bin/python torch torchvision transformers peft trl datasets av
    uv venv /tmp/swift && uv pip install --python /tmp/swift/bin/python ms-swift torchvision qwen-vl-utils decord av
    uv venv /tmp/lf && uv pip install --python /tmp/lf/bin/python llamafactory
    uv venv /tmp/up && uv pip install --python /tmp/up/bin/python torch torchvision transformers==4.57.6 peft av
    export UPSTREAM_DIR=.../Qwen3-VL/qwen-vl-finetune                   (for --peer upstream=/tmp/up/bin/python)
    uv run python -m benchmarks.peers --processor DIR --peer trl=/tmp/trl/bin/python --peer swift=/tmp/swift/bin/python

The last line is one JSON object: for each framework the reference's median step over its own (`speed`), its peak
resident memory over the reference's (`peak_rss_ratio`), its first loss, the shape of its batch, and its versions.
Frameworks on other versions of transformers see up to two tokens less a video (an outer pair around it was added in
5.19); a loss further off than that means that the framework trained on something else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    build_parser,
    describe_machine,
    describe_versions,
    print_numbers,
    run_child,
    thread_settings,
)
from benchmarks.peer_runs import PEERS
from benchmarks.train_step import FRAME_SIZES, SIZES, WAYS, write_workload
from benchmarks.ways import Setup


def main(argv: Sequence[str] | None = None) -> int:
    """Run the frameworks given beside the plain way and ours, and print the numbers as the last line."""
    parser = build_parser("peers", __doc__)
    add_peer_option(parser)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a process, after the one that is dropped")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", type=Path, default=SIZES, help="text_config and vision_config")
    parser.add_argument(
        "--processor",
        type=Path,
        required=True,
        help="a folder with Qwen3-VL's own tokenizer and processors; ms-swift counts on its token ids",
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        write_workload(Path(folder), json.loads(args.sizes.read_text(encoding="utf-8")), args.processor)
        (Path(folder) / "processor").symlink_to(args.processor.resolve())
        numbers = measure(Path(folder), args)
    print_numbers(numbers, args.json)
    return 0


@dataclass(frozen=True)
class PeerEnvironment:
    """A framework and the Python of the environment that it is installed in."""

    name: str
    python: str

    @property
    def env(self) -> dict[str, str]:
        """So that benchmarks/ is found there."""
        return {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}

    def list_arguments(self, folder: Path, setup: Setup) -> list[str]:
        """The command line of one run of `benchmarks.peer_runs`."""
        options = {
            "peer": self.name, "folder": folder, "batch-size": setup.batch_size, "num-steps": setup.num_steps,
            "workers": setup.workers, "lora-r": setup.lora_r, "lora-alpha": setup.lora_alpha,
            "targets": setup.targets, "device": setup.device,
        }  # fmt: skip
        pairs = (text for name, value in options.items() for text in (f"--{name}", str(value)))
        return ["-m", "benchmarks.peer_runs", *pairs]


def add_peer_option(parser: argparse.ArgumentParser) -> None:
    """--peer NAME=PYTHON, any number of times."""
    parser.add_argument(
        "--peer",
        type=parse_peer,
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help=f"a framework ({', '.join(PEERS)}) and the Python of its environment; give it once for each",
    )


def parse_peer(text: str) -> PeerEnvironment:
    """NAME=PYTHON, of a framework that we can run and a file that is there."""
    name, _, python = text.partition("=")
    if name not in PEERS or not Path(python).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PYTHON with a name of {', '.join(PEERS)} and a file")
    return PeerEnvironment(name, python)


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Every framework `rounds` times, the plain way and ours beside each."""
    runs: dict[str, list[dict]] = {}
    shared = ["--folder", str(folder), "--steps", str(args.steps), "--workers", str(args.workers)]
    setup = Setup(len(FRAME_SIZES), args.steps + 1, args.workers)
    env = thread_settings(args.threads)

    def run(name: str, arguments: Sequence[str], **kwargs: Any) -> None:
        numbers = run_child(arguments, **kwargs)
        runs.setdefault(name, []).append(numbers)
        loss = numbers["losses"][0]
        print(
            f"{name}: {numbers['step_s']} s, peak {numbers['peak_bytes'] / 2**30:.2f} GiB, loss {loss:.6f}", flush=True
        )

    for _ in range(args.rounds):
        for way in WAYS:
            run(way, ["-m", "benchmarks.train_step", "--way", way, *shared], env=env)
        for peer in args.peer:
            run(peer.name, peer.list_arguments(folder, setup), python=peer.python, env={**env, **peer.env})
    return {
        "compared": compare(runs),
        "runs": runs,
        "rounds": args.rounds,
        "steps": args.steps,
        "threads": args.threads,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def compare(runs: dict[str, list[dict]]) -> dict[str, dict[str, Any]]:
    """Every way beside the reference: medians over all timed steps, and over the processes' peaks."""

    def medians(name: str) -> tuple[float, float, float]:
        steps, cpu = ([s for run in runs[name] for s in run[key]] for key in ("step_s", "cpu_s"))
        return statistics.median(steps), statistics.median(cpu), statistics.median(r["peak_bytes"] for r in runs[name])

    step_s, cpu_s, peak_bytes = medians("reference")
    return {
        name: {
            "speed": round(step_s / medians(name)[0], 3),
            "cpu_speed": round(cpu_s / medians(name)[1], 3),
            "peak_rss_ratio": round(medians(name)[2] / peak_bytes, 3),
            "step_s": round(medians(name)[0], 3),
            "loss_step_1": found[0]["losses"][0],
            **{key: found[0][key] for key in ("input_ids_shape", "supervised_tokens", "versions") if key in found[0]},
        }
        for name, found in runs.items()
    }


if __name__ == "__main__":
    sys.exit(main())
