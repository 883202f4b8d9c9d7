"""A finished dataset -> another tool's format.

options ──check_may_be_passed_on──▶ claim the folder ──▶ FORMATS[...].write ──▶ dataset.json, README.md, manifest
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.balance import BALANCE_NAME
from data_prep.data_card import CARD_NAME, write_card
from data_prep.export import lerobot, llamafactory, swift, trl, upstream, webdataset
from data_prep.export.job import ExportFormat, ExportJob
from data_prep.export.media import COPY, FOLDER, KEEP, MEDIA, Media
from data_prep.export.rows import Rows, open_rows, read_cut
from data_prep.licences import check_may_be_passed_on, read_licences
from data_prep.training_format import DATASET_NAME
from driving.errors import DrivingError
from driving.ledger import MANIFEST_NAME, claim_output, read_manifest
from driving.lineage import write_commands
from driving.option_values import whole_number
from driving.options import format_command, option, parse_options
from driving.whole_files import write_json

FORMAT_VERSION = 1  # part of the plan: raise it when the same input gives other bytes
FORMATS: dict[str, ExportFormat] = {
    "upstream": upstream.FORMAT,
    "llamafactory": llamafactory.FORMAT,
    "swift": swift.FORMAT,
    "trl": trl.FORMAT,
    "webdataset": webdataset.FORMAT,
    "lerobot": lerobot.FORMAT,
}
PACKED = ("webdataset", "lerobot")  # formats that hold the videos themselves


@dataclass(frozen=True)
class ExportOptions:
    """Write a finished dataset in another tool's format, with a data card; what may not be passed on is refused.

    Reads qwen_video_dataset_training/ or qwen_video_dataset/, writes a folder of its own.
    Running twice is safe: a complete export is left untouched, a half-written one is continued.
    """

    format: str = option(choices=tuple(FORMATS), help="whose format")
    output_dir: Path = option(help="where the export is written")
    dataset_dir: Path = option(
        Path("qwen_video_dataset_training"),
        help="a dataset of convert_to_training_format.py, or of prepare_huggingface_dataset.py",
    )
    media: str = option(
        KEEP, choices=MEDIA,
        help="videos of the JSON formats and of trl: keep their paths, make them absolute, or copy the videos along; "
        "webdataset and lerobot hold the videos themselves",
    )  # fmt: skip
    shard_rows: int = option(1000, parse=whole_number(1), help="rows of one file of webdataset and lerobot")
    force_licence: bool = option(
        False, help="export what may not be passed on, for a copy that stays here; the card is stamped"
    )
    overwrite_output: bool = option(False, help="delete what is in the output folder first")


def main(argv: Sequence[str] | None = None) -> int:
    """The door's body: options in, exit code out."""
    for line in run(parse_options(ExportOptions, argv))["lines"]:
        print(line)
    return 0


def run(options: ExportOptions) -> dict[str, Any]:
    """Export the dataset, or find it exported.

    Returns:
        {"lines": what to print, "splits": rows of each}.

    Raises:
        LicenceError: The data may not be passed on.
        DrivingError: There is no finished dataset, or the format has no room for it; see claim_output.
    """
    rows = open_rows(options.dataset_dir)
    check_media(options, rows)
    licence = read_licences(rows.facts)
    forced = check_may_be_passed_on(licence, str(options.dataset_dir), force=options.force_licence)
    plan = plan_output(options, forced)
    with claim_output(
        options.output_dir, plan, overwrite=options.overwrite_output, reads=[options.dataset_dir]
    ) as output:
        if output.is_complete:
            summary = output.manifest["summary"]
            return {**summary, "lines": [f"{options.output_dir} is already complete: {_format_counts(summary)}"]}
        names = write_export(options, rows, plan)
        summary = {"splits": rows.splits}
        output.finish(summary, names)
    last = f"{_format_counts(summary)} written to {options.output_dir} as {options.format}"
    return {**summary, "lines": [*list_warnings(options), last]}


def check_media(options: ExportOptions, rows: Rows) -> None:
    """Raise where rows would name archives, of which other tools cannot read one second."""
    if read_cut(rows.facts) == "scaled" and options.format not in PACKED and options.media != COPY:
        raise DrivingError(
            f"the videos of {options.dataset_dir} are parts of recordings in archives (--cut scaled), which a row of "
            f"{options.format} cannot name; pass --media copy to have each clip cut out beside the export"
        )


def plan_output(options: ExportOptions, forced: Sequence[str]) -> dict[str, Any]:
    """What decides the export's bytes: the dataset by its manifest, and the options that this format heeds."""
    manifest = (options.dataset_dir / MANIFEST_NAME).read_bytes()
    is_packed = options.format in PACKED
    return {
        "tool": "export_dataset",
        "format_version": FORMAT_VERSION,
        "dataset_sha256": hashlib.sha256(manifest).hexdigest(),
        "format": options.format,
        **({"shard_rows": options.shard_rows} if is_packed else {"media": options.media}),
        "forced_against": list(forced),
    }


def list_warnings(options: ExportOptions) -> list[str]:
    """What the user should hear of that the other tool will not do."""
    if options.format == "webdataset" or not (options.dataset_dir / BALANCE_NAME).is_file():
        return []
    return [f"WARNING: the rows have weights (--balance), which readers of {options.format} know nothing of"]


def write_export(options: ExportOptions, rows: Rows, plan: dict[str, Any]) -> list[str]:
    """Write everything but the manifest; returns the names of what the export consists of."""
    from tqdm import tqdm

    folder, chosen = options.output_dir, FORMATS[options.format]
    with tqdm(total=sum(rows.splits.values()), unit=" rows", desc=f"export {options.format}", disable=None) as progress:
        media = Media(options.dataset_dir, folder, options.media, rows.facts["fps"])
        names = chosen.write(ExportJob(rows, media, folder, options.shard_rows, progress.update))
    write_json(folder / DATASET_NAME, rows.facts)
    plans = {
        "prepare_video_segments.py": rows.facts.get("provenance", {}).get("segments_plan", {}),
        "the dataset": read_manifest(options.dataset_dir)["plan"],
        "export_dataset.py": plan,
    }
    stamps = [
        f"Exported with --force-licence although {origin} may not be passed on. This copy must stay where it is."
        for origin in plan["forced_against"]
    ]
    write_card(folder, f"Driving clips for {options.format}", chosen.usage, rows.facts, plans, stamps)
    command = format_command("scripts/export_dataset.py", options, ("overwrite_output",))
    write_commands(folder, options.dataset_dir, command)
    return sorted({*names, DATASET_NAME, CARD_NAME, *([FOLDER] if (folder / FOLDER).is_dir() else [])})


def _format_counts(summary: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in summary["splits"].items()) + " rows"
