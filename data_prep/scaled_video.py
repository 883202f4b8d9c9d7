"""A recording at the training frame size in one small mp4, of which segments are read by time (`--cut scaled`).

    frames of all segments ──▶ decoded once, scaled ──▶ encoded once, each at its own recorded time ──▶ <recording>.mp4
    a segment              ──▶ video_start, video_end, frame_indices in that file

A frame that no segment shows is left out. By `choose_frames` this moves no choice: it looks for the smallest worst
distance, and the frames that reach it are all there. So the times alone lead to the same frames as the indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.segment_pixels import RESIZED
from data_prep.segment_plan import Segment
from driving.clock import US_PER_S
from driving.recording import VideoAddress
from driving.whole_files import write_atomically
from video_io import VideoEncoder, VideoInfo
from video_io.decode import iter_scaled
from video_io.decoders import PYAV
from video_io.encode import US

# Decoding starts at a key frame, so every segment begins with one. On two real roads at 256x448 one every 5 frames
# takes 1.2 to 1.3 times the bytes of one every 30 and saves nothing; with one every 60 it is 0.97 times the bytes, and
# a second takes 1.34 times the processor time to read (benchmarks/scaled.py).
KEY_INTERVAL = 30
ENCODING = RESIZED


def describe_encoding() -> str:
    """What decides the bytes beside the pictures, for the plan of a run."""
    return f"{ENCODING} keys at segments and every {KEY_INTERVAL}"


@dataclass(frozen=True)
class ScaledPlan:
    """Which recorded frames a scaled video holds, and when it shows them.

    Attributes:
        frame_indices: (K,) int64 into the recording's frames, strictly increasing.
        times_us: (K,) int64 in the file's own time: recorded time less `zero_us`.
        is_key: (K,) bool, the first frame of a segment.
        zero_us: the instant of the recording's clock at which the file begins.
    """

    frame_indices: np.ndarray
    times_us: np.ndarray
    is_key: np.ndarray
    zero_us: int

    def find(self, segment: Segment) -> np.ndarray:
        """(T,) int64: a segment's frames in the scaled video."""
        return np.searchsorted(self.frame_indices, segment.frame_indices)

    def start_s(self, segment: Segment) -> float:
        """The nominal instant at which a segment begins, in the scaled video's time."""
        return (segment.times.observed.start_us - self.zero_us) / US_PER_S


def plan_scaled(segments: Sequence[Segment], frame_times_us: np.ndarray) -> ScaledPlan:
    """Decide what a recording's scaled video holds.

    Args:
        segments: at least one.
        frame_times_us: (F,) int64 on the recording's clock.
    """
    kept = np.unique(np.concatenate([segment.frame_indices for segment in segments]))
    first = np.unique([segment.frame_indices[0] for segment in segments])
    start_us = min(segment.times.observed.start_us for segment in segments)
    zero_us = min(start_us, int(frame_times_us[kept[0]]))
    return ScaledPlan(kept, frame_times_us[kept] - zero_us, np.isin(kept, first), zero_us)


def encode_scaled(
    address: VideoAddress,
    info: VideoInfo,
    plan: ScaledPlan,
    path: Path,
    *,
    fps: float,
    size: tuple[int, int],
    num_threads: int = 1,
    decoder: str = PYAV,
    key_interval: int = KEY_INTERVAL,
) -> None:
    """Decode the recording once and write the planned frames, scaled to (height, width) `size`.

    Args:
        fps: of a segment; a hint for whoever shows the file.
        key_interval: frames between two key frames at most.

    Raises:
        VideoError: A frame cannot be decoded; nothing is left behind.
        LedgerError: The disk is full.
    """
    frames = iter_scaled(
        address, plan.frame_indices, "yuv420p", info=info, size=size, num_threads=num_threads, decoder=decoder
    )
    with write_atomically(path) as file:
        # By its path: a Ctrl-C while FFmpeg calls back into Python to write is lost, and the bytes with it.
        encoder = VideoEncoder(
            file.name, size, fps, crf=ENCODING.crf, preset=ENCODING.preset, key_interval=key_interval,
            options={"x264-params": ENCODING.options, "forced-idr": "1"}, time_base=US, index_first=True,
        )  # fmt: skip
        for (_, frame), time_us, is_key in zip(frames, plan.times_us.tolist(), plan.is_key.tolist(), strict=True):
            encoder.write(frame, time_us, is_key=is_key)
        encoder.close()
