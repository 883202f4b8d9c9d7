"""Look at a dataset before it is trained on: samples as the loss sees them, a report on all rows, a verdict.

--dataset_use ──load_rows──▶ rows ──inspect──▶ Inspection ──▶ text, --json, --html ──▶ exit code 0 or 1
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.errors import DrivingError, run_main
from driving.ledger import MAX_BAD_FRACTION
from driving.option_values import number, parse_count, parse_pixels, parse_share, whole_number
from driving.options import option, parse_options

if TYPE_CHECKING:
    from qwenvl.data.dataset import DrivingDataset
    from qwenvl.data.inspection import Inspection
    from qwenvl.data.rows import Rows

PREPROCESSING_FLAGS = (
    "video_fps", "video_min_frames", "video_max_frames", "video_frame_pixels", "video_max_pixels", "video_min_pixels",
    "max_pixels", "min_pixels",
)  # fmt: skip


@dataclass(frozen=True)
class CheckDatasetOptions:
    """Show samples of a dataset as the loss sees them, report on all of its rows, and refuse what cannot train.

    Reads the training JSON and the headers of its videos (--decode: their frames too), writes nothing but --json and
    --html. Running twice is safe. Exit code 1 where the rows cannot be trained on; the last line says why.
    """

    dataset_use: str = option(
        "physical_ai_driving", help="registered names or JSON paths, commas between them, each with an optional %N"
    )
    model: str = option("Qwen/Qwen3-VL-4B-Instruct", help="model folder or hub name; only its processor is read")
    samples: int = option(3, parse=parse_count, help="rows to show, spread evenly over the dataset")
    decode: int | None = option(
        None, parse=parse_count, help="decode this many rows, drawn by --seed, to the last frame; 0 means all"
    )
    model_max_length: int = option(4096, unit="tokens", parse=whole_number(1), help="longer rows cannot train")
    video_fps: float = option(30.0, unit="1/s", parse=number(0, above=True), help="frames taken from a clip")
    video_min_frames: int = option(16, parse=whole_number(1), help="frames of a clip at least, where it holds them")
    video_max_frames: int = option(32, parse=whole_number(1), help="frames of a clip at most")
    video_frame_pixels: int | None = option(
        None, unit="px", parse=parse_pixels, help="area of one frame; default 114688, unless --video-max-pixels rules"
    )
    video_max_pixels: int | None = option(None, unit="px", parse=parse_pixels, help="all frames of a clip together")
    video_min_pixels: int | None = option(None, unit="px", parse=parse_pixels, help="the same from below")
    max_pixels: int | None = option(None, unit="px", parse=parse_pixels, help="area of a still image at most")
    min_pixels: int | None = option(None, unit="px", parse=parse_pixels, help="area of a still image at least")
    seed: int = option(42, parse=parse_count, help="chooses the rows of a %N share, and those that are decoded")
    workers: int = option(2, parse=parse_count, help="processes that read files; 0: none beside this one")
    max_bad_fraction: float = option(
        MAX_BAD_FRACTION, parse=parse_share, help="refuse when more of the rows (and more than 3) are bad"
    )
    json: Path | None = option(None, help="file for the report as JSON")
    html: Path | None = option(None, help="file for one page with the shown samples, their frames and the report")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are forked
    return run_main(lambda: run(parse_options(CheckDatasetOptions, argv, prog="check_dataset.py")))


def run(options: CheckDatasetOptions) -> int:
    """Inspect, print, write, judge.

    Raises:
        DrivingError: The dataset cannot be read, or cannot be trained on.
    """
    from driving.whole_files import write_json, write_text
    from qwenvl.data import parse_dataset_use
    from qwenvl.data.inspection import find_refusals
    from qwenvl.data.inspection_page import format_page
    from qwenvl.data.inspection_report import describe_inspection, format_inspection
    from qwenvl.data.rows import load_rows
    from qwenvl.data.shared_groups import find_shared_groups

    uses = parse_dataset_use(options.dataset_use)
    rows = load_rows(uses, options.seed)
    dataset = build_dataset(options, rows)
    samples = choose_samples(dataset, options.samples)
    show_samples(samples, dataset)
    inspection = inspect(options, rows, dataset, find_shared_groups(rows, uses))
    refusals = find_refusals(inspection, options.max_bad_fraction)
    print(format_inspection(inspection))
    if options.json is not None:
        write_json(options.json, {**describe_inspection(inspection), "refusals": refusals})
    if options.html is not None:
        write_text(options.html, format_page(options.dataset_use, samples, dataset, inspection, refusals))
    if refusals:
        raise DrivingError(f"{options.dataset_use} cannot be trained on: {'; '.join(refusals)}")
    num_bad = len(inspection.skips)
    print(f"{options.dataset_use} can be trained on: {len(inspection.facts):,} rows, {num_bad:,} skipped")
    return 0


def build_dataset(options: CheckDatasetOptions, rows: Rows) -> DrivingDataset:
    """The rows as training would read them, with the model's own processor."""
    from qwenvl.data.dataset import DrivingDataset
    from qwenvl.data.preprocessing import Preprocessing
    from qwenvl.train.loading import load_processor
    from qwenvl.train.quiet import drop_harmless_messages

    drop_harmless_messages()
    flags = {name: getattr(options, name) for name in PREPROCESSING_FLAGS}
    Preprocessing(**flags)  # a contradiction is said before seconds are spent on the processor
    processor = load_processor(options.model)
    settings = processor.video_processor
    preprocessing = Preprocessing(**flags, factor_px=settings.patch_size * settings.merge_size)
    return DrivingDataset(rows.records, rows.folders, processor, preprocessing, options.model_max_length)


