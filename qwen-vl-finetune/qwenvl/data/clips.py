"""From a row to its pictures: which file, which frames, at which size; then the pixels.

    record ──plan_clips──▶ [ClipPlan]   headers only, nothing is decoded
           ──read_clips──▶ [Clip]       the frames of those plans

Whatever counts tokens uses the plans, whatever shows pixels the clips: both know the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from driving.clock import US_PER_S
from driving.errors import VideoError
from driving.records import media_paths, record_name
from qwenvl.data.frame_cache import Clip
from qwenvl.data.pixels import plan_image_size, plan_num_frames, plan_video_size
from qwenvl.data.preprocessing import GREY, Preprocessing

if TYPE_CHECKING:
    from driving.recording import VideoAddress
    from video_io.probe import VideoInfo

Record = dict[str, Any]
LONGEST_SHOWN = 120  # characters of a path in a message
FRAME_TOLERANCE = 0.75  # of a frame interval, as when segments are cut
NOMINAL_RATE_TOLERANCE = 0.05  # a 9.62 Hz camera read at 10 fps stands on the 10 fps grid, in time stamps too


class ClipPlan(NamedTuple):
    """A clip that is not decoded yet: these frames of this file, at this height and width in px and nominal rate."""

    address: VideoAddress
    info: VideoInfo
    indices: np.ndarray
    size: tuple[int, int]
    fps: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width in px, as the decoded clip will have them."""
        return (len(self.indices), *self.size)


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


def plan_clips(record: Record, preprocessing: Preprocessing, folders: Sequence[Path] = ()) -> list[ClipPlan]:
    """Choose frames and size of each video of a record, from its headers.

    Raises:
        VideoError: A file is missing or cannot give the frames.
    """
    return [_plan_clip(record, find_media(path, folders), preprocessing) for path in media_paths(record, "video")]


def read_clips(
    record: Record,
    preprocessing: Preprocessing,
    folders: Sequence[Path] = (),
    *,
    allocate: Callable[[tuple[int, ...]], np.ndarray] | None = None,
) -> list[Clip]:
    """Decode the videos of a record at the frames and size that `preprocessing` asks for; grey ones where it is blind.

    Args:
        allocate: gives the uint8 array of a shape, in memory of the caller's choice.

    Raises:
        VideoError: A file is missing or cannot give the frames.
    """
    plans = plan_clips(record, preprocessing, folders)
    if preprocessing.blind:
        return [Clip(_fill_grey(plan, allocate), plan.fps) for plan in plans]
    from video_io.decode import decode_frames

    return [
        Clip(
            decode_frames(
                plan.address, plan.indices, plan.size, preprocessing.scaler, info=plan.info, allocate=allocate
            ),
            plan.fps,
        )
        for plan in plans
    ]


def _fill_grey(plan: ClipPlan, allocate: Callable[[tuple[int, ...]], np.ndarray] | None) -> np.ndarray:
    frames = (allocate or partial(np.empty, dtype=np.uint8))((*plan.shape, 3))
    frames[...] = GREY
    return frames


def _plan_clip(record: Record, path: Path, preprocessing: Preprocessing) -> ClipPlan:
    from driving.recording import VideoAddress
    from video_io.clips import plan_clip
    from video_io.decode import check_indices
    from video_io.pictures import list_pictures

    if path.is_dir():
        address = VideoAddress(str(path), frames=list_pictures(path))
        if not address.frames:
            raise VideoError(f"{path} is a folder without pictures (.png, .jpg)")
    else:
        within = record.get("byte_range")
        address = VideoAddress(str(path), record.get("member") or "", byte_range=within and (within[0], within[1]))
    status = path.stat()
    info = _probe(address, status.st_size, status.st_mtime_ns)
    start_s, stop_s, listed = record.get("video_start"), record.get("video_end"), record.get("frame_indices")
    num_recorded, duration_s = _measure_clip(info.num_frames, info.fps_median, record, preprocessing.video_fps)
    num_frames = plan_num_frames(num_recorded, duration_s, preprocessing)
    clip_fps = round(num_frames / duration_s, 6)
    if listed is not None:
        indices = np.asarray(listed)[_thin(num_recorded, num_frames, duration_s)]
        check_indices(address, info, indices)
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
    return ClipPlan(address, info, np.asarray(indices), size, clip_fps)


def _thin(num_listed: int, num_frames: int, duration_s: float) -> np.ndarray:
    """(num_frames,) int64 places: those of the listed frames that a file of these frames alone would give."""
    from driving.sampling import choose_frames

    listed_us, wanted_us = (
        np.round(np.arange(count) * duration_s * US_PER_S / count).astype(np.int64)
        for count in (num_listed, num_frames)
    )
    return choose_frames(listed_us, wanted_us)[0]


@lru_cache(maxsize=16)
def _probe(address: VideoAddress, num_bytes: int, changed_ns: int) -> VideoInfo:
    """Headers are kept for a while: the seconds of one recording stand one after the other in a training JSON."""
    from video_io.mp4_index import peek_video

    return peek_video(address)


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


def plan_images(
    record: Record, preprocessing: Preprocessing, processor: Any, folders: Sequence[Path]
) -> list[tuple[Path, tuple[int, int]]]:
    """The still images of a record, each with the height and width in px at which the model is shown it."""
    from video_io.pictures import probe_picture

    plans = []
    for name in media_paths(record, "image"):
        path = find_media(name, folders)
        plans.append((path, plan_image_size(*probe_picture(path), preprocessing, processor.image_processor)))
    return plans


def read_images(record: Record, preprocessing: Preprocessing, processor: Any, folders: Sequence[Path]) -> list:
    """Read the still images of a record, each (1, H, W, 3) uint8 at the size the model is shown."""
    plans = plan_images(record, preprocessing, processor, folders)
    if not plans:
        return []
    if preprocessing.blind:
        return [np.full((1, *size, 3), GREY, np.uint8) for _, size in plans]
    from PIL import Image

    from video_io.pictures import read_picture

    images = []
    for path, (height, width) in plans:
        picture = read_picture(path)
        if picture.shape[:2] != (height, width):
            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
        images.append(picture[None])
    return images
