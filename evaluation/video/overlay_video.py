"""A video with the predicted path in it: at each instant only what was predicted from the frames before it.

    frame at t ──find_answer──▶ the prediction whose window holds t ──move_to_now──▶ path ahead at t ──▶ drawn

The path is moved by the predicted motion itself, as no other is known. The first window is watched, nothing is drawn.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driving.camera import CameraModel
from driving.clock import US_PER_S
from driving.errors import VideoError
from driving.recording import VideoAddress
from driving.trajectory import Trajectory, integrate, repeat_to_rate
from evaluation.video.birds_eye import choose_reach
from evaluation.video.overlay import DrawnPath, describe_motion, draw_path, draw_readout
from evaluation.video.seconds import Second
from video_io.decode import iter_frames
from video_io.encode import write_video
from video_io.probe import VideoInfo

PARTS = 8  # a pair is cut into so many arcs: where the car is between two of them


@dataclass(frozen=True)
class Shown:
    """What is drawn while a window lasts.

    Attributes:
        second: the window that was seen; the next one is drawn.
        trajectory: of the answer; None where there is none.
        reason: why there is none.
    """

    second: Second
    trajectory: Trajectory | None
    reason: str = ""


def find_answer(shown: Sequence[Shown], time_s: float) -> Shown | None:
    """The newest answer about the instant `time_s` of the video; None in the first window and after the last one.

    Args:
        shown: in the order of their windows.
    """
    newest = bisect.bisect_right(shown, time_s, key=lambda one: one.second.stop_s) - 1
    if newest < 0 or time_s >= shown[newest].second.stop_s + shown[newest].second.duration_s:
        return None
    return shown[newest]


def move_to_now(trajectory: Trajectory, duration_s: float, elapsed_s: float) -> np.ndarray:
    """The predicted path as the car sees it after `elapsed_s` of it: (N, 3) poses in its frame of that instant."""
    fine = repeat_to_rate(trajectory, PARTS * len(trajectory))
    poses = integrate(fine, duration_s / len(fine))
    now = min(len(fine), int(elapsed_s / duration_s * len(fine) + 0.5))
    x, y, heading = poses[now]
    ahead, left = poses[:, 0] - x, poses[:, 1] - y
    cosine, sine = np.cos(heading), np.sin(heading)
    moved = [cosine * ahead + sine * left, cosine * left - sine * ahead, poses[:, 2] - heading]
    return np.stack(moved, axis=-1)


def draw_moment(
    frame: np.ndarray, time_s: float, shown: Sequence[Shown], camera: CameraModel | None, note: str, reach_m: float
) -> np.ndarray:
    """One frame of the overlay: (H, W, 3) uint8 in, the same out."""
    answer = find_answer(shown, time_s)
    if answer is None:
        is_before = time_s < shown[0].second.stop_s
        return draw_readout(frame, ["watching"] if is_before else [], note)
    if answer.trajectory is None:
        return draw_readout(frame, ["no prediction", answer.reason], note)
    second = answer.second
    elapsed_s = time_s - second.stop_s
    poses = move_to_now(answer.trajectory, second.duration_s, elapsed_s)
    drawn = draw_path(frame, camera, [DrawnPath(poses)], inset=True, reach_m=reach_m)
    pair = min(len(answer.trajectory) - 1, int(elapsed_s / second.duration_s * len(answer.trajectory)))
    velocity, curvature = answer.trajectory.to_pairs()[pair]
    return draw_readout(drawn, [*describe_motion(velocity, curvature), _describe_source(second, shown)], note)


def _describe_source(second: Second, shown: Sequence[Shown]) -> str:
    zero_s = shown[0].second.start_s
    start, stop = second.start_s - zero_s, second.stop_s - zero_s
    return f"predicted for {stop:g} to {stop + second.duration_s:g} s from {start:g} to {stop:g} s"


def write_overlay(
    out: Path,
    address: VideoAddress,
    info: VideoInfo,
    shown: Sequence[Shown],
    camera: CameraModel | None,
    *,
    note: str = "",
    max_height_px: int = 1080,
) -> str:
    """Draw the frames up to the end of the last prediction, as one mp4 at the video's own times, without its sound.

    Args:
        note: stands in every frame.
        max_height_px: a higher video is scaled down to it.

    Returns:
        Why it ends before its time, where a frame cannot be decoded; else "".

    Raises:
        VideoError: Not one frame can be decoded.
    """
    from tqdm import tqdm

    height = min(info.height, max_height_px) // 2 * 2
    size = (height, max(2, round(info.width * height / info.height) // 2 * 2))
    times_us = np.asarray(info.frame_times_us)
    times_s = times_us / US_PER_S
    num_frames = int(np.searchsorted(times_s, shown[-1].second.stop_s + shown[-1].second.duration_s))
    reach_m = choose_reach([DrawnPath(path) for path in _list_paths(shown)])
    faults: list[VideoError] = []

    def draw() -> Iterator[np.ndarray]:
        num_drawn = 0
        try:
            for index, frame in iter_frames(address, range(num_frames), size=size, info=info, num_threads=2):
                yield draw_moment(frame, float(times_s[index]), shown, camera, note, reach_m)
                num_drawn += 1
                bar.update()
        except VideoError as error:
            if not num_drawn:
                raise
            faults.append(error)

    with tqdm(total=num_frames, unit="frame", desc="draw") as bar:
        write_video(out, draw(), info.fps_median, pts_us=(times_us - times_us[0]).tolist())
    return str(faults[0]) if faults else ""


def _list_paths(shown: Sequence[Shown]) -> list[np.ndarray]:
    return [move_to_now(one.trajectory, one.second.duration_s, 0.0) for one in shown if one.trajectory is not None]
