"""Segments with labels -> a Hugging Face dataset of questions and answers, split into train, val and test.

    segments.parquet ──plan_dataset──▶ DatasetPlan (side of every row, answer format)      nothing written yet
                     ──write_dataset──▶ train/ val/ test/ *_examples.json dataset.json README.md skipped.jsonl manifest

Labels were computed with the segments; here they are only written down as text (unless --ego-motion-dir is given).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.arrow_dataset import build_features, iter_split, open_writer, write_dataset_dict
from data_prep.data_card import CARD_NAME, write_card
from data_prep.dataset_options import DatasetOptions
from data_prep.dataset_plan import DatasetPlan, plan_dataset
from data_prep.dataset_rows import EXTRA_COLUMNS, RowBuilder
from data_prep.label_statistics import LabelStatistics
from data_prep.licences import describe_licences
from data_prep.provenance import read_summary_origin
from data_prep.relabel import build_relabel, hash_ego_motion
from data_prep.segment_table import SegmentTable, open_segments
from driving.errors import DrivingError
from driving.ledger import LEDGER_NAME, check_bad_fraction, claim_output, write_ledger
from driving.lineage import write_commands
from driving.options import describe_options, format_command, parse_options
from driving.whole_files import write_json

if TYPE_CHECKING:
    from datasets import Features

FORMAT_VERSION = 3  # part of the plan: raise it when the same input gives other bytes

PURPOSE = (
    "One second of front video in, the motion of the next second out, as (velocity, curvature) pairs; in chat form. "
    "Read it with `datasets.load_from_disk`."
)


def main(argv: Sequence[str] | None = None) -> int:
    """The door's body: options in, exit code out."""
    for line in run(parse_options(DatasetOptions, argv))["lines"]:
        print(line)
    return 0


def run(options: DatasetOptions) -> dict[str, Any]:
    """Make the dataset, or find it complete.

    Returns:
        {"lines": what to print, and for a finished dataset "splits": rows of each, "num_skipped", "warnings"}.

    Raises:
        DrivingError: See plan_dataset, claim_output and check_bad_fraction.
    """
    segments = open_segments(options.segments_path)
    dataset = plan_dataset(options, segments)
    reads = [segments.folder, *([] if options.ego_motion_dir is None else [options.ego_motion_dir])]
    plan = plan_output(options, segments)
    with claim_output(options.output_dir, plan, overwrite=options.overwrite_output, reads=reads) as output:
        if output.is_complete:
            summary = output.manifest["summary"]
            return {**summary, "lines": [f"{options.output_dir} is already complete: {_format_counts(summary)}"]}
        summary = write_dataset(options, dataset, output.plan)
        command = format_command("prepare_huggingface_dataset.py", options, ("overwrite_output",))
        write_commands(options.output_dir, segments.folder, command)
        examples = [f"{side}_examples.json" for side in summary["splits"]]
        papers = ["dataset.json", "dataset_dict.json", CARD_NAME, LEDGER_NAME]
        output.finish(summary, [*summary["splits"], *examples, *papers])
    warnings = [f"WARNING: {warning}" for warning in summary["warnings"]]
    return {**summary, "lines": [*warnings, _format_counts(summary)]}


def plan_output(options: DatasetOptions, segments: SegmentTable) -> dict[str, Any]:
    """What decides the output's bytes: the index by its hash, the options, the version of the format."""
    free = ("segments_path", "output_dir", "max_bad_fraction", "overwrite_output")
    chosen = {name: value for name, value in describe_options(options).items() if name not in free}
    if not options.ego_history:
        del chosen["ego_history"]  # a dataset from before there was the choice is the same dataset
    has_motion_dir = options.ego_motion_dir is not None
    return {
        "tool": "prepare_huggingface_dataset",
        "format_version": FORMAT_VERSION,
        "segments_sha256": segments.sha256(),
        "ego_motion_hash": hash_ego_motion(options.ego_motion_dir) if has_motion_dir else "",
        **chosen,
    }


