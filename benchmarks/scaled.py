"""What one small video a recording costs beside one file a segment, and how far apart its key frames should be.

    a recording cut as resized and as scaled ──▶ measure_scaled ──▶ keys of benchmarks.prep

`uv run python -m benchmarks.scaled VIDEO... [--json FILE]` encodes the first seconds of real videos with key frames at
different distances, and prints one JSON object as its last line:

    key_intervals.<video>.<n>.bytes_per_second    with a key frame every n frames
    key_intervals.<video>.<n>.read_ms             processor time of decoding 30 frames that begin at a multiple of 30
    key_intervals.<video>.<n>.read_anywhere_ms    the same from any frame on
    key_intervals.<video>.files                   one file a second: bytes and time
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import build_parser, describe_machine, describe_versions, print_numbers
from data_prep.chunk_videos import archive_path, pack_videos, waiting_path
from data_prep.export.cut_out import cut_out
from data_prep.scaled_video import ScaledPlan, encode_scaled
from data_prep.segment_pixels import RESIZED, SegmentFile, encode_segments
from driving.frame_size import FRAME_PIXELS, plan_frame_size
from driving.recording import VideoAddress
from video_io import decode_frames, probe_video

FPS = 30.0
PER_SECOND = round(FPS)
KEY_INTERVALS = (1, 5, 10, 15, 30, 60, 120)
NUM_MEMBERS = 100  # recordings of a chunk
NUM_READS = 200
REPEATS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Compare key frame distances on the videos that are named."""
    parser = build_parser("scaled", __doc__)
    parser.add_argument("videos", type=Path, nargs="+", help="recordings at 25 to 30 frames a second")
    parser.add_argument("--seconds", type=int, default=8, help="of each, at most")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = {video.name: compare_key_intervals(video, Path(folder), args.seconds) for video in args.videos}
    versions = describe_versions(("av", "numpy"))
    print_numbers({"key_intervals": found, "machine": describe_machine(), "versions": versions}, args.json)
    return 0


def compare_key_intervals(video: Path, folder: Path, seconds: int) -> dict[str, Any]:
    """Size and cost of reading, by the distance of key frames."""
    address = VideoAddress(str(video))
    info = probe_video(address)
    num_frames = min(seconds * PER_SECOND, info.num_frames) // PER_SECOND * PER_SECOND
    size = plan_frame_size(info.height, info.width, FRAME_PIXELS)
    steps, path = np.arange(num_frames), folder / "a.mp4"
    found: dict[str, Any] = {}
    for interval in KEY_INTERVALS:
        plan = ScaledPlan(steps, np.round(steps * 1e6 / FPS).astype(np.int64), steps % interval == 0, 0)
        encode_scaled(address, info, plan, path, fps=FPS, size=size, key_interval=interval)
        whole, anywhere = range(0, num_frames - PER_SECOND + 1, PER_SECOND), range(7, num_frames - PER_SECOND, 13)
        found[str(interval)] = {
            "bytes_per_second": round(path.stat().st_size / num_frames * FPS),
            "read_ms": measure_decoding(path, whole),
            "read_anywhere_ms": measure_decoding(path, anywhere),
        }
    files = [SegmentFile(folder / f"{start:04d}.mp4", steps[start : start + PER_SECOND]) for start in whole]
    encode_segments(address, info, files, fps=FPS, size=size, encoding=RESIZED)
    found["files"] = {
        "bytes_per_second": round(statistics.mean(file.path.stat().st_size for file in files)),
        "read_ms": round(statistics.mean(measure_decoding(file.path, [0]) for file in files), 2),
    }
    return found


def measure_decoding(path: Path, starts: Sequence[int]) -> float:
    """Processor milliseconds of decoding 30 frames, headers read before; the mean over the starts."""
    address = VideoAddress(str(path))
    info = probe_video(address)
    return round(
        statistics.mean(
            min(
                measure_cpu_ms(lambda start=start: decode_frames(address, range(start, start + PER_SECOND), info=info))
                for _ in range(REPEATS)
            )
            for start in starts
        ),
        2,
    )


def measure_cpu_ms(way: Callable[[], object]) -> float:
    start = time.process_time()
    way()
    return 1e3 * (time.process_time() - start)


def measure_scaled(
    scaled_dir: Path, recording_id: str, rows: Sequence[dict[str, Any]], files: Sequence[Path]
) -> tuple[dict[str, float], list[Path]]:
    """Keys of benchmarks.prep: bytes, and what reading a second of a chunk's archive costs beside a file of its own.

    Args:
        scaled_dir: where `recording_id` was cut as scaled, and its video waits to be packed.
        rows: of its segments.
        files: the same segments as files, in the same order.

    Returns:
        (numbers, the segments cut out of the scaled video, packets copied).
    """
    video = waiting_path(scaled_dir, recording_id)
    cuts = [scaled_dir / "cut_out" / path.name for path in files]
    archive = fill_archive(scaled_dir, video)
    for row, target in zip(rows, cuts, strict=True):
        cut_out({**row, "member": "0000.mp4"}, archive, FPS, target)
    numbers = {
        "scaled_bytes_per_second": round(video.stat().st_size / len(rows)),
        "scaled_read_over_resized_read": compare_reading(archive, rows, files),
    }
    return numbers, cuts


def fill_archive(scaled_dir: Path, video: Path) -> Path:
    """A chunk's archive that holds one video a hundred times."""
    names = [f"{number:04d}" for number in range(NUM_MEMBERS)]
    for name in names:
        os.link(video, waiting_path(scaled_dir, name))
    pack_videos(scaled_dir, "chunk_0000", names)
    return archive_path(scaled_dir, "chunk_0000")


def compare_reading(archive: Path, rows: Sequence[dict[str, Any]], files: Sequence[Path]) -> float:
    """Processor time of one clip for training, out of an archive / out of a file; another recording each time."""
    from qwenvl.data.clips import read_clips
    from qwenvl.data.preprocessing import Preprocessing

    preprocessing = Preprocessing()
    copies = [archive.with_name(f"{number:04d}.mp4") for number in range(NUM_MEMBERS)]
    for number, copy in enumerate(copies):
        os.link(files[number % len(files)], copy)
    spent: dict[str, list[float]] = {"scaled": [], "resized": []}
    for number in range(NUM_READS):
        row = rows[number % NUM_MEMBERS % len(rows)]
        place = {name: row[name] for name in ("video_start", "video_end", "frame_indices")}
        within = {"video": str(archive), "member": f"{number % NUM_MEMBERS:04d}.mp4", **place}
        alone = {"video": str(copies[number % NUM_MEMBERS])}
        for name, record in (("scaled", within), ("resized", alone)):
            spent[name].append(measure_cpu_ms(lambda record=record: read_clips(record, preprocessing)))
    return round(statistics.median(spent["scaled"]) / statistics.median(spent["resized"]), 3)


if __name__ == "__main__":
    sys.exit(main())
