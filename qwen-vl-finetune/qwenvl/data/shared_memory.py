"""Whether /dev/shm holds the batches on their way from the loader's workers; a full one kills a worker without a word.

Containers often give it 64 MiB: one batch of four one-second clips is 41 MB.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import DrivingError

SHARED_MEMORY = Path("/dev/shm")
ADVISED_SHARE = 2  # other programs use it too


def count_sample_bytes(sample: dict[str, Any]) -> int:
    """Bytes of a sample's frames; ids and labels are nothing beside them."""
    return sum(frames.numel() * frames.element_size() for frames in [*sample["videos"], *sample["images"]])


def estimate_batch_bytes(sample: dict[str, Any], batch_size: int, visual_loads: np.ndarray | None = None) -> int:
    """Bytes of the largest batch: of the largest units where their visual tokens are known, else of samples like this.

    Args:
        sample: one sample, for the bytes of a visual token.
        batch_size: units (rows, or packed bins) of a batch.
        visual_loads: (units,) visual tokens of each.
    """
    sample_bytes = count_sample_bytes(sample)
    num_visual = int((sample["mm_token_type_ids"] != 0).sum())
    if visual_loads is None or not num_visual:
        return batch_size * sample_bytes
    return int(np.sort(visual_loads)[-batch_size:].sum()) * sample_bytes // num_visual


def check_shared_memory(
    batch_bytes: int,
    *,
    num_workers: int,
    prefetch_factor: int,
    num_held: int,
    num_ranks: int,
    evaluation_batch_bytes: int = 0,
) -> None:
    """Raise where the batches in flight of all ranks of this machine do not fit into what /dev/shm has free now.

    Args:
        prefetch_factor: batches that each worker makes ahead.
        num_held: batches that the training process holds meanwhile.
        num_ranks: training processes of this machine, all with their own workers.
        evaluation_batch_bytes: of a batch of held-out rows, one a worker and one in use, while training's wait.

    Raises:
        DrivingError: With the sizes, and the flags that mend it.
    """
    free_bytes = read_free_bytes()
    if free_bytes is None or not num_workers:
        return
    num_batches = num_ranks * (num_workers * prefetch_factor + num_held)
    evaluation_bytes = num_ranks * (num_workers + 1) * evaluation_batch_bytes
    needed_bytes = num_batches * batch_bytes + evaluation_bytes
    if needed_bytes <= free_bytes:
        return
    count = f"({num_workers} workers x {prefetch_factor} ahead + {num_held} in use)"
    if num_ranks > 1:
        count = f"{num_ranks} processes x {count}"
    evaluation = f", {_format_mb(evaluation_bytes)} more while evaluating" if evaluation_bytes else ""
    smaller = ", a smaller --per_device_eval_batch_size" if evaluation_bytes else ""
    raise DrivingError(
        f"the loader's workers keep up to {_format_mb(needed_bytes)} of frames in {SHARED_MEMORY} "
        f"({count} x {_format_mb(batch_bytes)} a batch{evaluation}), and {_format_mb(free_bytes)} are free there; "
        f"give fewer --dataloader_num_workers or --dataloader_prefetch_factor{smaller}, or more room: "
        f"docker run --shm-size {math.ceil(ADVISED_SHARE * needed_bytes / 1e9)}g (or --ipc host)"
    )


def read_free_bytes() -> int | None:
    """Free bytes of /dev/shm; None where there is none."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def _format_mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