def write_dataset(options: DatasetOptions, dataset: DatasetPlan, plan: dict[str, Any]) -> dict[str, Any]:
    """Write splits, previews, ledger, dataset.json and the data card, in that order.

    Returns:
        The summary that the manifest keeps.
    """
    features = build_features({name: kind for name, kind in EXTRA_COLUMNS.items() if name in dataset.segments.columns})
    relabel = None
    if options.ego_motion_dir is not None:
        plan = dataset.segments.read_plan()
        relabel = build_relabel(options.ego_motion_dir, dataset.fps, options.duration, plan)
    builder = RowBuilder(dataset.answer_format, dataset.num_frames, features, relabel)
    statistics = {side: LabelStatistics() for side in dataset.num_rows}
    counts = write_splits(options.output_dir, dataset, features, builder, statistics)
    for side in counts:
        write_examples(options.output_dir, side, options.examples_preview)
    write_ledger(options.output_dir / LEDGER_NAME, [*dataset.skips, *builder.skips])
    num_planned = sum(dataset.num_rows.values())
    check_bad_fraction(len(builder.skips), num_planned, options.max_bad_fraction, options.output_dir / LEDGER_NAME)
    for side, count in counts.items():
        if not count:
            raise DrivingError(f"no row of {side} could be used; see {options.output_dir / LEDGER_NAME}")
    warnings = list_warnings(options, dataset, statistics)
    facts = describe_dataset(options, dataset, counts, statistics, warnings)
    write_json(options.output_dir / "dataset.json", facts)
    plans = {"prepare_video_segments.py": dataset.segments.read_plan(), "prepare_huggingface_dataset.py": plan}
    write_card(options.output_dir, "Driving clips with their motion", PURPOSE, facts, plans)
    write_dataset_dict(options.output_dir, list(counts))
    return {
        "splits": counts,
        "num_recordings": dataset.num_recordings,
        "num_skipped": len(dataset.skips) + len(builder.skips),
        "warnings": warnings,
    }


def write_splits(
    folder: Path, dataset: DatasetPlan, features: Features, builder: RowBuilder, statistics: dict[str, LabelStatistics]
) -> dict[str, int]:
    """Go through the index once and write each row to its side; returns the rows of each."""
    from tqdm import tqdm

    with contextlib.ExitStack() as files:
        progress = files.enter_context(
            tqdm(total=sum(dataset.num_rows.values()), unit=" rows", desc="dataset", disable=None)
        )
        writers = {side: files.enter_context(open_writer(folder / side, side, features)) for side in statistics}
        for side, table in dataset.iter_sides():
            builder.statistics = statistics[side]
            writers[side].write(builder.build_table(table))
            progress.update(table.num_rows)
        return {side: writer.num_rows for side, writer in writers.items()}


def write_examples(folder: Path, side: str, num_rows: int) -> None:
    """The first rows of a split as a reader gets them back from disk, for people to look at."""
    from datasets import Dataset

    first = next(iter_split(folder / side, max(1, num_rows)), None)
    rows = [] if first is None else Dataset(first.slice(0, num_rows)).to_list()
    write_json(folder / f"{side}_examples.json", rows)


def list_warnings(options: DatasetOptions, dataset: DatasetPlan, statistics: dict[str, LabelStatistics]) -> list[str]:
    """What the user should hear before training on this."""
    warnings = LabelStatistics.merge(statistics.values()).list_warnings()
    if options.answer_format == "seed":
        warnings.append(
            "answer format seed writes no sign: left and right turns become the same label; for reproduction only"
        )
    if dataset.split.is_one_recording:
        warnings.append(
            "train and test come from the same recording, split in time: scores say nothing about other roads"
        )
    if dataset.split.without_val:
        warnings.append(f"{', '.join(dataset.split.without_val)}: too few segments for three sides; there is no val")
    return warnings


def describe_dataset(
    options: DatasetOptions,
    dataset: DatasetPlan,
    counts: dict[str, int],
    statistics: dict[str, LabelStatistics],
    warnings: list[str],
) -> dict[str, Any]:
    """dataset.json: what training stores with its checkpoints, and evaluation rebuilds the answer format from."""
    return {
        "answer_format": dataset.answer_format.to_json(),
        "fps": dataset.fps,
        "num_frames": dataset.num_frames,
        "duration_s": options.duration,
        "future_interval_s": options.duration / dataset.num_frames,
        "frame_sizes": dataset.frame_sizes,
        "sources": dataset.sources,
        "licence": describe_licences(dataset.origins),
        "synthetic": dataset.is_synthetic,
        "one_recording": dataset.split.is_one_recording,
        "num_recordings": dataset.num_recordings,
        "splits": counts,
        "split_rule": {
            **dataset.split.to_json(),
            "seed": options.seed,
            "test_ratio": options.test_ratio,
            "val_ratio": options.val_ratio,
            "max_samples": options.max_samples,
        },
        "labels": {
            "all": LabelStatistics.merge(statistics.values()).to_json(),
            **{side: part.to_json() for side, part in statistics.items()},
        },
        "warnings": warnings,
        "provenance": {
            "origin": read_summary_origin(dataset.segments.folder),
            "segments_sha256": dataset.segments.sha256(),
            "segments_rows": dataset.segments.num_rows,
            "segments_plan": dataset.segments.read_plan(),
            "ego_motion_dir": options.ego_motion_dir.as_posix() if options.ego_motion_dir else None,
        },
    }


def _format_counts(summary: dict[str, Any]) -> str:
    rows = ", ".join(f"{count:,} {side}" for side, count in summary["splits"].items())
    skipped = f"{summary['num_skipped']:,} skipped" + (f" (see {LEDGER_NAME})" if summary["num_skipped"] else "")
    return f"{rows} rows from {summary['num_recordings']:,} recordings, {skipped}"
