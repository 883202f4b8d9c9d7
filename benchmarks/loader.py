"""Samples a second that one loader's worker gives: ours beside the plain way, from the same recording.

    drawn 1080p recording ──cut──▶ full-resolution segments ──▶ plain: HF processor on the decoded video
                                ──▶ resized segments (256x448) ──▶ ours: decoded
                                                 ├─prepare_cache──▶ ours: from the prepared cache
                                                 └─tar──▶ ours: streamed from WebDataset shards
                                                                    (in turn, same workers, threads and batch size)

`uv run python -m benchmarks.loader [--json FILE]` makes its own input, takes about two minutes on two cores, and prints
one JSON object as its last line:

    resized_speedup        samples/s a worker, ours from resized segments / the plain way from 1080p
    prepared_speedup       the same, ours from the prepared cache
    *_cpu_speedup          the same in processor seconds of the workers and all that they start, which other work on the
                           machine moves less
    full_hd_speedup        ours from the 1080p segments / the plain way: what the code alone brings
    streaming_over_map     samples/s a worker, streamed from shards / the same segments as files, rows in memory;
                           streaming_over_map_cpu: the same in processor seconds
    samples_per_s          of each way, median over the rounds; cpu_ms_per_sample: likewise
    step_inputs_ms         what is left to the training process, a sample: normalised patches from uint8 frames (on its
                           device; the CPU here). The plain way does that in its workers.

All ways give the same tokens and frames of the same size (a run with another number of tokens is an error), through a
DataLoader to a process that takes batches as fast as they come. Files lie in memory after the first pass, which is not
timed: no disk is measured.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    PACKAGES,
    build_parser,
    describe_machine,
    describe_versions,
    print_numbers,
    thread_settings,
)

HEIGHT, WIDTH, FPS = 1080, 1920, 30.0
BATCH_SIZE = 4
# Passes over the rows a round: each takes seconds.
REPEATS = {"plain": 1, "full_hd": 2, "resized": 16, "prepared": 32, "streamed": 16}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its numbers as the last line."""
    parser = build_parser("loader", __doc__)
    parser.add_argument("--segments", type=int, default=8, help="one-second segments of the drawn recording")
    parser.add_argument("--height", type=int, default=HEIGHT, help="of the recording [px]")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the recording [px]")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--workers", type=int, default=1, help="loader processes, of each way")
    parser.add_argument("--processor", type=Path, help="a folder with a real Qwen3-VL tokenizer (default: a small one)")
    args = parser.parse_args(argv)
    os.environ.update(thread_settings(1))  # before torch is loaded: one thread a worker
    with tempfile.TemporaryDirectory() as folder:
        numbers = measure(Path(folder), args)
    print_numbers(numbers, args.json)
    return 0


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Make the input in `folder`, run every way `rounds` times in turn, and compare medians."""
    import torch

    torch.set_num_threads(1)
    processor = save_processor(folder, args.processor)
    full_hd, resized = cut_segments(folder, args.segments, args.height, args.width)
    loaders = build_loaders(folder, full_hd, resized, processor, args.workers)
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    cpu_ms: dict[str, list[float]] = {name: [] for name in loaders}
    tokens: dict[str, int] = {}
    for name, loader in loaders.items():
        tokens[name] = warm_up(loader)
    if len(set(tokens.values())) != 1:
        raise RuntimeError(f"the ways do not give the same tokens: {tokens}")
    for number in range(args.rounds):
        for name, loader in loaders.items():
            rate, cpu_s = run_epoch(loader, args.segments * REPEATS[name])
            rates[name].append(round(rate / max(1, args.workers), 3))
            cpu_ms[name].append(round(1e3 * cpu_s, 3))
            print(
                f"round {number + 1}, {name}: {rates[name][-1]:.2f} samples/s a worker, {cpu_ms[name][-1]:.1f} CPU ms"
            )
    rate = {name: statistics.median(found) for name, found in rates.items()}
    cpu = {name: statistics.median(found) for name, found in cpu_ms.items()}
    ours = [name for name in loaders if name != "plain"]
    return {
        **{f"{name}_speedup": round(rate[name] / rate["plain"], 2) for name in ours},
        **{f"{name}_cpu_speedup": round(cpu["plain"] / cpu[name], 2) for name in ours},
        "streaming_over_map": round(rate["streamed"] / rate["resized"], 3),
        "streaming_over_map_cpu": round(cpu["resized"] / cpu["streamed"], 3),
        "samples_per_s": rate,
        "cpu_ms_per_sample": cpu,
        "step_inputs_ms": measure_step_inputs(loaders["prepared"], processor),
        "tokens": tokens["plain"],
        "runs": {"samples_per_s": rates, "cpu_ms_per_sample": cpu_ms},
        "segments": args.segments,
        "frame_size": [args.height, args.width],
        "batch_size": BATCH_SIZE,
        "workers": args.workers,
        "threads": 1,
        "machine": describe_machine(),
        "versions": describe_versions((*PACKAGES, "torchvision", "tokenizers")),
    }


def save_processor(folder: Path, ready: Path | None) -> Any:
    """A processor that shows 30 frames of 1080p as 256x448, saved under `folder`/model as a plain user has it."""
    from benchmarks.workload import build_processor
    from qwenvl.train.loading import load_processor

    build_processor(ready).save_pretrained(folder / "model")
    (folder / "model" / "config.json").write_text('{"model_type": "qwen3_vl"}', encoding="utf-8")
    return load_processor(folder / "model")


def cut_segments(folder: Path, num_segments: int, height: int, width: int) -> tuple[Path, Path]:
    """(training JSON of full-resolution segments, the same of resized ones) of one drawn recording."""
    from benchmarks.prep import build_job, make_recording
    from benchmarks.workload import write_questions
    from data_prep.segment_places import VIDEO_FOLDER
    from data_prep.segment_work import cut_recording

    recording = make_recording(folder / "recording", num_segments + 1, height, width, key_interval=round(FPS))
    found = []
    for cut in ("copy", "resized"):
        cut_recording(build_job(recording, cut, folder / cut))
        videos = sorted(path.name for path in (folder / cut / VIDEO_FOLDER).glob("*.mp4"))
        found.append(write_questions(folder / cut / "train.json", [f"{VIDEO_FOLDER}/{name}" for name in videos]))
    return found[0], found[1]


def build_loaders(folder: Path, full_hd: Path, resized: Path, processor: Any, workers: int) -> dict[str, Any]:
    """The ways, by name, each a DataLoader over its rows."""
    from benchmarks.reference import build_loader
    from qwenvl.data.prepared import PreparedCache
    from qwenvl.prepare_cache import PrepareCacheOptions, run

    run(PrepareCacheOptions(str(folder / "model"), str(resized), folder / "prepared", workers=1))
    prepared = build_dataset(resized, processor, REPEATS["prepared"])
    prepared.use_prepared(PreparedCache.read(folder / "prepared"))
    return {
        "plain": build_loader(full_hd, processor, BATCH_SIZE, workers),
        "full_hd": load_ours(build_dataset(full_hd, processor, REPEATS["full_hd"]), workers),
        "resized": load_ours(build_dataset(resized, processor, REPEATS["resized"]), workers),
        "prepared": load_ours(prepared, workers),
        "streamed": load_stream(write_shard(resized, folder / "train-0.tar"), REPEATS["streamed"], processor, workers),
    }


def build_dataset(path: Path, processor: Any, repeats: int) -> Any:
    """Our dataset over `repeats` passes of the rows, with training's defaults, the killable decoder among them."""
    from qwenvl.data.clips import read_clips
    from qwenvl.data.dataset import DrivingDataset, read_records
    from qwenvl.data.decode_guard import DecodeGuard
    from qwenvl.data.preprocessing import Preprocessing

    records = read_records(path) * repeats
    dataset = DrivingDataset(records, [(path.parent,)] * len(records), processor, Preprocessing(), 4096)
    dataset.guard = DecodeGuard(read_clips)
    return dataset


