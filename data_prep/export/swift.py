"""`{split}.jsonl` for ms-swift: {"messages": [{"role", "content"}], "videos": [path]}, `<video>` in the question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_prep.export.job import ExportFormat, ExportJob, iter_placed, write_lines

ROLES = {"system": "system", "human": "user", "gpt": "assistant"}


def write(job: ExportJob) -> list[str]:
    """One file of lines a split."""
    for split in job.rows.splits:
        write_lines(job.output_dir / f"{split}.jsonl", _iter_rows(job, split))
    return [f"{split}.jsonl" for split in job.rows.splits]


def _iter_rows(job: ExportJob, split: str) -> Iterator[dict[str, Any]]:
    for record, video in iter_placed(job, split):
        messages = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in record["conversations"]]
        yield {"messages": messages, "videos": [video]}


FORMAT = ExportFormat(
    "ms-swift: `swift sft --dataset train.jsonl --val_dataset val.jsonl`, started in the folder that the paths of "
    "videos start from (this one with `--media copy`). It samples videos anew: set `FPS` and `FPS_MAX_FRAMES` to the "
    "rate and number of frames below.",
    write,
)
