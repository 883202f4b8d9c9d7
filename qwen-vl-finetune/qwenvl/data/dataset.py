"""Training JSON -> samples: rows, their frames, and exactly the inputs that the model sees.

    train.json ──read_records──▶ record ──read_clips──▶ Clip(uint8 frames, fps) ──build_inputs──▶ sample

A sample is a dict: id, group, input_ids (L,), labels (L,), mm_token_type_ids (L,) int64, videos [(T, H, W, 3) uint8],
images [(1, H, W, 3) uint8]. Evaluation calls `read_clips` and `build_inputs` too, so that what is asked is what was
taught. T = frames, H x W = frame size in px, L = tokens
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from driving.errors import DrivingError, RecordError, VideoError
from driving.records import check_record, media_paths, messages_from_record, record_name
from qwenvl.data.frame_cache import Clip, FrameCache
from qwenvl.data.labels import tokenize_conversation
from qwenvl.data.pixels import plan_image_size, plan_num_frames, plan_video_size, render_image_block, render_video_block
from qwenvl.data.preprocessing import Preprocessing

Record = dict[str, Any]
LONGEST_SHOWN = 120  # characters of a path in a message
FRAME_TOLERANCE = 0.75  # of a frame interval, as when segments are cut
NOMINAL_RATE_TOLERANCE = 0.05  # a 9.62 Hz camera read at 10 fps stands on the 10 fps grid, in time stamps too


class BadSample(NamedTuple):
    """A row that cannot be trained on, and why; it goes to the ledger instead of into the batch."""

    id: str
    reason: str


def read_records(path: Path) -> list[Record]:
    """Read a training JSON (a list) or JSON lines; every row gets an id.

    Raises:
        RecordError: The file is missing, is not JSON, holds something else than rows, or holds none.
    """
    path = Path(path)
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


def find_media(path: str, folders: Sequence[Path]) -> Path:
    """The first of `folders` that holds the file; absolute paths are taken as they are.

    Raises:
        VideoError: None of them does.
    """
    if Path(path).is_absolute():
        candidates = [Path(path)]
    else:
        candidates = list(dict.fromkeys(Path(folder) / path for folder in [*folders, Path()]))
    for candidate in candidates:
        try:
            if candidate.exists():
                return candidate
        except OSError as error:
            shown = path if len(path) <= LONGEST_SHOWN else path[:LONGEST_SHOWN] + "..."
            raise VideoError(f"{shown} cannot be looked for: {error.strerror} ({len(path):,} characters)") from error
    looked = ", ".join(dict.fromkeys(str(candidate.parent) for candidate in candidates))
    raise VideoError(f"{path} is not there (looked in {looked}); cut the segments again, or set the data path")


def check_static(record: Record, folders: Sequence[Path]) -> None:
    """What can be known without decoding: the record's shape, and that its files are there.

    Raises:
        RecordError, VideoError: The reason, for the ledger.
    """
    check_record(record)
    _check_window(record)
    for kind in ("video", "image"):
        for path in media_paths(record, kind):
            find_media(path, folders)


def _check_window(record: Record) -> None:
    """Raise unless video_start, video_end and frame_indices, where given, can choose frames."""
    name = record_name(record)
    for key in ("video_start", "video_end"):
        value = record.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise RecordError(f"{name}: {key} {str(value)[:80]!r} is not a number of seconds")
    listed = record.get("frame_indices")
    if listed is not None and (
        not isinstance(listed, list) or not listed or not all(type(index) is int and index >= 0 for index in listed)
    ):
        raise RecordError(f"{name}: frame_indices {str(listed)[:80]} must be a list of frame numbers, at least one")


def read_clips(record: Record, preprocessing: Preprocessing, folders: Sequence[Path] = ()) -> list[Clip]:
    """Decode the videos of a record at the frames and size that `preprocessing` asks for.

    Raises:
        VideoError: A file is missing or cannot give the frames.
    """
    clips = []
    for path in media_paths(record, "video"):
        clips.append(_read_clip(record, find_media(path, folders), preprocessing))
    return clips


def _read_clip(record: Record, path: Path, preprocessing: Preprocessing) -> Clip:
    from driving.recording import VideoAddress
    from video_io.clips import plan_clip
    from video_io.decode import decode_frames
    from video_io.pictures import list_pictures
    from video_io.probe import probe_video

    if path.is_dir():
        address = VideoAddress(str(path), frames=list_pictures(path))
        if not address.frames:
            raise VideoError(f"{path} is a folder without pictures (.png, .jpg)")
    else:
        address = VideoAddress(str(path), record.get("member") or "")
    info = probe_video(address)
    start_s, stop_s, listed = record.get("video_start"), record.get("video_end"), record.get("frame_indices")
    num_recorded, duration_s = _measure_clip(info.num_frames, info.fps_median, record, preprocessing.video_fps)
    num_frames = plan_num_frames(num_recorded, duration_s, preprocessing)
    clip_fps = round(num_frames / duration_s, 6)
    if listed is not None:
        indices = np.asarray(listed)[np.arange(num_frames) * num_recorded // num_frames]
    else:
        indices = plan_clip(
            address,
            info,
            fps=clip_fps,
            num_frames=num_frames,
            start_s=start_s,
            stop_s=stop_s,
            tolerance=FRAME_TOLERANCE,
        )
    size = plan_video_size(info.height, info.width, num_frames, preprocessing)
    return Clip(decode_frames(address, indices, size, preprocessing.scaler, info=info), clip_fps)


def _measure_clip(num_frames: int, fps_median: float, record: Record, fps: float) -> tuple[int, float]:
    """(frames that a clip holds, its duration in seconds): a second of a recording, chosen frames, or a whole file."""
    start_s, stop_s, listed = record.get("video_start"), record.get("video_end"), record.get("frame_indices")
    is_nominal = fps_median == 0 or abs(fps_median / fps - 1) <= NOMINAL_RATE_TOLERANCE
    rate = fps if is_nominal else fps_median
    if start_s is None or stop_s is None:
        num_held = num_frames if listed is None else len(listed)
        return num_held, num_held / rate
    duration_s = float(stop_s) - float(start_s)
    if duration_s <= 0:
        raise VideoError(f"{record_name(record)}: video_start {start_s} is not before video_end {stop_s}")
    num_held = len(listed) if listed is not None else min(num_frames, max(1, round(duration_s * rate)))
    return num_held, duration_s


def read_images(record: Record, preprocessing: Preprocessing, processor: Any, folders: Sequence[Path]) -> list:
    """Read the still images of a record, each (1, H, W, 3) uint8 at the size the model is shown."""
    paths = media_paths(record, "image")
    if not paths:
        return []
    from PIL import Image

    from video_io.pictures import read_picture

    images = []
    for path in paths:
        picture = read_picture(find_media(path, folders))
        height, width = plan_image_size(*picture.shape[:2], preprocessing, processor.image_processor)
        if picture.shape[:2] != (height, width):
            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
        images.append(picture[None])
    return images


def build_inputs(
    record: Record,
    processor: Any,
    preprocessing: Preprocessing,
    *,
    with_answer: bool,
    clips: Sequence[Clip] | None = None,
    folders: Sequence[Path] = (),
) -> dict[str, Any]:
    """One sample, as training sees it (`with_answer`) or up to where generation begins.

    Args:
        clips: the videos' frames, where they were read (or altered) before; None reads them.
        folders: where relative paths are looked for.

    Raises:
        RecordError, VideoError: The reason why the record cannot be used.
    """
    import torch

    messages = messages_from_record(record)
    if clips is None:
        clips = read_clips(record, preprocessing, folders)
    images = read_images(record, preprocessing, processor, folders)
    video_blocks = [render_video_block(processor, *clip.frames.shape[:3], clip.fps) for clip in clips]
    image_blocks = [render_image_block(processor, *image.shape[1:3]) for image in images]
    waiting = {"video": iter(video_blocks), "image": iter(image_blocks)}
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    blocks = [next(waiting[part["type"]]) for part in parts if part["type"] in waiting]
    tokens = tokenize_conversation(messages, processor, blocks, with_answer=with_answer)
    return {
        "id": record_name(record),
        "group": str(record.get("group", record_name(record))),
        "input_ids": torch.tensor(tokens.input_ids),
        "labels": torch.tensor(tokens.labels),
        "mm_token_type_ids": torch.tensor(tokens.mm_token_type_ids),
        "video_fps": [clip.fps for clip in clips],
        "videos": [torch.from_numpy(np.ascontiguousarray(clip.frames)) for clip in clips],
        "images": [torch.from_numpy(np.array(image)) for image in images],
    }


class DrivingDataset:
    """Rows as samples for a DataLoader: `dataset[i]` is a sample, or a BadSample where the row cannot be used.

    Only faults of the input become BadSamples; a fault of ours is raised.
    """

    def __init__(
        self,
        records: Sequence[Record],
        folders: Sequence[Sequence[Path]],
        processor: Any,
        preprocessing: Preprocessing,
        model_max_length: int,
        cache: FrameCache | None = None,
    ) -> None:
        self.records = records
        self.folders = folders
        self.processor = processor
        self.preprocessing = preprocessing
        self.model_max_length = model_max_length
        self.cache = cache

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any] | BadSample:
        record = self.records[index]
        try:
            clip = self.cache.read(index) if self.cache is not None else None
            clips = [clip] if clip is not None else read_clips(record, self.preprocessing, self.folders[index])
            if self.cache is not None and clip is None and len(clips) == 1:
                self.cache.write(index, clips[0])
            sample = build_inputs(
                record,
                self.processor,
                self.preprocessing,
                with_answer=True,
                clips=clips,
                folders=self.folders[index],
            )
        except DrivingError as error:
            return BadSample(record_name(record), str(error))
        num_tokens = len(sample["input_ids"])
        if num_tokens > self.model_max_length:
            reason = f"{num_tokens:,} tokens do not fit --model_max_length {self.model_max_length:,}; a cut sample lies"
            return BadSample(sample["id"], reason)
        return sample
