"""The whole stage of segments, as `benchmarks.prep` measures it: with one worker and two, and without pixels.

drawn 1080p recordings ──run, 1 worker | 2 workers──▶ two_workers_speedup     wall time, in turn, median ratio
drawn ego motion       ──run, --cut index───────────▶ index_segments_per_s    of one processor
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from data_prep import segment_index
from data_prep.segment_options import SegmentOptions
from data_prep.segments import SegmentSummary, run
from data_prep.synthetic import clip, draw_motion, write_dataset

SECONDS = 20  # of a recording, as PhysicalAI-AV's are


def measure_workers(video: Path, folder: Path, num_recordings: int, repeats: int) -> dict[str, float]:
    """The same recordings cut by one worker and by two, one run after the other."""
    recordings = folder / "recordings"
    recordings.mkdir(parents=True)
    for number in range(num_recordings):
        os.link(video, recordings / f"{number:03d}.mp4")
    speedups = []
    for _ in range(repeats):
        one_s, two_s = (
            _measure(SegmentOptions(recordings, folder / "cut", source="folder", workers=workers), time.perf_counter)[0]
            for workers in (1, 2)
        )
        print(f"{num_recordings} recordings: {one_s:.1f} s with one worker, {two_s:.1f} s with two")
        speedups.append(one_s / two_s)
    return {"two_workers_speedup": round(statistics.median(speedups), 3)}


def measure_index(folder: Path, num_recordings: int, repeats: int) -> dict[str, float]:
    """Rows and labels of many recordings in archives; all work of the stage, as in a run of any size.

    The index of so few would be copied into one file and its JSON twin; that of a large run stays with its chunks.
    """
    draw_recordings(folder / "drives", num_recordings)
    options = SegmentOptions(folder / "drives", folder / "index", cut="index", workers=1)
    with patch.object(segment_index, "MAX_FILE_ROWS", 0):
        rates = [
            summary.num_segments / cpu_s
            for cpu_s, summary in (_measure(options, time.process_time) for _ in range(repeats))
        ]
    print(f"{num_recordings} recordings, rows only: " + ", ".join(f"{rate:,.0f}" for rate in rates) + " segments/s")
    return {"index_segments_per_s": round(statistics.median(rates))}


def draw_recordings(root: Path, num_recordings: int) -> None:
    """Recordings in PhysicalAI-AV's archives, each with a drive of its own; all have the first one's pictures."""
    pictures: list[bytes] = []
    encode = clip.encode_clip

    def encode_once(frames: object, camera: object) -> bytes:
        pictures.extend([] if pictures else [encode(frames, camera)])
        return pictures[0]

    motions = [draw_motion(7, index, SECONDS + 1.0) for index in range(num_recordings)]
    with patch.object(clip, "encode_clip", encode_once):
        write_dataset(root, motions, seconds=SECONDS, height=32, width=64)


def _measure(options: SegmentOptions, clock: Callable[[], float]) -> tuple[float, SegmentSummary]:
    """Seconds of one run into an empty folder; what it prints is not shown."""
    shutil.rmtree(options.output_dir, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        start_s = clock()
        summary = run(options)
        return clock() - start_s, summary