def load_ours(dataset: Any, workers: int) -> Any:
    """Our DataLoader, as the trainer makes it."""
    from torch.utils.data import DataLoader

    return DataLoader(dataset, BATCH_SIZE, shuffle=True, **describe_loader(dataset.processor, workers))


def load_stream(shard: Path, repeats: int, processor: Any, workers: int) -> Any:
    """Our DataLoader over `repeats` passes of a shard, with --streaming True."""
    from qwenvl.data import parse_dataset_use
    from qwenvl.data.clips import read_clips
    from qwenvl.data.decode_guard import DecodeGuard
    from qwenvl.data.preprocessing import Preprocessing
    from qwenvl.data.stream import StreamDataset, StreamOrder, load_stream
    from qwenvl.train.stream_loader import SampleStream, StreamBatches, StreamLoader

    rows = load_stream(parse_dataset_use(",".join([str(shard)] * repeats)))
    dataset = StreamDataset(rows, processor, Preprocessing(), 4096)
    dataset.guard = DecodeGuard(read_clips)
    batches = StreamBatches(StreamOrder(rows.shard_rows, seed=1), BATCH_SIZE)
    return StreamLoader(SampleStream(dataset, batches), **describe_loader(processor, workers))


def describe_loader(processor: Any, workers: int) -> dict[str, Any]:
    """What our loaders share."""
    from qwenvl.data.collate import collate
    from qwenvl.data.dummies import build_dummy

    put_together = functools.partial(
        collate, pad_token_id=processor.tokenizer.pad_token_id, dummy=build_dummy(processor), flatten=True
    )
    forked = {"multiprocessing_context": "fork", "persistent_workers": True} if workers else {}
    return {"collate_fn": put_together, "num_workers": workers, **forked}


