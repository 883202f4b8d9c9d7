"""What it takes to turn an index of segments into training files: seconds and memory, for more and more segments.

    drawn index of N segments ──prepare_huggingface_dataset.py──▶ dataset ──convert_to_training_format.py──▶ JSON
                                 └─ a process of its own each: seconds from start to end, peak resident memory

`uv run python -m benchmarks.convert [--json FILE]` draws its own input, takes a few minutes and some 3 GB under the
temporary folder, and prints one JSON object as its last line. For 1,000, 10,000 and 100,000 segments (1k, 10k, 100k):

    hf_100k_s, hf_100k_cpu_s, hf_100k_peak_mb                  index -> dataset; seconds, of the processor, megabytes
    convert_100k_s, convert_100k_cpu_s, convert_100k_peak_mb   dataset -> training JSON and truth
    both_100k_s, both_100k_peak_mb                             one after the other; the larger peak
    memory_growth_mb                                           of that peak, from the fewest segments to the most
    index_bytes_per_segment, dataset_..., training_...         on disk, of the largest
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import build_parser, print_numbers, read_rss_bytes, run_child

ROWS = (1_000, 10_000, 100_000)
ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its numbers as the last line."""
    parser = build_parser("convert", __doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="segments of each index")
    parser.add_argument("--door", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)  # what a child is
    args = parser.parse_args(argv)
    if args.door:
        print(json.dumps(run_door(*args.door)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        numbers = {"load_average_before": round(os.getloadavg()[0], 1), **measure(Path(folder), args.rows)}
    print_numbers(numbers, args.json)
    return 0


def measure(folder: Path, rows: Sequence[int]) -> dict[str, float]:
    """Draw an index of each size under `folder` and take it through both doors."""
    from benchmarks.drawn_index import write_index  # not in the children

    numbers: dict[str, float] = {}
    peaks_mb = []
    for num_rows in sorted(rows):
        name = f"{num_rows // 1000}k" if num_rows % 1000 == 0 else str(num_rows)
        here = folder / name
        segments = write_index(here / "segments", num_rows)
        common = {"--segments-path": segments, "--output-dir": here / "dataset"}
        hf = measure_door("prepare_huggingface_dataset.py", common)
        common = {"--dataset-dir": here / "dataset", "--output-dir": here / "training"}
        convert = measure_door("convert_to_training_format.py", common)
        peaks_mb.append(max(hf["peak_mb"], convert["peak_mb"]))
        stages = {"hf": hf, "convert": convert}
        numbers |= {f"{stage}_{name}_{key}": value for stage, found in stages.items() for key, value in found.items()}
        numbers |= {f"both_{name}_s": round(hf["s"] + convert["s"], 2), f"both_{name}_peak_mb": peaks_mb[-1]}
        print(
            f"{num_rows:,} segments: {hf['s']} + {convert['s']} s, {hf['peak_mb']} and {convert['peak_mb']} MB",
            flush=True,
        )
    folders = {"index": here / "segments", "dataset": here / "dataset", "training": here / "training"}
    sizes = {f"{name}_bytes_per_segment": round(measure_bytes(path) / num_rows) for name, path in folders.items()}
    return {**numbers, "memory_growth_mb": round(peaks_mb[-1] - peaks_mb[0], 1), **sizes}


def measure_bytes(folder: Path) -> int:
    """What the files of a folder hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_door(door: str, options: dict[str, Path]) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of one stage in a process of its own, Python's start included."""
    arguments = [str(part) for pair in options.items() for part in pair]
    start_s = time.perf_counter()
    found = run_child(["-m", "benchmarks.convert", "--door", str(ROOT / door), *arguments])
    return {"s": round(time.perf_counter() - start_s, 2), **found}


def run_door(door: str, *arguments: str) -> dict[str, float]:
    """Run a door in this process, as a user would, and say what it took."""
    sys.argv = [door, *arguments]
    try:
        runpy.run_path(door, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    return {"cpu_s": round(time.process_time(), 2), "peak_mb": round(read_rss_bytes(peak=True) / 1e6, 1)}


if __name__ == "__main__":
    sys.exit(main())
