"""Which seconds of a video a model is asked about, and as which records: any rate, length and rotation.

VideoInfo ──plan_seconds──▶ [Second]  touching windows from the first frame, each with the window it predicts
          ──build_records──▶ the records that training would have asked about the same seconds (cut = index)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.answer_format import AnswerFormat
from driving.clock import US_PER_S
from driving.errors import VideoError
from driving.records import build_messages, conversations_from_messages
from video_io.probe import VideoInfo

MIN_FPS = 2.0  # below it a second holds one picture, in which nothing moves
LOWEST_NOMINAL = 0.95  # of the taught rate, as when segments are cut


@dataclass(frozen=True)
class Second:
    """One window that the model sees; it predicts the one of the same length that follows.

    Attributes:
        index: s, from 0.
        start_s, stop_s: in the video's own time, half-open.
    """

    index: int
    start_s: float
    stop_s: float

    @property
    def duration_s(self) -> float:
        return self.stop_s - self.start_s


def plan_seconds(info: VideoInfo, duration_s: float, name: str, every_s: float = 0.0) -> list[Second]:
    """All whole windows that the frames fill, the first one from the first frame on.

    Args:
        name: of the video, for messages.
        every_s: from the start of one window to that of the next; 0 for windows that touch.

    Raises:
        VideoError: The video tells no times, has too few frames a second, or is shorter than one window.
    """
    times_us = info.frame_times_us
    if times_us is None:
        raise VideoError(
            f"{name} tells no frame times (a bare stream); give it some: ffmpeg -framerate 20 -i {name} -c copy out.mp4"
        )
    if info.num_frames < 2:
        raise VideoError(f"{name} holds one frame only, in which nothing moves; give a video")
    if info.fps_median < MIN_FPS:
        raise VideoError(
            f"{name} has {info.fps_median:.2f} frames a second; at least {MIN_FPS:g} are needed to see anything move"
        )
    interval_s = 1 / info.fps_median
    first_s, shown_s = times_us[0] / US_PER_S, (times_us[-1] - times_us[0]) / US_PER_S + interval_s
    step_s, room_s = every_s or duration_s, shown_s + interval_s / 2 - duration_s
    if room_s < 0:
        raise VideoError(f"{name} lasts {shown_s:.2f} s; the model is asked about {duration_s:g} s at a time")
    starts_s = [float(first_s + index * step_s) for index in range(int(room_s / step_s) + 1)]
    return [Second(index, start_s, start_s + duration_s) for index, start_s in enumerate(starts_s)]


def build_records(
    video: Path, seconds: list[Second], answer_format: AnswerFormat, prompt_example: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """One record a second, with the prompt that the model was taught: its system turn where training had it.

    Args:
        prompt_example: of the checkpoint's preprocessing; None where it has none.

    Raises:
        DrivingError: The model must be told how the car moved, which a video does not say.
    """
    turns = (prompt_example or {}).get("conversations") or [{"from": "system"}]
    has_system = turns[0]["from"] == "system"
    path = str(video.resolve())
    messages = build_messages(answer_format.system_prompt, path, answer_format.question, "")
    turns = conversations_from_messages(messages, keep_system=has_system)
    return [
        {
            "id": f"{video.stem}_seg_{second.index:04d}",
            "group": video.stem,
            **turns,
            "video_start": second.start_s,
            "video_end": second.stop_s,
        }
        for second in seconds
    ]


def explain_rate(info: VideoInfo, taught_fps: float) -> str:
    """What to say where the video has fewer frames a second than the model was taught with; else ""."""
    if info.fps_median >= LOWEST_NOMINAL * taught_fps:
        return ""
    return f"recorded at {info.fps_median:.3g} frames a second, the model was taught with {taught_fps:g}"
