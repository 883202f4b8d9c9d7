"""`{split}.json` for Qwen's own qwen-vl-finetune: {"id", "video", "conversations"}, no system turn.

Its reader takes every turn that is not the user's for an answer, so the system text stands in front of the question.
"""

from __future__ import annotations

from data_prep.export.job import ExportFormat, ExportJob, fold_system, iter_placed, write_list


def write(job: ExportJob) -> list[str]:
    """One list a split."""
    names = []
    for split in job.rows.splits:
        records = ({**fold_system(record), "video": video} for record, video in iter_placed(job, split))
        write_list(job.output_dir / f"{split}.json", records)
        names.append(f"{split}.json")
    return names


FORMAT = ExportFormat(
    "Conversations for qwen-vl-finetune: register `annotation_path` = this folder's `train.json`; `data_path` is the "
    "folder that the paths of videos start from.",
    write,
)