def choose_samples(dataset: DrivingDataset, num_samples: int) -> list[tuple[int, Any]]:
    """(row number, sample or BadSample) of rows spread evenly from the first to the last."""
    import numpy as np

    indices = np.linspace(0, len(dataset) - 1, min(num_samples, len(dataset))).round().astype(int).tolist()
    return [(index, dataset[index]) for index in dict.fromkeys(indices)]


def show_samples(samples: Sequence[tuple[int, Any]], dataset: DrivingDataset) -> None:
    """Print samples; supervised text is green on a terminal, in double brackets elsewhere."""
    from qwenvl.data.dataset import BadSample
    from qwenvl.data.preview import COLOUR_MARKS, MARKS, format_facts, format_sample

    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    marks = COLOUR_MARKS if is_coloured else MARKS
    if samples:
        print(f"rows as the loss sees them; what is supervised is {'green' if is_coloured else '[[in brackets]]'}")
    for index, sample in samples:
        if isinstance(sample, BadSample):
            print(f"-- row {index:,}: {sample.id} cannot be used: {sample.reason}\n")
            continue
        print(f"-- row {index:,}: {format_facts(sample)}")
        print(format_sample(sample, dataset.processor.tokenizer, marks=marks).rstrip("\n") + "\n")


def inspect(
    options: CheckDatasetOptions, rows: Rows, dataset: DrivingDataset, shared_groups: dict[str, list[str]]
) -> Inspection:
    """Everything the report says, with progress bars where somebody watches."""
    from functools import partial

    from tqdm import tqdm

    from driving.records import record_name
    from qwenvl.data import inspection as found

    bar = partial(tqdm, unit=" rows", disable=None, delay=1.0)
    facts, skips = found.inspect_rows(dataset, options.workers, partial(bar, desc="measuring"))
    undecodable: list[Any] = []
    indices: list[int] = []
    if options.decode is not None:
        known_bad = {skip.id for skip in skips}
        indices = [i for i in found.list_distinct(dataset) if record_name(dataset.records[i]) not in known_bad]
        if 0 < options.decode < len(indices):
            indices = sorted(random.Random(options.seed).sample(indices, options.decode))
        undecodable = found.decode_rows(dataset, indices, options.workers, partial(bar, desc="decoding"))
        names = {skip.id for skip in undecodable}
        facts = [row for row in facts if row.id not in names]
    return found.Inspection(
        num_by_name=rows.num_by_name,
        num_groups=len(rows.groups),
        model_max_length=options.model_max_length,
        facts=facts,
        skips=[*rows.skips, *skips, *undecodable],
        bad_answers=found.check_answers(rows),
        repeated_ids=sorted(rows.repeated_ids),
        shared_groups=shared_groups,
        num_decoded=len(indices),
        track=rows.track,
    )
