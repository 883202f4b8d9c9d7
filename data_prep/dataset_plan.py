"""Everything about a dataset that is decided before its first byte is written. Reads the light columns, writes nothing.

segments.parquet ──▶ which rows have labels ──▶ which of them are used ──▶ the side of each ──▶ DatasetPlan
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_prep.dataset_options import DatasetOptions
from data_prep.index_scan import IndexScan, Kind, iter_rows, scan_index
from data_prep.leakage import check_leakage
from data_prep.licences import SYNTHETIC
from data_prep.segment_table import SegmentTable
from data_prep.split_rule import OUT, SIDES, SplitPlan, SplitRule
from data_prep.splits import choose_rows, plan_splits
from driving.answer_format import AnswerFormat
from driving.errors import DrivingError
from driving.ledger import Skip
from driving.prompts import PHYSICAL_AI_SYSTEM, format_motion_system

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class DatasetPlan:
    """What goes where.

    Attributes:
        segments: the index that the rows come from.
        side_codes: (rows of the index,) int8 place in SIDES; OUT for a row that is not used.
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
    side_codes: np.ndarray
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
        counts = {side: int((self.side_codes == code).sum()) for code, side in enumerate(SIDES)}
        return {side: count for side, count in counts.items() if count}

    def iter_sides(self) -> Iterator[tuple[str, pa.Table]]:
        """(side, its rows of a piece of the index), piece after piece: each side's rows are in the index's order."""
        start = 0
        for piece in self.segments.iter_pieces():
            codes = self.side_codes[start : start + piece.num_rows]
            start += piece.num_rows
            for code in np.unique(codes[codes != OUT]).tolist():
                yield SIDES[code], piece.filter(codes == code)


def plan_dataset(options: DatasetOptions, segments: SegmentTable) -> DatasetPlan:
    """Decide which rows are used and on which side.

    Raises:
        DrivingError: The options and the segments disagree, no row has labels, or the rows cannot be split.
    """
    scan = scan_index(segments, options.duration)
    fps, num_frames = check_rate(scan.shapes, options.fps)
    check_duration(fps, num_frames, options.duration, segments.read_plan().get("duration"))
    answer_format = plan_answer_format(options, fps, num_frames)
    labelled = find_labelled(scan, has_ego_motion_dir=options.ego_motion_dir is not None)
    skips = _skip_unlabelled(segments, labelled)
    rows = scan.rows.take(labelled)
    if options.max_samples:
        chosen = choose_rows(rows, options.max_samples, options.seed)
        labelled, rows = labelled[chosen], rows.take(chosen)
    rule = SplitRule(options.test_ratio, options.val_ratio, options.seed, options.split_by, options.allow_one_recording)
    split = plan_splits(rows, rule)
    check_leakage(rows, split)
    side_codes = np.full(segments.num_rows, OUT, dtype=np.int8)
    side_codes[labelled] = split.codes
    left_out = rows.read_segments(np.flatnonzero(split.codes == OUT))
    skips += [Skip(name, "split", "left out: in the gap between two sides of one recording") for name in left_out]
    used = side_codes != OUT
    counts = np.bincount(scan.kind_codes[used], minlength=len(scan.kinds)).tolist()
    kinds = {kind: count for kind, count in zip(scan.kinds, counts, strict=True) if count}
    return DatasetPlan(
        segments, side_codes, split, skips, answer_format, fps, num_frames,
        frame_sizes=_count(kinds, lambda kind: f"{kind.height}x{kind.width}"),
        sources=_count(kinds, lambda kind: str(kind.source or "unknown")),
        origins=_count(
            kinds, lambda kind: SYNTHETIC if kind.platform == SYNTHETIC else str(kind.source or "unknown")
        ),
        num_recordings=len(np.unique(scan.rows.recording.codes[used])),
        is_synthetic=any(kind.platform == SYNTHETIC for kind in kinds),
    )  # fmt: skip


def check_rate(found: set[tuple[float, int]], asked_fps: float | str) -> tuple[float, int]:
    """The rate and number of frames that all segments share.

    Args:
        found: (frames per second, frames in a segment) of any of them.

    Returns:
        (frames per second, frames in a segment).

    Raises:
        DrivingError: They differ among segments, or the rate from what was asked for.
    """
    shapes = sorted(found)
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
    is_ours = options.system_prompt == PHYSICAL_AI_SYSTEM
    system_prompt = format_motion_system(options.duration) if is_ours else options.system_prompt
    return AnswerFormat(
        options.answer_format, num_pairs, fps, options.duration, system_prompt, options.user_instruction,
        history_pairs=num_pairs if options.ego_history else 0,
    )  # fmt: skip


def find_labelled(scan: IndexScan, *, has_ego_motion_dir: bool) -> np.ndarray:
    """Places of the rows that can be trained on, increasing.

    Raises:
        DrivingError: There is none.
    """
    if has_ego_motion_dir:
        return np.arange(len(scan.rows))
    labelled = np.flatnonzero(scan.is_labelled)
    if not len(labelled):
        sources = ", ".join(sorted({str(kind.source) for kind in scan.kinds if kind.source})) or "unknown"
        raise DrivingError(
            f"none of the {len(scan.rows):,} segments has labels (source: {sources}), so there is "
            "nothing to train on or to score; use recordings with ego motion, or pass --ego-motion-dir. This version "
            "has no tool that predicts without scoring: show the clips to a program that serves a trained model"
        )
    return labelled


def _skip_unlabelled(segments: SegmentTable, labelled: np.ndarray) -> list[Skip]:
    is_unlabelled = np.ones(segments.num_rows, dtype=bool)
    is_unlabelled[labelled] = False
    named = iter_rows(segments, np.flatnonzero(is_unlabelled), ("segment_uuid", "source"))
    reason = "has no ego motion (source {}), so nothing to learn or to score"
    return [Skip(name, "label", reason.format(source or "unknown")) for name, source in named]


def _count(kinds: dict[Kind, int], name: Callable[[Kind], str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for kind, count in kinds.items():
        counts[name(kind)] += count
    return dict(sorted(counts.items()))
