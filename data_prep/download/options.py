"""What a user can choose when recordings are fetched. Light: `--help` imports nothing else."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.segment_options import DEFAULT_SPLIT
from driving.option_values import number, parse_count, whole_number
from driving.options import option, parse_options

REPOSITORY = "nvidia/PhysicalAI-Autonomous-Vehicles"
SPLITS = ("train", "val", "test")


def parse_chunks(text: str) -> range:
    """A chunk number, 0000 or 0, or a range of them with both ends in it, 0000-0009."""
    found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if last < first:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a chunk (0000) nor a range of chunks (0000-0009)")
    return range(first, last + 1)


def parse_repo_id(text: str) -> str:
    """owner/name."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a dataset on the Hub, such as {REPOSITORY}")
    return text


@dataclass(frozen=True)
class DownloadOptions:
    """Fetch NVIDIA PhysicalAI-AV recordings: camera, ego motion, calibration, and the dataset's tables.

    Reads the Hugging Face Hub (HF_TOKEN or `hf auth login`; the licence must be accepted on the dataset's page), writes
    physical_ai_data/ as prepare_video_segments.py reads it, and skipped.jsonl with what could not be fetched and why.
    Running twice is safe: what is there and whole is kept, a half-fetched file is continued.
    """

    chunk: tuple[range, ...] = option(
        (), parse=parse_chunks, help="whole chunks of about 100 clips, by number: 0000 0001, or 0000-0009"
    )
    all: bool = option(False, help="every chunk that the dataset lists (about 6 TB for one camera)")
    clips: int = option(
        0, parse=parse_count, help="single clips: the first so many valid ones, of --chunk and --split where given"
    )
    clip: tuple[str, ...] = option((), help="single clips, by id")
    split: str = option("", choices=SPLITS, help="with --clips: only clips of this split")
    camera: tuple[str, ...] = option((), help="which cameras; default: the front wide one")
    output_dir: Path = option(Path("physical_ai_data"), help="where the recordings go")
    revision: str = option(
        "", help="branch, tag (26.03) or commit of the dataset; default: the one this folder has, else main"
    )
    split_name: str = option(DEFAULT_SPLIT, help="which table of splits/ (without .parquet) --split goes by")
    force: bool = option(False, help="fetch again what is already there")
    yes: bool = option(False, help="do not ask, however much it is")
    ask_above_gb: float = option(10.0, unit="GB", parse=number(0), help="ask before fetching more than this")
    dry_run: bool = option(False, help="say what would be fetched, and fetch the dataset's tables only")
    workers: int = option(4, parse=whole_number(1, 64), help="files or clips fetched at a time")
    progress: bool = option(True, help="a progress bar where there is a terminal; --no-progress: none")
    repo_id: str = option(
        REPOSITORY, parse=parse_repo_id, help="the dataset on the Hub: a copy of it in the same layout"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The door's body: options in, exit code out."""
    options = parse_options(DownloadOptions, argv)
    from data_prep.download.run import run  # after --help is answered

    print(run(options).message)
    return 0
