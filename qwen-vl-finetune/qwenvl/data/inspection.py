"""What a dataset is made of, row by row, before anything is trained on it.

    Rows ──inspect_rows──▶ [RowFacts] + [Skip]     headers only: shapes and tokens, as training will see them
         ──decode_rows──▶ [Skip]                   media that cannot be read, where asked for
         ──check_answers──▶ [Skip]                 answers that are not in the dataset's format
    all of it ──▶ Inspection ──▶ inspection_report

F, H, W = frames, height and width of a clip in px
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from driving.answer_format import AnswerFormat, parse_answer
from driving.ego_history import check_track
from driving.errors import AnswerError, DrivingError, RecordError, VideoError
from driving.executors import run_jobs
from driving.ledger import MIN_BAD_TO_FAIL, Skip
from driving.records import media_paths, record_name
from qwenvl.data.clips import find_media, plan_clips, plan_images
from qwenvl.data.dataset import BadSample, DrivingDataset, explain_too_long, tokenize_record
from qwenvl.data.labels import IGNORED
from qwenvl.data.rows import Rows
from qwenvl.data.shared_groups import list_unique


@dataclass(frozen=True)
class RowFacts:
    """One row as the model will be shown it.

    Attributes:
        tokens, visual_tokens, supervised_tokens: of the whole conversation.
        videos: ((H, W) as recorded, (F, H, W) as shown) of each.
        images: (H, W) as shown of each.
    """

    id: str
    tokens: int
    visual_tokens: int
    supervised_tokens: int
    videos: tuple[tuple[tuple[int, int], tuple[int, int, int]], ...] = ()
    images: tuple[tuple[int, int], ...] = ()


@dataclass
class Inspection:
    """All that was found out about the rows of `--dataset_use`.

    Attributes:
        num_by_name: rows taken of each dataset, a row twice where its share is above 100 %.
        facts: usable rows.
        skips: rows that cannot train: stage "check" (shape, missing files), "measure" (headers), "length", "decode".
        bad_answers: rows whose answer is not in the dataset's format; None where the dataset has no format.
        repeated_ids: ids that more than one row carries.
        shared_groups: {"train and val": recordings that are in both}; only pairs that share any.
        num_decoded: rows that were decoded to the end.
        track: what the model is given, "video only" or "video and ego history"; "" where there is no format.
    """

    num_by_name: dict[str, int]
    num_groups: int
    model_max_length: int
    facts: list[RowFacts] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    bad_answers: list[Skip] | None = None
    repeated_ids: list[str] = field(default_factory=list)
    shared_groups: dict[str, list[str]] = field(default_factory=dict)
    num_decoded: int = 0
    track: str = ""

    @property
    def num_rows(self) -> int:
        return len(self.facts) + len(self.skips)

    @property
    def too_long(self) -> list[Skip]:
        return [skip for skip in self.skips if skip.stage == "length"]


def list_distinct(dataset: DrivingDataset) -> list[int]:
    """Row numbers, each row once however often its share uses it."""
    first = {id(record): index for index, record in reversed(list(enumerate(dataset.records)))}
    return sorted(first.values())


def inspect_rows(
    dataset: DrivingDataset, num_workers: int, show: Callable[..., Any]
) -> tuple[list[RowFacts], list[Skip]]:
    """Shapes and tokens of every row, read off headers; a row used twice is looked at once and counted twice.

    Args:
        show: wraps the iterator of results for a progress bar; takes `total`.
    """
    num_uses = Counter(id(record) for record in dataset.records)
    distinct = list_distinct(dataset)
    facts, skips = {}, {}
    for index, found in show(run_jobs(_Measure(dataset), distinct, num_workers, forked=True), total=len(distinct)):
        (facts if isinstance(found, RowFacts) else skips)[index] = found
    repeated = [row for index in sorted(facts) for row in [facts[index]] * num_uses[id(dataset.records[index])]]
    return repeated, [skips[index] for index in sorted(skips)]


@dataclass(frozen=True)
class _Measure:
    """index -> (index, RowFacts or Skip), in a worker."""

    dataset: DrivingDataset

    def __call__(self, index: int) -> tuple[int, RowFacts | Skip]:
        record, folders = self.dataset.records[index], self.dataset.folders[index]
        try:
            facts = measure_row(record, self.dataset, folders)
        except DrivingError as error:
            return index, Skip(record_name(record), "measure", str(error))
        reason = explain_too_long(facts.tokens, self.dataset.model_max_length)
        return index, Skip(facts.id, "length", reason, {"tokens": facts.tokens}) if reason else facts


def measure_row(record: dict[str, Any], dataset: DrivingDataset, folders: Sequence[Any]) -> RowFacts:
    """One row's shapes and tokens.

    Raises:
        RecordError, VideoError: Why the row cannot be used.
    """
    plans = plan_clips(record, dataset.preprocessing, folders)
    images = [size for _, size in plan_images(record, dataset.preprocessing, dataset.processor, folders)]
    shapes = [(*plan.shape, plan.fps) for plan in plans]
    tokens = tokenize_record(record, dataset.processor, shapes, images, with_answer=True)
    return RowFacts(
        id=record_name(record),
        tokens=len(tokens.input_ids),
        visual_tokens=sum(kind > 0 for kind in tokens.mm_token_type_ids),
        supervised_tokens=sum(label != IGNORED for label in tokens.labels),
        videos=tuple(((plan.info.height, plan.info.width), plan.shape) for plan in plans),
        images=tuple(images),
    )


def decode_rows(
    dataset: DrivingDataset, indices: Sequence[int], num_workers: int, show: Callable[..., Any]
) -> list[Skip]:
    """Read these rows to their last pixel; returns those that cannot be."""
    results = run_jobs(_Decode(dataset), indices, num_workers, forked=True)
    return sorted((bad for bad in show(results, total=len(indices)) if bad is not None), key=lambda skip: skip.id)


@dataclass(frozen=True)
class _Decode:
    """index -> Skip or None, in a worker; the pixels stay there."""

    dataset: DrivingDataset

    def __call__(self, index: int) -> Skip | None:
        record, folders = self.dataset.records[index], self.dataset.folders[index]
        try:
            check_members(record, folders)
        except VideoError as error:
            return Skip(record_name(record), "decode", str(error))
        sample = self.dataset[index]
        return Skip(sample.id, "decode", sample.reason) if isinstance(sample, BadSample) else None


def check_members(record: dict[str, Any], folders: Sequence[Any]) -> None:
    """Read a row's member of a zip archive through, once for all its rows: a decoder shows most damage as pixels.

    Raises:
        VideoError: Its bytes are not those that were stored.
    """
    if record.get("member") and record.get("byte_range") is None:
        for path in media_paths(record, "video"):
            archive = find_media(path, folders)
            status = archive.stat()
            _check_member(str(archive), record["member"], status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _check_member(path: str, member: str, num_bytes: int, changed_ns: int) -> None:
    from driving.recording import VideoAddress
    from video_io import check_crc

    check_crc(VideoAddress(path, member))


def check_answers(rows: Rows) -> list[Skip] | None:
    """Rows whose answers, or ego motion in the prompt, the dataset's own format cannot read back strictly.

    None where there is no format.
    """
    if rows.answer_format is None:
        return None
    try:
        answer_format = AnswerFormat(**rows.answer_format)
    except TypeError as error:
        raise RecordError(
            f"the dataset's answer_format is of another version ({error}); run ./convert_to_training_format.py again"
        ) from error
    bad = []
    for record, name in list_unique(rows):
        if name not in rows.names_with_format:
            continue
        texts = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
        reasons = [explain_history(record, answer_format), *(explain_answer(text, answer_format) for text in texts)]
        if any(reasons):
            bad.append(Skip(record_name(record), "answer", next(filter(None, reasons))))
    return bad


def explain_history(record: dict[str, Any], answer_format: AnswerFormat) -> str:
    """Why a prompt does not tell the ego motion as its format says; "" where it does."""
    try:
        check_track(record, answer_format)
    except RecordError as error:
        return str(error)
    return ""


def explain_answer(text: str, answer_format: AnswerFormat) -> str:
    """Why an answer is not what the prompt asks for; "" where it is."""
    try:
        parsing = parse_answer(text, answer_format).parsing
    except AnswerError as error:
        return str(error)
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    return "" if parsing == "strict" else f"the answer is not written as {answer_format.notation.pattern}: {shown}"


def find_refusals(inspection: Inspection, max_bad_fraction: float) -> list[str]:
    """Why this dataset may not be trained on: one sentence a reason, none where it may."""
    refusals = []
    if not inspection.facts:
        refusals.append(f"none of {inspection.num_rows:,} rows can be used")
    for bad, what in ((inspection.skips, "rows cannot train"), (inspection.bad_answers or [], "answers are malformed")):
        if len(bad) > MIN_BAD_TO_FAIL and len(bad) > max_bad_fraction * inspection.num_rows:
            refusals.append(f"{len(bad):,} of {inspection.num_rows:,} {what} (at most {max_bad_fraction:.1%} may)")
    for pair, common in inspection.shared_groups.items():
        refusals.append(f"{pair} share {len(common):,} recordings, {common[0]} among them")
    return refusals
