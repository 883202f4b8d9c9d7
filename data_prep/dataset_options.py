"""What a user can choose when a dataset is made from segments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.segment_options import parse_fps, parse_positive
from driving.answer_format import NOTATIONS
from driving.ledger import MAX_BAD_FRACTION
from driving.option_values import number, parse_count, parse_share
from driving.options import option
from driving.prompts import PHYSICAL_AI_SYSTEM


@dataclass(frozen=True)
class DatasetOptions:
    """Turn labelled segments into a Hugging Face dataset of driving questions and answers, split by recording.

    Reads qwen_video_segments/, writes qwen_video_dataset/ (load it with datasets.load_from_disk).
    Running twice is safe: a complete dataset is left untouched, a half-written one is written again.
    """

    segments_path: Path = option(
        Path("qwen_video_segments/metadata/segments.parquet"),
        help="index of the segments: segments.parquet, segments.json, or the folder that holds one",
    )
    ego_motion_dir: Path | None = option(
        None,
        help="compute the labels again from the ego motion files in this folder; default: as the segments have them",
    )
    output_dir: Path = option(Path("qwen_video_dataset"), help="where the dataset is written")
    test_ratio: float = option(
        0.1, parse=parse_share, help="share of the recordings that only the evaluation reads; 0 for none"
    )
    val_ratio: float = option(
        0.05, parse=parse_share, help="share of the recordings that choices during training read; 0 for none"
    )
    split_by: str = option(
        "official", choices=("official", "hash"),
        help="official: the dataset's own split where it has one; hash: as if it had none",
    )  # fmt: skip
    seed: int = option(7, help="seed of the split and of the choice of --max-samples")
    max_samples: int = option(
        0, parse=parse_count, help="use this many segments, spread evenly over the recordings; 0 means all"
    )
    fps: float | str = option(
        30.0, unit="1/s", parse=parse_fps, help="frame rate of the segments, or auto: whatever it is"
    )
    duration: float = option(
        1.0, unit="s", parse=parse_positive, help="length of a segment, and of the future it must predict"
    )
    examples_preview: int = option(
        5, parse=parse_count, help="rows of each split that are also written to *_examples.json"
    )
    system_prompt: str = option(PHYSICAL_AI_SYSTEM, help="system turn of every conversation; empty for none")
    user_instruction: str = option(
        "",
        help="question of every conversation, may hold {num_pairs}, {fps}, {pattern}; empty: the answer format's own",
    )  # fmt: skip
    answer_format: str = option(
        "signed", choices=tuple(NOTATIONS),
        help="signed: 1 decimal of speed, 4 of signed curvature; signed2: 2 of speed; seed: unsigned, for reproduction",
    )  # fmt: skip
    answer_hz: float = option(
        0.0, unit="1/s", parse=number(0), help="pairs per second in the answer; 0 means one for every frame"
    )
    ego_history: bool = option(
        False,
        help="tell the clip's own motion in every question, as pairs like the answer's: another track than video only",
    )
    allow_one_recording: bool = option(
        False, help="split in time where there are too few recordings; reports are stamped"
    )
    max_bad_fraction: float = option(
        MAX_BAD_FRACTION, parse=parse_share, help="fail when more of the rows (and more than 3) cannot be used"
    )
    overwrite_output: bool = option(False, help="delete what is in the output folder first")
