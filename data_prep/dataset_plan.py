"""Everything about a dataset that is decided before its first byte is written. Reads the light columns, writes nothing.

segments.parquet ──▶ which rows have labels ──▶ which of them are used ──▶ the side of each ──▶ DatasetPlan
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.dataset_options import DatasetOptions
from data_prep.leakage import check_leakage
from data_prep.licences import SYNTHETIC
from data_prep.segment_table import SegmentTable
from data_prep.split_rule import LEFT_OUT, SIDES, SplitPlan, SplitRow, SplitRule
from data_prep.splits import choose_rows, plan_splits
from driving.answer_format import AnswerFormat
from driving.errors import DrivingError
from driving.ledger import Skip

LIGHT_COLUMNS = (
    "segment_uuid", "clip_uuid", "start_second", "group", "split", "video_path", "member", "video_start", "fps",
    "num_frames", "height", "width", "has_labels", "source", "platform",
)  # fmt: skip
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class DatasetPlan:
    """What goes where.

    Attributes:
        segments: the index that the rows come from.
        sides: one a row of the index; LEFT_OUT for a row that is not used.
        split: how sides were chosen, for the rows that could be used.
        skips: rows left out for a reason known from the index alone. None of them is bad.
        answer_format: the question, and the shape of the answer.
        fps, num_frames: of every segment.
        frame_sizes, sources: how many rows have which, "256x448" -> 1800.
        origins: how many rows come under which licence: the source, or that a program drew them.
        num_recordings: among the rows with a side.
        is_synthetic: some rows come from recordings that a program drew.
    """

    segments: SegmentTable
    sides: list[str]
    split: SplitPlan
    skips: list[Skip]
    answer_format: AnswerFormat
    fps: float
    num_frames: int
    frame_sizes: dict[str, int]
    sources: dict[str, int]
    origins: dict[str, int]
    num_recordings: int
    is_synthetic: bool

    @property
    def num_rows(self) -> dict[str, int]:
        """Rows of each side that has some, in the order train, val, test."""
        counts = Counter(self.sides)
        return {side: counts[side] for side in SIDES if counts[side]}


def plan_dataset(options: DatasetOptions, segments: SegmentTable) -> DatasetPlan:
    """Decide which rows are used and on which side.

    Raises:
        DrivingError: The options and the segments disagree, no row has labels, or the rows cannot be split.
    """
    columns = segments.read_rows(LIGHT_COLUMNS)
    fps, num_frames = check_rate(columns, options.fps)
    check_duration(fps, num_frames, options.duration, segments.read_plan().get("duration"))
    answer_format = plan_answer_format(options, fps, num_frames)
    labelled = find_labelled(columns, has_ego_motion_dir=options.ego_motion_dir is not None)
    skips = [_skip_unlabelled(columns, index) for index in sorted(set(range(segments.num_rows)) - set(labelled))]
    rows = build_split_rows(columns, labelled, options.duration)
    if options.max_samples:
        chosen = choose_rows(rows, options.max_samples, options.seed)
        labelled, rows = [labelled[i] for i in chosen], [rows[i] for i in chosen]
    rule = SplitRule(options.test_ratio, options.val_ratio, options.seed, options.split_by, options.allow_one_recording)
    split = plan_splits(rows, rule)
    check_leakage(rows, split)
    sides = [LEFT_OUT] * segments.num_rows
    for index, row, side in zip(labelled, rows, split.sides, strict=True):
        sides[index] = side
        if side == LEFT_OUT:
            skips.append(Skip(row.segment, "split", "left out: in the gap between two sides of one recording"))
    used = [index for index in labelled if sides[index] != LEFT_OUT]
    return DatasetPlan(
        segments, sides, split, skips, answer_format, fps, num_frames,
        frame_sizes=_count(f"{columns['height'][i]}x{columns['width'][i]}" for i in used),
        sources=_count(str(columns["source"][i] or "unknown") for i in used),
        origins=_count(
            SYNTHETIC if columns["platform"][i] == SYNTHETIC else str(columns["source"][i] or "unknown") for i in used
        ),
        num_recordings=len({columns["clip_uuid"][i] for i in used}),
        is_synthetic=any(columns["platform"][i] == SYNTHETIC for i in used),
    )  # fmt: skip


def check_rate(columns: Columns, asked_fps: float | str) -> tuple[float, int]:
    """The rate and number of frames that all segments share.

    Returns:
        (frames per second, frames in a segment).

    Raises:
        DrivingError: They differ among segments, or the rate from what was asked for.
    """
    shapes = sorted({(float(fps), int(num)) for fps, num in zip(columns["fps"], columns["num_frames"], strict=True)})
    if len(shapes) > 1:
        listed = ", ".join(f"{num} frames at {fps:g} fps" for fps, num in shapes[:4])
        raise DrivingError(f"the segments differ in rate or length ({listed}); cut them again with one --fps")
    fps, num_frames = shapes[0]
    if asked_fps != "auto" and abs(fps - float(asked_fps)) > 1e-6:
        raise DrivingError(
            f"the segments were cut at {fps:g} fps, this run asks for --fps {float(asked_fps):g}; pass --fps {fps:g}, "
            f"or cut the segments again with --fps {float(asked_fps):g}"
        )
    return fps, num_frames


def check_duration(fps: float, num_frames: int, asked_s: float, cut_s: float | None) -> None:
    """Raise unless the segments are as long as this run says: an answer's interval is their length / its samples.

    Args:
        cut_s: their length as their folder has it; None for a bare index, which tells the number of frames only.

    Raises:
        DrivingError: They are longer or shorter.
    """
    is_same = num_frames == round(fps * asked_s) if cut_s is None else abs(cut_s - asked_s) < 1e-9
    if not is_same:
        length_s = num_frames / fps if cut_s is None else cut_s
        raise DrivingError(
            f"the segments are {length_s:g} s long ({num_frames} frames at {fps:g} fps), this run asks for "
            f"--duration {asked_s:g}; pass --duration {length_s:g}, or cut the segments again"
        )


def plan_answer_format(options: DatasetOptions, fps: float, num_frames: int) -> AnswerFormat:
    """The question and the number of pairs: one for every target sample, or fewer with --answer-hz.

    Raises:
        DrivingError: The samples of a segment do not divide into the pairs asked for.
    """
    num_pairs = num_frames
    if options.answer_hz:
        num_pairs = round(options.answer_hz * options.duration)
        if num_pairs < 1 or num_frames % num_pairs:
            fitting = [n for n in range(1, num_frames + 1) if num_frames % n == 0]
            raise DrivingError(
                f"--answer-hz {options.answer_hz:g} gives {num_pairs} pairs, which do not divide the {num_frames} "
                f"samples of a segment; choose one of {', '.join(f'{n / options.duration:g}' for n in fitting)}"
            )
    return AnswerFormat(
        options.answer_format, num_pairs, fps, options.duration, options.system_prompt, options.user_instruction,
        history_pairs=num_pairs if options.ego_history else 0,
    )  # fmt: skip


def find_labelled(columns: Columns, *, has_ego_motion_dir: bool) -> list[int]:
    """Rows that can be trained on.

    Raises:
        DrivingError: There is none.
    """
    if has_ego_motion_dir:
        return list(range(len(columns["segment_uuid"])))
    labelled = [index for index, has_labels in enumerate(columns["has_labels"]) if has_labels is not False]
    if not labelled:
        sources = ", ".join(sorted({str(source) for source in columns["source"] if source})) or "unknown"
        raise DrivingError(
            f"none of the {len(columns['segment_uuid']):,} segments has labels (source: {sources}), so there is "
            "nothing to train on or to score; use recordings with ego motion, or pass --ego-motion-dir. This version "
            "has no tool that predicts without scoring: show the clips to a program that serves a trained model"
        )
    return labelled


def build_split_rows(columns: Columns, indices: Sequence[int], duration_s: float) -> list[SplitRow]:
    """What splitting needs to know of the rows at `indices`."""
    return [
        SplitRow(
            segment=columns["segment_uuid"][i],
            recording=columns["clip_uuid"][i],
            group=columns["group"][i],
            official=columns["split"][i] or "",
            start_s=float(columns["start_second"][i]),
            stop_s=float(columns["start_second"][i]) + 2 * duration_s,
            video=f"{columns['video_path'][i]}:{columns['member'][i] or ''}@{columns['video_start'][i] or 0}",
        )
        for i in indices
    ]


def _skip_unlabelled(columns: Columns, index: int) -> Skip:
    source = columns["source"][index] or "unknown"
    return Skip(
        columns["segment_uuid"][index], "label", f"has no ego motion (source {source}), so nothing to learn or to score"
    )


def _count(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
