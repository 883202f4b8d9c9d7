"""`driving_{split}.json` and `dataset_info.json` for LLaMA-Factory: its "sharegpt" form with a column of videos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_prep.export.job import ExportFormat, ExportJob, iter_placed, write_list
from driving.whole_files import write_json

INFO_NAME = "dataset_info.json"
COLUMNS = {"messages": "conversations", "system": "system", "videos": "videos"}


def write(job: ExportJob) -> list[str]:
    """One list a split, and the entry of each in dataset_info.json."""
    info = {}
    for split in job.rows.splits:
        name = f"driving_{split}"
        write_list(job.output_dir / f"{name}.json", _iter_rows(job, split))
        info[name] = {"file_name": f"{name}.json", "formatting": "sharegpt", "columns": COLUMNS}
    write_json(job.output_dir / INFO_NAME, info)
    return [*(f"{name}.json" for name in info), INFO_NAME]


def _iter_rows(job: ExportJob, split: str) -> Iterator[dict[str, Any]]:
    for record, video in iter_placed(job, split):
        turns = record["conversations"]
        system = turns[0]["value"] if turns[0]["from"] == "system" else ""
        yield {"conversations": turns[1:] if system else turns, "system": system, "videos": [video]}


FORMAT = ExportFormat(
    "LLaMA-Factory: `dataset_dir:` this folder, `dataset: driving_train`, `eval_dataset: driving_val`; `media_dir:` "
    "the folder that the paths of videos start from (this one with `--media copy`). It samples videos anew: set "
    "`video_fps` and `video_maxlen` to the rate and number of frames below.",
    write,
)
