"""Fill a prepared cache: how much will it be, does the disk hold it, and then several workers, a shard each.

rows ──▶ groups that show the same frames ──headers──▶ bytes ──enough disk?──▶ shards ──▶ workers ──write_shard──▶ files
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.executors import run_jobs
from qwenvl.data.clips import plan_clips, plan_images, read_clips
from qwenvl.data.dataset import DrivingDataset, tokenize_record
from qwenvl.data.decode_guard import DecodeGuard
from qwenvl.data.identity import hash_frames
from qwenvl.data.shards import SHARD_BYTES, count_stored_bytes, remove_halves, write_shard

GB = 1e9
SPARE_BYTES = 10**9  # what a disk must have left over
GROUPS_A_JOB = 64
SHARDS_A_WORKER = 4  # at least, so that no worker is left waiting for the others
MIN_SHARD_BYTES = 2**26


def fill(folder: Path, dataset: DrivingDataset, missing: list[int], num_workers: int) -> None:
    """Plan the shards of the rows that are missing, look whether the disk holds them, and write them.

    Raises:
        DrivingError: The disk is too small, or is full before the end.
    """
    remove_halves(folder)
    groups = _plan_groups(dataset, missing, num_workers)
    needed = sum(num_bytes for _, num_bytes in groups)
    free = shutil.disk_usage(folder).free
    print(
        f"{len(missing):,} rows to prepare: {needed / GB:,.2f} GB, {free / GB:,.1f} GB are free in {folder}", flush=True
    )
    if needed + SPARE_BYTES > free:
        raise DrivingError(
            f"{folder} has {free / GB:,.1f} GB free, {needed / GB:,.1f} GB and {SPARE_BYTES / GB:g} GB to spare are "
            "needed; choose another --output_dir, or fewer pixels (--video_frame_pixels) or rows (--dataset_use name%N)"
        )
    used = [int(path.stem.split("-")[1]) for path in folder.glob("shard-*.json")]
    jobs = [
        (f"shard-{number:05d}", rows)
        for number, rows in enumerate(plan_shards(groups, num_workers), max(used, default=-1) + 1)
    ]
    counter = multiprocessing.get_context("fork").Value("q", 0)
    write = functools.partial(_write_job, folder, dataset, counter)
    with _watch(counter, len(missing)):
        for _ in run_jobs(write, jobs, min(num_workers, len(jobs)), forked=True):
            pass


def _plan_groups(dataset: DrivingDataset, missing: Sequence[int], num_workers: int) -> list[tuple[list[int], int]]:
    """(rows that show the same frames, the bytes they take), in the order of the rows."""
    from tqdm import tqdm

    by_frames: dict[Any, list[int]] = {}
    for index in missing:
        by_frames.setdefault((hash_frames(dataset.records[index]), dataset.folders[index]), []).append(index)
    groups = list(by_frames.values())
    jobs = [(start, groups[start : start + GROUPS_A_JOB]) for start in range(0, len(groups), GROUPS_A_JOB)]
    sizes = [0] * len(groups)
    measure = functools.partial(_measure_job, dataset)
    with tqdm(total=len(groups), desc="measuring", unit=" clips", disable=None, delay=2) as bar:
        for start, found in run_jobs(measure, jobs, min(num_workers, len(jobs)), forked=True):
            sizes[start : start + len(found)] = found
            bar.update(len(found))
    return list(zip(groups, sizes, strict=True))


def _measure_job(dataset: DrivingDataset, job: tuple[int, list[list[int]]]) -> tuple[int, list[int]]:
    _use_one_thread()
    start, groups = job
    sizes = []
    for rows in groups:
        record, folders = dataset.records[rows[0]], dataset.folders[rows[0]]
        try:
            clips = plan_clips(record, dataset.preprocessing, folders)
            images = [size for _, size in plan_images(record, dataset.preprocessing, dataset.processor, folders)]
            videos = [(*clip.shape, clip.fps) for clip in clips]
            tokens = tokenize_record(record, dataset.processor, videos, images, with_answer=True)
        except DrivingError:
            sizes.append(0)  # it will be found again, and named, when it is written
            continue
        shapes = [clip.shape for clip in clips] + [(1, *size) for size in images]
        num_tokens = len(tokens.input_ids)
        sizes.append(count_stored_bytes(shapes, num_tokens) + (len(rows) - 1) * count_stored_bytes([], num_tokens))
    return start, sizes


def plan_shards(groups: Sequence[tuple[list[int], int]], num_workers: int) -> list[list[int]]:
    """Rows of each shard: groups in order, up to a gibibyte, less where workers would be left without one."""
    total = sum(num_bytes for _, num_bytes in groups)
    limit = min(SHARD_BYTES, max(MIN_SHARD_BYTES, total // (num_workers * SHARDS_A_WORKER)))
    shards: list[list[int]] = []
    room = 0
    for rows, num_bytes in groups:
        if not shards or num_bytes > room:
            shards.append([])
            room = limit
        shards[-1] += rows
        room -= num_bytes
    return shards


def _write_job(folder: Path, dataset: DrivingDataset, counter: Any, job: tuple[str, list[int]]) -> None:
    _use_one_thread()
    name, indices = job
    rows = [(dataset.records[index], dataset.folders[index]) for index in indices]

    def note_row() -> None:
        with counter.get_lock():
            counter.value += 1

    guard = DecodeGuard(read_clips)
    try:
        write_shard(folder, name, rows, dataset.processor, dataset.preprocessing, note_row, guard.read)
    finally:
        guard.stop()


def _use_one_thread() -> None:
    """In a worker: a fork inherits no threads to share work with, and the other workers have the other cores."""
    if multiprocessing.parent_process() is not None:
        import torch

        torch.set_num_threads(1)


@contextlib.contextmanager
def _watch(counter: Any, num_rows: int) -> Iterator[None]:
    """A progress bar over rows, while whole shards come back."""
    from tqdm import tqdm

    is_over = threading.Event()

    def follow(bar: Any) -> None:
        while not is_over.wait(0.5):
            bar.update(counter.value - bar.n)

    with tqdm(total=num_rows, desc="prepare", unit=" rows", disable=None) as bar:
        watcher = threading.Thread(target=follow, args=(bar,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()
            bar.update(counter.value - bar.n)
