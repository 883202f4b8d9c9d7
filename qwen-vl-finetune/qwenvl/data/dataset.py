"""Training JSON -> samples: rows, their frames, and exactly the inputs that the model sees.

    train.json ──read_records──▶ record ──read_clips──▶ Clip(uint8 frames, fps) ──build_inputs──▶ sample
                                        ──plan_clips──▶ shapes ──tokenize_record──▶ ids and labels alone

A sample is a dict: id, group, input_ids (L,), labels (L,), mm_token_type_ids (L,), position_ids (4, L) int64,
videos [(T, H, W, 3) uint8], images [(1, H, W, 3) uint8]. Evaluation calls `read_clips` and `build_inputs` too, so that
what is asked is what was taught. T = frames, H x W = frame size in px, L = tokens
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from driving.answer_format import AnswerFormat
from driving.errors import DrivingError, RecordError
from driving.mirror import mirror_frames, mirror_record
from driving.records import check_record, media_paths, messages_from_record, record_group, record_name
from qwenvl.data.clips import Record, find_media, read_clips, read_images
from qwenvl.data.decode_guard import DecodeGuard, DecodeHangError
from qwenvl.data.families import family_of
from qwenvl.data.frame_cache import Clip, FrameCache
from qwenvl.data.labels import TokenizedConversation, tokenize_conversation
from qwenvl.data.pixels import plan_grid, render_image_block, render_video_block
from qwenvl.data.positions import plan_positions
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.data.stream_rows import JSON_SUFFIXES, find_shards

if TYPE_CHECKING:
    from qwenvl.data.prepared import PreparedCache
    from qwenvl.data.shards import Entry


class BadSample(NamedTuple):
    """A row that cannot be trained on, and why; it goes to the ledger instead of into the batch."""

    id: str
    reason: str
    stops_run: bool = False  # no fault of this row alone: skipping it would skip them all, one after the other
    row: int = -1  # its place in the dataset: two rows may have one id


def read_records(path: Path) -> list[Record]:
    """Read a training JSON (a list) or JSON lines; every row gets an id.

    Raises:
        RecordError: The file is missing, is not JSON, holds something else than rows, or holds none.
    """
    path = Path(path)
    if path.suffix not in JSON_SUFFIXES and (num_shards := len(find_shards(path))):
        raise RecordError(
            f"{path} names {num_shards:,} shards (.tar), no training JSON; training reads them with --streaming True, "
            "anything else needs the JSON that they were made from"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
    except IsADirectoryError:
        raise RecordError(f"{path} is a folder; give the training JSON in it, such as {path / 'train.json'}") from None
    except FileNotFoundError:
        index = path.with_suffix(f".index{path.suffix}")
        advice = f"there is {index}, name that" if index.exists() else "./convert_to_training_format.py writes it"
        raise RecordError(f"{path} does not exist; {advice}") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not UTF-8 text ({error.reason}); it should be a training JSON") from error
    try:
        if path.suffix == ".jsonl":
            # not splitlines: U+2028 in an answer is no new line
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            rows = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{path} is not JSON ({error}); run ./convert_to_training_format.py again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RecordError(f"{path} must hold a list of rows with video and conversations")
    if not rows:
        raise RecordError(f"{path} holds no rows; there is nothing to train on")
    return [row if "id" in row else {"id": f"{path.stem}:{index}", **row} for index, row in enumerate(rows)]


def check_static(record: Record, folders: Sequence[Path] | None) -> None:
    """What can be known without decoding: the record's shape, and that its files are there (None: they need not be).

    Raises:
        RecordError, VideoError: The reason, for the ledger.
    """
    check_record(record)
    _check_window(record)
    for kind in ("video", "image") if folders is not None else ():
        for path in media_paths(record, kind):
            find_media(path, folders)


def _check_window(record: Record) -> None:
    """Raise unless video_start, video_end, frame_indices and byte_range, where given, can choose frames."""
    name = record_name(record)
    for key in ("video_start", "video_end"):
        value = record.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not is_number:
            raise RecordError(f"{name}: {key} {str(value)[:80]!r} is not a number of seconds")
    listed = record.get("frame_indices")
    if listed is not None and (
        not isinstance(listed, list) or not listed or not all(type(index) is int and index >= 0 for index in listed)
    ):
        raise RecordError(f"{name}: frame_indices {str(listed)[:80]} must be a list of frame numbers, at least one")
    within = record.get("byte_range")
    if within is not None and (
        not isinstance(within, list) or len(within) != 2 or not all(type(one) is int and one >= 0 for one in within)
    ):
        raise RecordError(f"{name}: byte_range {str(within)[:80]} is not [first byte, number of bytes]")


def build_inputs(
    record: Record,
    processor: Any,
    preprocessing: Preprocessing,
    *,
    with_answer: bool,
    clips: Sequence[Clip] | None = None,
    images: Sequence[np.ndarray] | None = None,
    folders: Sequence[Path] = (),
) -> dict[str, Any]:
    """One sample, as training sees it (`with_answer`) or up to where generation begins.

    Args:
        clips: the videos' frames, where they were read (or altered) before; None reads them.
        images: the same of still images, each (1, H, W, 3) uint8.
        folders: where relative paths are looked for.

    Raises:
        RecordError, VideoError: The reason why the record cannot be used.
    """
    if clips is None:
        clips = read_clips(record, preprocessing, folders)
    if images is None:
        images = read_images(record, preprocessing, processor, folders)
    videos = [(*clip.frames.shape[:3], clip.fps) for clip in clips]
    tokens = tokenize_record(record, processor, videos, [image.shape[1:3] for image in images], with_answer=with_answer)
    columns = [np.array(column) for column in (tokens.input_ids, tokens.labels, tokens.mm_token_type_ids)]
    return build_sample(record, columns, clips, images, processor)


def build_sample(
    record: Record,
    columns: Sequence[np.ndarray],
    clips: Sequence[Clip],
    images: Sequence[np.ndarray],
    processor: Any,
) -> dict[str, Any]:
    """Put a sample together from its tokens and its frames, and count the positions.

    Args:
        columns: input_ids, labels and mm_token_type_ids, each (L,) int64.
        images: each (1, H, W, 3) uint8.
    """
    import torch

    input_ids, labels, kinds = map(torch.from_numpy, columns)
    settings = processor.video_processor
    image_grids, video_grids = (
        [plan_grid(*frames.shape[:3], settings) for frames in kind]
        for kind in (images, [clip.frames for clip in clips])
    )
    time_steps = family_of(processor).plan_time_steps([clip.fps for clip in clips], settings.temporal_patch_size)
    positions = plan_positions(columns[2], image_grids, video_grids, settings.merge_size, time_steps)
    return {
        "id": record_name(record),
        "group": record_group(record),
        "input_ids": input_ids,
        "labels": labels,
        "mm_token_type_ids": kinds,
        "position_ids": torch.from_numpy(positions),
        "video_fps": [clip.fps for clip in clips],
        "videos": [torch.from_numpy(np.ascontiguousarray(clip.frames)) for clip in clips],
        "images": [torch.from_numpy(np.require(image, requirements="CW")) for image in images],
    }


def tokenize_record(
    record: Record,
    processor: Any,
    videos: Sequence[tuple[int, int, int, float]],
    images: Sequence[tuple[int, int]],
    *,
    with_answer: bool,
) -> TokenizedConversation:
    """Ids and labels of a record from the shapes of its media alone.

    Args:
        videos: frames, height, width (px) and frames per second of each.
        images: height and width (px) of each.

    Raises:
        RecordError: The record is not well formed, or holds nothing to learn.
    """
    messages = messages_from_record(record)
    waiting = {
        "video": (render_video_block(processor, *video) for video in videos),
        "image": (render_image_block(processor, *image) for image in images),
    }
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    blocks = [next(waiting[part["type"]]) for part in parts if part["type"] in waiting]
    return tokenize_conversation(messages, processor, blocks, with_answer=with_answer)


class DrivingDataset:
    """Rows as samples for a DataLoader: `dataset[i]` is a sample, or a BadSample where the row cannot be used.

    `dataset[~i]` is row i with left and right changed over, in frames and text; the row as it is where its text has no
    mirrored form. Only faults of the input become BadSamples; a fault of ours is raised.
    """

    def __init__(
        self,
        records: Sequence[Record],
        folders: Sequence[Sequence[Path]],
        processor: Any,
        preprocessing: Preprocessing,
        model_max_length: int,
        cache: FrameCache | None = None,
        guard: DecodeGuard | None = None,
        with_answer: bool = True,
    ) -> None:
        self.records = records
        self.folders = folders
        self.processor = processor
        self.preprocessing = preprocessing
        self.model_max_length = model_max_length
        self.cache = cache
        self.guard = guard
        self.with_answer = with_answer  # False: prompts, up to where generation begins
        self.prepared: PreparedCache | None = None
        self.entries: list[Entry] = []  # of the prepared cache, one a row
        # Shared with the workers, which are forked: what the training process skips they skip from then on.
        self._skipped = np.frombuffer(mmap.mmap(-1, max(1, len(records))), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def answer_format(self) -> AnswerFormat | None:
        """How the rows' pairs are written, where their dataset says so."""
        values = self.preprocessing.answer_format
        return None if values is None else AnswerFormat(**values)

    def use_prepared(self, prepared: PreparedCache) -> None:
        """Read every row from a prepared cache from now on; nothing is decoded or tokenized.

        Raises:
            DrivingError: It was made with other settings, or lacks a row, or a file has changed since.
        """
        prepared.check_rendering(self.preprocessing, self.processor)
        self.entries = prepared.find_rows(self.records, self.folders)
        self.prepared = prepared

    def take(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self.records = [self.records[row] for row in rows]
        self.folders = [self.folders[row] for row in rows]
        if self.prepared is not None:
            self.entries = [self.entries[row] for row in rows]

    def skip_rows(self, indices: Iterable[int]) -> None:
        """Pass these rows over from now on, without another look at their files."""
        self._skipped[list(indices)] = 1

    def __getitem__(self, index: int) -> dict[str, Any] | BadSample:
        index, wants_mirror = (~index, True) if index < 0 else (index, False)
        record = self.records[index]
        if self._skipped[index]:
            return BadSample(record_name(record), "skipped before", row=index)
        mirrored = mirror_record(record, self.answer_format) if wants_mirror else None
        if self.prepared is not None:
            return self._read_prepared(index, self.prepared, mirrored)
        try:
            clip = self.cache.read(index) if self.cache is not None else None
            read = self.guard.read if self.guard is not None else read_clips
            clips = [clip] if clip is not None else read(record, self.preprocessing, self.folders[index])
            if self.cache is not None and clip is None and len(clips) == 1:
                self.cache.write(index, clips[0])
            images = read_images(record, self.preprocessing, self.processor, self.folders[index])
            if mirrored is not None:
                record, clips, images = mirrored, *_mirror_media(clips, images)
            sample = build_inputs(
                record,
                self.processor,
                self.preprocessing,
                with_answer=self.with_answer,
                clips=clips,
                images=images,
            )
        except DecodeHangError as error:
            return BadSample(record_name(record), str(error), stops_run=True, row=index)
        except DrivingError as error:
            return BadSample(record_name(record), str(error), row=index)
        if reason := explain_too_long(len(sample["input_ids"]), self.model_max_length):
            return BadSample(sample["id"], reason, row=index)
        return sample

    def _read_prepared(
        self, index: int, prepared: PreparedCache, mirrored: Record | None
    ) -> dict[str, Any] | BadSample:
        record, entry = self.records[index], self.entries[index]
        reason = entry.reason or explain_too_long(entry.counts[0], self.model_max_length)
        if reason:
            return BadSample(record_name(record), reason, row=index)
        if not self.with_answer:
            clips, folders = prepared.read_clips(entry), self.folders[index]
            try:
                return build_inputs(
                    record, self.processor, self.preprocessing, with_answer=False, clips=clips, folders=folders
                )
            except DrivingError as error:
                return BadSample(record_name(record), str(error), row=index)
        columns, clips, images = prepared.read_tokens(entry), prepared.read_clips(entry), prepared.read_images(entry)
        if mirrored is not None:  # other numbers, other words: its tokens are not in the cache
            clips, images = _mirror_media(clips, images)
            try:
                sample = build_inputs(
                    mirrored, self.processor, self.preprocessing, with_answer=True, clips=clips, images=images
                )
            except DrivingError as error:
                return BadSample(record_name(record), str(error), row=index)
            reason = explain_too_long(len(sample["input_ids"]), self.model_max_length)
            return BadSample(record_name(record), reason, row=index) if reason else sample
        try:
            return build_sample(record, columns, clips, images, self.processor)
        except ValueError as error:  # tokens and frames that do not fit each other
            reason = f"{prepared.folder} is damaged ({error}); delete it and run scripts/prepare_cache.py again"
            return BadSample(record_name(record), reason, stops_run=True, row=index)


def _mirror_media(clips: Sequence[Clip], images: Sequence[np.ndarray]) -> tuple[list[Clip], list[np.ndarray]]:
    return [clip._replace(frames=mirror_frames(clip.frames)) for clip in clips], [*map(mirror_frames, images)]


def explain_too_long(num_tokens: int, model_max_length: int) -> str:
    """Why a sample of this length cannot be used; "" where it can."""
    if num_tokens <= model_max_length:
        return ""
    return f"{num_tokens:,} tokens do not fit --model_max_length {model_max_length:,}; a cut sample lies"
