"""BDD100K videos and info files as a test wants them: drawn .mov files, logs computed by hand. Not a test itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

START_MS = 1_503_000_000_000
FPS = 10
MILLISECOND = Fraction(1, 1000)


def write_log(path: Path, **changes) -> dict:
    """An info file of 10 s at 10 m/s to the north, one fix a second from the first frame on; or with changes."""
    log = {
        "rideID": "0000f77c0000f77c0000f77c0000f77c", "id": "x", "filename": "no video is called so.mov",
        "startTime": START_MS, "endTime": START_MS + 10_000, "timelapse": False,
        "locations": fixes(lambda t: 10.0), "gps": [], "accelerometer": [], "gyro": [],
    } | changes  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: value for name, value in log.items() if value is not None}))
    return log


def fixes(speed: Callable, course: Callable = lambda t: 0.0, seconds=range(11)) -> list[dict]:
    """One fix at each of these seconds after the start."""
    return [
        {"timestamp": START_MS + round(t * 1000), "speed": speed(t), "course": course(t), "latitude": 37.8,
         "longitude": -122.3, "accuracy": 10}
        for t in seconds
    ]  # fmt: skip


def gyro_and_gravity(yaw_rate: Callable, down: tuple, *, hz: int = 20, seconds: int = 10, sign: float = 1.0) -> dict:
    """Both lists of a phone that sees gravity along `down`: `yaw_rate(t)` rad/s about it, and a shake that is none."""
    axis = np.array(down) / np.linalg.norm(down)
    times = np.arange(0, seconds * hz + 1) / hz
    stamp = [START_MS + round(t * 1000) for t in times]
    return {
        "gyro": [
            {"timestamp": at, **dict(zip("xyz", (sign * yaw_rate(t) * axis).tolist(), strict=True))}
            for at, t in zip(stamp, times, strict=True)
        ],
        "accelerometer": [
            {"timestamp": at, **dict(zip("xyz", (np.array(down) + 0.01 * (-1) ** i).tolist(), strict=True))}
            for i, at in enumerate(stamp)
        ],
    }


def draw_mov(path: Path, *, seconds: float = 10, times_s=None, rotation: int = 0, first_s: float = 0.0) -> None:
    """A QuickTime video whose frame i is grey 10 + i; 64 wide, 48 high as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times_s = np.arange(round(seconds * FPS)) / FPS if times_s is None else times_s
    with av.open(str(path), "w", format="mov") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "1", "preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        video.codec_context.time_base = MILLISECOND
        if rotation:
            video.set_display_rotation(rotation)
        for index, at_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), 10 + index, np.uint8), "gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = round((first_s + at_s) * 1000), MILLISECOND
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
