"""What a user can choose when recordings are cut into segments. Light: `--help` imports nothing else."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from driving.ego_motion import MAX_GAP_S
from driving.frame_size import FRAME_PIXELS
from driving.ledger import MAX_BAD_FRACTION
from driving.option_values import parse_count, parse_frame_pixels, parse_share
from driving.options import option, parse_options

AUTO = "auto"
DECODERS = ("pyav", "torchcodec", "decord", "nvdec")  # as in video_io.decoders, which loads the video library
SLURM = "slurm"
EXECUTORS = ("local", "ray", SLURM)
INDEX_SHARE = "index"  # what the job after the tasks of an array is given
# Who does the work, and how often: it is not seen in what comes out.
NOT_OF_THE_OUTPUT = ("executor", "workers", "array_size", "share", "dry_run", "overwrite_output")
SCALED = "scaled"
CUTS = ("resized", SCALED, "copy", "index")
SOURCE_NAMES = (AUTO, "physical_ai", "kitti", "comma2k19", "bdd100k", "folder")
FRAME_TOLERANCE = 0.75  # of a frame interval; measured worst 0.69 (9.62 Hz to 10) and 0.51 (29.97 to 30)
DEFAULT_FPS = 30.0
DEFAULT_SPLIT = "default"  # the file under splits/ that PhysicalAI-AV ships


def parse_fps(text: str) -> float | str:
    """ "auto", or a rate above zero."""
    if text == AUTO:
        return AUTO
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0 < fps <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a frame rate in Hz nor auto")
    return fps


def parse_positive(text: str) -> float:
    """A finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return value


def parse_at_least_one(text: str) -> int:
    """A whole number from one up."""
    number = parse_count(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not at least 1")
    return number


def parse_share_of_chunks(text: str) -> tuple[int, int]:
    """ "3/1000": (which share, counted from 0, how many there are).

    Raises:
        ValueError: It is no share.
    """
    place, num_shares = (int(part) for part in text.split("/"))
    if not 0 <= place < num_shares:
        raise ValueError(text)
    return place, num_shares


def parse_share_name(text: str) -> str:
    """ "index", or a share of the chunks."""
    try:
        if text not in ("", INDEX_SHARE):
            parse_share_of_chunks(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share such as 3/1000 nor {INDEX_SHARE}") from None
    return text


@dataclass(frozen=True)
class SegmentOptions:
    """Cut driving recordings into short clips, each paired with the motion of the second after it.

    Reads physical_ai_data/, writes qwen_video_segments/: video_segments/*.mp4 (with --cut scaled videos/*.zip), then
    metadata/segments.parquet (the index: paths, times, labels), and skipped.jsonl with what could not be used and why.
    Running twice is safe: finished recordings are kept, a half-written one is cut again.
    """

    input_dir: Path = option(Path("physical_ai_data"), help="where the recordings are")
    output_dir: Path = option(Path("qwen_video_segments"), help="where the segments go")
    max_clips: int = option(0, parse=parse_count, help="take only the first so many recordings, by id; 0 means all")
    fps: float | str = option(
        DEFAULT_FPS,
        unit="Hz",
        parse=parse_fps,
        help="frames a second of a segment; auto: what most recordings can give",
    )
    duration: float = option(
        1.0, unit="s", parse=parse_positive, help="length of a segment, and of the future it must predict"
    )
    cut: str = option(
        "resized",
        choices=CUTS,
        help="resized: small files at the training frame size; scaled: the same frames in one small video a recording, "
        "packed into a zip archive for each chunk, for datasets of many thousands; copy: full resolution; index: no "
        "files, rows point into the recordings. With copy and index pixels are not looked at: a damaged frame is found "
        "in training",
    )
    source: str = option(AUTO, choices=SOURCE_NAMES, help="recording format; auto looks at the folder")
    camera: str = option("", help="which camera, where the format has several; default: its front camera")
    split_name: str = option(
        DEFAULT_SPLIT, help="physical_ai: which table of splits/ (without .parquet) tells train, val and test"
    )
    video_frame_pixels: int = option(
        FRAME_PIXELS, unit="px", parse=parse_frame_pixels, help="area of a frame for --cut resized and scaled"
    )
    frame_tolerance: float = option(
        FRAME_TOLERANCE, parse=parse_positive,
        help="how far a recorded frame may lie from its nominal instant, in frame intervals",
    )  # fmt: skip
    max_gap_s: float = option(
        MAX_GAP_S, unit="s", parse=parse_positive, help="longest gap in the ego motion of a segment"
    )
    curvature: str = option(
        "pose", choices=("pose", "column"),
        help="pose: heading change per metre driven; column: the dataset's own value, which leads by 30-40 ms",
    )  # fmt: skip
    max_bad_fraction: float = option(
        MAX_BAD_FRACTION,
        parse=parse_share,
        help="fail at the end when more of the recordings, or of the segments (and more than 3), are bad",
    )
    decoder: str = option(
        DECODERS[0],
        choices=DECODERS,
        help="the library that decodes; torchcodec and decord are extras (8-bit pictures are the same), "
        "nvdec is torchcodec on a GPU, untested. Nothing is decoded with --cut index",
    )
    executor: str = option(
        "local", choices=EXECUTORS,
        help="local: processes here; ray: tasks of the cluster that RAY_ADDRESS names, or of one that is started here; "
        "slurm: submit an array of tasks and a job after them. All nodes must see input, output and this checkout "
        "under the same paths; the output is the same bytes",
    )  # fmt: skip
    workers: int = option(
        0, parse=parse_count,
        help="local: processes, ray: tasks at a time, slurm: CPUs of a task; 0: each core there is, with slurm one",
    )  # fmt: skip
    array_size: int = option(
        1000, parse=parse_at_least_one, help="slurm: tasks of the array at most; each takes its share of the chunks"
    )
    share: str = option("", parse=parse_share_name, help="slurm: what a task is given: 3/1000 of the chunks, or index")
    dry_run: bool = option(False, help="say what would be done, with slurm print the scripts, and write nothing")
    allow_one_recording: bool = option(False, help="do not warn when all segments come from one recording")
    overwrite_output: bool = option(False, help="replace an output folder made with other options or from other input")


def main(argv: Sequence[str] | None = None) -> int:
    """The door's body: options in, exit code out."""
    options = parse_options(SegmentOptions, argv)
    from data_prep.segments import run  # after --help is answered: it loads the video library

    print(run(options).message)
    return 0
