"""Decode and tokenize a dataset once, so that training and evaluation only read.

rows ──find_missing──▶ those that the folder does not hold ──fill──▶ shards ──finish──▶ skipped.jsonl, manifest last
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from driving.executors import count_cores
from driving.ledger import (
    LEDGER_NAME,
    MANIFEST_NAME,
    MAX_BAD_FRACTION,
    Output,
    Skip,
    check_bad_fraction,
    claim_output,
    write_ledger,
)
from driving.option_values import number, parse_pixels, parse_share, whole_number
from driving.options import option, parse_options

if TYPE_CHECKING:
    from qwenvl.data.rows import Rows
    from qwenvl.data.shards import Entry


@dataclass(frozen=True)
class PrepareCacheOptions:
    """Decode and tokenize a dataset once: token ids and resized frames in a few large files that training and
    evaluation map into memory.

    Use it where the same clips are read for several epochs or runs, from full-resolution video above all; then give the
    folder to training as --prepared_dir and to scripts/evaluate.py as --prepared-dir. It takes much disk: a second of
    video as 30 frames of 256x448 is 10.3 MB. The need is printed first, and refused where the disk cannot hold it.

    The flags below must be those of the training run. Give train, val and test at once, or one after the other: rows
    that the folder holds already are kept, what is missing is added. Running twice is safe: a complete folder is left
    as it is, an interrupted one is continued. Rows that cannot be used are listed in skipped.jsonl.
    """

    model_name_or_path: str = option(help="model folder or hub name, for its tokenizer and template; no weights")
    dataset_use: str = option("physical_ai_driving", help="names or paths, commas, each with %N, as in training")
    output_dir: Path = option(Path("prepared"), help="folder to write")
    workers: int = option(0, parse=whole_number(0), help="processes that decode; 0 means one a core")
    max_pixels: int | None = option(None, parse=parse_pixels, help="area of a still image at most", unit="px")
    min_pixels: int | None = option(None, parse=parse_pixels, help="area of a still image at least", unit="px")
    video_frame_pixels: int | None = option(
        None, parse=parse_pixels, help="area of one video frame; default 114688, unless video_max_pixels rules",
        unit="px",
    )  # fmt: skip
    video_max_pixels: int | None = option(
        None, parse=parse_pixels, help="pixels of all frames of a clip together", unit="px"
    )
    video_min_pixels: int | None = option(None, parse=parse_pixels, help="the same from below", unit="px")
    video_max_frames: int = option(32, parse=whole_number(1), help="frames of a clip at most")
    video_min_frames: int = option(16, parse=whole_number(1), help="frames of a clip at least, where it holds them")
    video_fps: float = option(30.0, parse=number(0, above=True), help="frames per second taken from a clip", unit="1/s")
    seed: int = option(42, parse=whole_number(0), help="decides which rows %N takes, as in training")
    max_bad_fraction: float = option(
        MAX_BAD_FRACTION, parse=parse_share, help="fail when more of the rows (and more than 3) cannot be used"
    )
    overwrite_output: bool = option(False, help="delete what is in the output folder first")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    print(run(parse_options(PrepareCacheOptions, argv, prog="prepare_cache.py")))
    return 0


def run(options: PrepareCacheOptions) -> str:
    """Fill the folder; returns what it holds, in one line.

    Raises:
        DrivingError: Rows, model or flags cannot be used, the disk is too small, or too many rows are bad.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
    from qwenvl.train.quiet import drop_harmless_messages

    drop_harmless_messages()
    from qwenvl.data import parse_dataset_use
    from qwenvl.data.dataset import DrivingDataset
    from qwenvl.data.identity import PIXEL_RULES, identify_rendering
    from qwenvl.data.prepared import TOOL_NAME
    from qwenvl.data.prepared_writer import fill
    from qwenvl.data.preprocessing import Preprocessing
    from qwenvl.data.rows import load_rows
    from qwenvl.train.loading import check_model_folder, load_processor

    uses = parse_dataset_use(options.dataset_use)
    check_model_folder(options.model_name_or_path)
    rows = load_rows(uses, options.seed)
    processor = load_processor(options.model_name_or_path)
    given = {name: getattr(options, name) for name in PIXEL_RULES if hasattr(options, name)}
    factor_px = processor.video_processor.patch_size * processor.video_processor.merge_size
    preprocessing = Preprocessing(**given, factor_px=factor_px)
    dataset = DrivingDataset(rows.records, rows.folders, processor, preprocessing, model_max_length=2**31)
    plan = {"tool": TOOL_NAME, "rendering": identify_rendering(preprocessing, processor)}
    reads = [use.annotation_path for use in uses]
    with claim_output(options.output_dir, plan, overwrite=options.overwrite_output, reads=reads) as output:
        was_complete = output.is_complete
        missing = find_missing(output.folder, rows)
        if missing:
            (output.folder / MANIFEST_NAME).unlink(missing_ok=True)
            fill(output.folder, dataset, missing, options.workers or count_cores())
        if missing or not was_complete:
            _finish(output, rows, options.max_bad_fraction)
        held = _describe(output.folder, rows)
    return f"already complete: {held}" if was_complete and not missing else held


def find_missing(folder: Path, rows: Rows) -> list[int]:
    """Which rows the shards do not hold yet; a row that is used twice is held once."""
    from qwenvl.data.identity import hash_row, identify_media
    from qwenvl.data.prepared import find_change
    from qwenvl.data.shards import read_shards

    identify_media.cache_clear()
    held: dict[str, list[Entry]] = {}
    for entry in read_shards(folder):
        held.setdefault(entry.row, []).append(entry)
    missing, seen = [], set()
    for index, (record, folders) in enumerate(zip(rows.records, rows.folders, strict=True)):
        key = (hash_row(record), folders)
        if key not in seen and all(find_change(entry, folders) for entry in held.get(key[0], ())):
            missing.append(index)
        seen.add(key)
    return missing


def _finish(output: Output, rows: Rows, max_bad_fraction: float) -> None:
    """The ledger of these rows, and the manifest last."""
    skips = {skip.id: skip for skip in [*rows.skips, *_list_skips(output.folder, rows)]}
    write_ledger(output.folder / LEDGER_NAME, list(skips.values()))
    num_all = len(rows.records) + len(rows.skips)
    check_bad_fraction(len(skips), num_all, max_bad_fraction, output.folder / LEDGER_NAME)
    files = sorted(path.name for path in output.folder.glob("shard-*"))
    output.finish({"num_shards": len(files) // 2}, files)


def _list_skips(folder: Path, rows: Rows) -> list[Skip]:
    from driving.records import record_name
    from qwenvl.data.identity import hash_row
    from qwenvl.data.shards import read_shards

    reasons = {entry.row: entry.reason for entry in read_shards(folder) if entry.reason}
    named = [(record_name(record), reasons.get(hash_row(record), "")) for record in rows.records]
    return [Skip(name, "decode", reason) for name, reason in named if reason]


def _describe(folder: Path, rows: Rows) -> str:
    num_bytes = sum(path.stat().st_size for path in folder.glob("shard-*"))
    num_skipped = len({skip.id for skip in [*rows.skips, *_list_skips(folder, rows)]})
    return (
        f"{len(rows.records) + len(rows.skips):,} rows in {folder}, {num_bytes / 1e9:,.2f} GB, "
        f"{num_skipped} skipped (see {LEDGER_NAME})"
    )
