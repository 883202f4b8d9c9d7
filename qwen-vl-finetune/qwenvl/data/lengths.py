"""How long each sample will be, known from texts and headers: packing and the memory estimate need no decoded frame.

    row ──headers──▶ shapes ──tokenize_record──▶ tokens, visual tokens, supervised tokens
                                   └── kept in a file by hash of the row, its files and the rendering

N = rows
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from driving.errors import DrivingError, VideoError
from driving.executors import run_jobs
from driving.ledger import Skip
from driving.records import record_name
from driving.whole_files import write_atomically
from qwenvl.data.clips import Record, plan_clips, plan_images
from qwenvl.data.dataset import DrivingDataset, explain_too_long, tokenize_record
from qwenvl.data.identity import hash_row, hash_text, identify_files, identify_media, identify_rendering
from qwenvl.data.labels import IGNORED

if TYPE_CHECKING:
    from qwenvl.data.preprocessing import Preprocessing

MEASURE_STAGE = "measure"
ROWS_A_JOB = 64
SHOW_AFTER_S = 2.0  # a progress bar that is gone at once only disturbs
Counts = tuple[int, int, int]


@dataclass(frozen=True)
class Lengths:
    """What each row costs.

    Attributes:
        tokens, visual_tokens, supervised_tokens: (N,) int64, one entry a row; 0 where the row cannot be used.
    """

    tokens: np.ndarray
    visual_tokens: np.ndarray
    supervised_tokens: np.ndarray

    def take(self, rows: Sequence[int]) -> Lengths:
        """The lengths of some rows, in that order."""
        return Lengths(self.tokens[rows], self.visual_tokens[rows], self.supervised_tokens[rows])


def measure_rows(
    dataset: DrivingDataset, *, num_workers: int = 0, show_progress: bool = True, kept_in: Path | None = None
) -> tuple[Lengths, list[Skip]]:
    """Count the tokens of every sample, exactly as `dataset[i]` will have them, without decoding a frame.

    A row whose headers cannot be read, or that is longer than `model_max_length`, has the length 0 and a Skip. One that
    breaks in the middle is found when it is decoded.

    Args:
        num_workers: processes that read headers; 0: this one.
        kept_in: a file of earlier counts (`find_kept_lengths`): rows that did not change are not read again, and
            the file is written anew where any did.
    """
    if dataset.prepared is not None:
        counts = np.array([entry.counts for entry in dataset.entries], dtype=np.int64).reshape(-1, 3)
        return _judge_lengths(dataset, counts, [entry.reason for entry in dataset.entries])
    identify_media.cache_clear()
    keys = [_hash_inputs(record, folders) for record, folders in zip(dataset.records, dataset.folders, strict=True)]
    rendering = hash_text(json.dumps(identify_rendering(dataset.preprocessing, dataset.processor)))
    known = _read_kept(kept_in, rendering) if kept_in is not None else {}
    waiting: dict[str, int] = {}  # a row that is used twice is measured once
    for index, key in enumerate(keys):
        if key not in known:
            waiting.setdefault(key, index)
    reasons: dict[str, str] = {}
    for key, counts in _measure_all(dataset, waiting, num_workers, show_progress):
        if isinstance(counts, str):
            reasons[key] = counts
        else:
            known[key] = counts
    if kept_in is not None and waiting.keys() - reasons.keys():
        _write_kept(kept_in, rendering, {key: known[key] for key in keys if key in known})
    counts = np.array([known.get(key, (0, 0, 0)) for key in keys], dtype=np.int64).reshape(-1, 3)
    return _judge_lengths(dataset, counts, [reasons.get(key, "") for key in keys])


def _judge_lengths(dataset: DrivingDataset, counts: np.ndarray, reasons: list[str]) -> tuple[Lengths, list[Skip]]:
    """Lengths from counts (N, 3), and Skips where there is a reason or a sample is too long."""
    skips: dict[str, Skip] = {}
    for index, found in enumerate(reasons):
        reason = found or explain_too_long(int(counts[index, 0]), dataset.model_max_length)
        if reason:
            counts[index] = 0
            name = record_name(dataset.records[index])
            skips[name] = Skip(name, MEASURE_STAGE, reason)
    return Lengths(*(np.ascontiguousarray(column) for column in counts.T)), list(skips.values())


def find_kept_lengths(annotations: Sequence[Path]) -> Path:
    """Where the counts of these training JSONs are kept between runs."""
    name = hash_text(" ".join(str(path.resolve()) for path in annotations))
    return cache_folder() / f"lengths-{name}.npz"


def cache_folder() -> Path:
    """Where what was found out about data is kept between runs: in the user's cache folder (XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driving-vlm-finetune"


def count_tokens(record: Record, folders: Any, processor: Any, preprocessing: Preprocessing) -> Counts:
    """(tokens, visual tokens, supervised tokens) of one record.

    Raises:
        RecordError, VideoError: The reason why the record cannot be used.
    """
    videos = [(*plan.shape, plan.fps) for plan in plan_clips(record, preprocessing, folders)]
    images = [size for _, size in plan_images(record, preprocessing, processor, folders)]
    tokens = tokenize_record(record, processor, videos, images, with_answer=True)
    num_text = tokens.mm_token_type_ids.count(0)
    num_ignored = tokens.labels.count(IGNORED)
    length = len(tokens.input_ids)
    return length, length - num_text, length - num_ignored


def _hash_inputs(record: Record, folders: Any) -> str:
    try:
        files = identify_files(record, folders)
    except (VideoError, OSError):
        files = []  # not there: measuring says so
    return hash_text(f"{hash_row(record)} {files}")


def _measure_all(
    dataset: DrivingDataset, waiting: dict[str, int], num_workers: int, show_progress: bool
) -> Iterator[tuple[str, Counts | str]]:
    """(key, counts or the reason why there are none) of every row in `waiting`."""
    if not waiting:
        return
    from tqdm import tqdm

    items = list(waiting.items())
    jobs = [items[start : start + ROWS_A_JOB] for start in range(0, len(items), ROWS_A_JOB)]
    measure = functools.partial(_measure_job, dataset)
    with tqdm(
        total=len(items), desc="measuring", unit=" rows", disable=None if show_progress else True, delay=SHOW_AFTER_S
    ) as bar:
        for results in run_jobs(measure, jobs, min(num_workers, len(jobs)), forked=True):
            bar.update(len(results))
            yield from results


def _measure_job(dataset: DrivingDataset, items: list[tuple[str, int]]) -> list[tuple[str, Counts | str]]:
    if multiprocessing.parent_process() is not None:
        import torch

        torch.set_num_threads(1)  # a forked worker inherits no threads to share work with
    results: list[tuple[str, Counts | str]] = []
    for key, index in items:
        try:
            counts: Counts | str = count_tokens(
                dataset.records[index], dataset.folders[index], dataset.processor, dataset.preprocessing
            )
        except DrivingError as error:
            counts = str(error)
        results.append((key, counts))
    return results


def _read_kept(path: Path, rendering: str) -> dict[str, Counts]:
    """Counts of an earlier run by key; nothing where there is none, it is damaged, or it rendered otherwise."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["rendering"]) != rendering:
                return {}
            return dict(zip(kept["keys"].tolist(), map(tuple, kept["counts"].tolist()), strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _write_kept(path: Path, rendering: str, known: dict[str, Counts]) -> None:
    counts = np.array(list(known.values()), dtype=np.int64).reshape(-1, 3)
    with write_atomically(path) as file:
        np.savez(file, rendering=np.array(rendering), keys=np.array(list(known)), counts=counts)