def write_shard(path: Path, shard: Path) -> Path:
    """The rows of a training JSON and their videos as a WebDataset shard; returns the shard."""
    with tarfile.open(shard, "w") as tar:
        for place, row in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            video = (path.parent / row["video"]).read_bytes()
            for suffix, data in ((".mp4", video), (".json", json.dumps(row).encode())):
                info = tarfile.TarInfo(f"{place:09d}{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return shard


def warm_up(loader: Any) -> int:
    """One pass that starts the workers and fills their caches; returns the tokens of one pass over the rows."""
    num_tokens = num_rows = 0
    for batch in loader:
        mask = batch.get("attention_mask")
        num_tokens += batch["num_tokens"] if mask is None else int(mask.sum())
        num_rows += batch["num_samples"] if mask is None else len(mask)
    return num_tokens // num_rows


def run_epoch(loader: Any, num_samples: int) -> tuple[float, float]:
    """(samples a second, processor seconds a sample) of one pass: of the workers and all that they start."""
    start_s, start_cpu_s = time.perf_counter(), read_tree_cpu_s()
    for _ in loader:
        pass
    spent_s, cpu_s = time.perf_counter() - start_s, read_tree_cpu_s() - start_cpu_s
    return num_samples / spent_s, max(cpu_s, 1 / os.sysconf("SC_CLK_TCK")) / num_samples


def read_tree_cpu_s() -> float:
    """Processor seconds so far of this process's living descendants (Linux: /proc/*/stat)."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        pid = int(path.parent.name)
        parents[pid], seconds[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_ours(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return sum(spent for pid, spent in seconds.items() if is_ours(pid))


def measure_step_inputs(loader: Any, processor: Any) -> float:
    """Milliseconds a sample, on the CPU with one thread, from a batch to what the model takes."""
    from qwenvl.data.collate import to_step_inputs

    spent_ms = []
    for batch in loader:
        start_s = time.perf_counter()
        to_step_inputs(batch, processor, "cpu")
        spent_ms.append(1e3 * (time.perf_counter() - start_s) / batch["num_samples"])
    return round(statistics.median(spent_ms), 2)


if __name__ == "__main__":
    sys.exit(main())
