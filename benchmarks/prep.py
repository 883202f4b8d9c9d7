"""What cutting a recording into segments costs, as multiples of decoding it once.

    drawn 1080p clips, about 8 Mbit/s ──▶ decode | resized | scaled | copy | index | the seed's way
                                         (in turn, CPU seconds of one thread each, medians)

`uv run python -m benchmarks.prep [--json FILE]` makes its own input, takes about seven minutes on two cores, and prints
one JSON object as its last line:

    resized_over_decode          segments at 256x448, all work of a recording / decoding its frames once
    psnr_db                      worst segment, luma, against the scaled frames before encoding
    bytes_per_segment            mean size of a resized segment
    seed_way_over_resized        open, seek, decode to BGR and encode as MPEG-4 at full size, once a segment / resized
    seed_way_over_resized_gop30  the same where every second of the recording starts with a key frame
    copy_over_decode             full resolution by copying packets, key frames on the segments' starts / decode
    index_over_decode            rows and labels only, no files / decode
    two_workers_speedup          the whole stage with one worker / with two, wall time of the same recordings, in turn
    index_segments_per_s         the whole stage with --cut index, segments a second of one processor
    scaled_over_decode           one small video a recording (--cut scaled), all work / decode
    scaled_bytes_per_second, scaled_psnr_db
    cpu_s_per_video_s            processor seconds of each way for a second of the recording, all work
    input_mbit_s                 of the recordings that were drawn
    load_average_before          above 1 or so other work shared the processors
    scaled_read_over_resized_read  a second of a chunk's archive, read for training / of a file of its own, CPU time

Two recordings of the same pictures: one with x264's own choice of key frames (every 250; NVIDIA's published front-wide
clip has one in 240), where a seek costs the seed up to 250 frames, and one with a key frame every 30.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from benchmarks.measuring import build_parser, print_numbers
from benchmarks.scaled import measure_scaled
from benchmarks.stage import measure_index, measure_workers
from data_prep.segment_options import FRAME_TOLERANCE
from data_prep.segment_places import VIDEO_FOLDER
from data_prep.segment_plan import SegmentRules
from data_prep.segment_rows import part_path, read_part_table
from data_prep.segment_work import CutJob, cut_recording
from data_prep.sources import find_source
from data_prep.synthetic import constant_motion, write_dataset
from driving.ego_motion import MAX_GAP_S
from driving.frame_size import FRAME_PIXELS
from driving.recording import RecordingRef, VideoAddress
from video_io import write_video
from video_io.decode_pyav import iter_decoded
from video_io.probe import probe_video
from video_io.scale import FrameScaler, read_planes

FPS = 30.0
OPENCV_MARGIN_FRAMES = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its numbers as the last line."""
    parser = build_parser("prep", __doc__)
    parser.add_argument("--seconds", type=int, default=10, help="length of the drawn recordings")
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--recordings", type=int, default=24, help="recordings that one worker and two cut")
    parser.add_argument("--drives", type=int, default=400, help="recordings of which only rows are made")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        numbers = {"load_average_before": round(os.getloadavg()[0], 1)}
        numbers |= measure(Path(folder), args.seconds, args.height, args.width, args.repeats)
        video = next((Path(folder) / "usual").rglob("*.mp4"))
        numbers |= measure_workers(video, Path(folder) / "workers", args.recordings, args.repeats)
        numbers |= measure_index(Path(folder) / "index_only", args.drives, args.repeats)
    print_numbers(numbers, args.json)
    return 0


def measure(folder: Path, seconds: int, height: int, width: int, repeats: int) -> dict[str, float]:
    """Make the input in `folder`, run every way `repeats` times in turn, and compare medians."""
    usual = make_recording(folder / "usual", seconds, height, width, key_interval=None)
    aligned = make_recording(folder / "aligned", seconds, height, width, key_interval=round(FPS))
    usual_video, aligned_video = (VideoAddress(*ref.place["video"]) for ref in (usual, aligned))
    cuts = ((usual, "resized"), (usual, "scaled"), (aligned, "copy"), (aligned, "index"))
    resized, scaled, copied, indexed = (build_job(ref, cut, folder / cut) for ref, cut in cuts)
    ways: dict[str, Callable[[], object]] = {
        "decode": lambda: decode(usual_video),
        "resized": lambda: cut_recording(resized),
        "scaled": lambda: cut_recording(scaled),
        "seed_way": lambda: cut_as_the_seed(usual_video, folder / "seed", seconds - 1),
        "decode_gop30": lambda: decode(aligned_video),
        "copy": lambda: cut_recording(copied),
        "index": lambda: cut_recording(indexed),
        "seed_way_gop30": lambda: cut_as_the_seed(aligned_video, folder / "seed", seconds - 1),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            spent[name].append(measure_cpu_s(way))
    cpu_s = {name: statistics.median(times) for name, times in spent.items()}
    files = sorted((folder / "resized" / VIDEO_FOLDER).glob("*.mp4"))
    rows = read_part_table(part_path(folder / "scaled", usual.recording_id)).to_pylist()
    scaled_numbers, scaled_files = measure_scaled(folder / "scaled", usual.recording_id, rows, files)
    mbit_s = Path(usual_video.path).stat().st_size * 8e-6 / seconds
    print(f"input: {seconds} s of {height}x{width}, {mbit_s:.1f} Mbit/s")
    print("CPU seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in cpu_s.items()))
    return {
        "resized_over_decode": round(cpu_s["resized"] / cpu_s["decode"], 3),
        "psnr_db": round(min(measure_psnr_db(usual_video, files)), 2),
        "bytes_per_segment": round(statistics.mean(path.stat().st_size for path in files)),
        "seed_way_over_resized": round(cpu_s["seed_way"] / cpu_s["resized"], 2),
        "seed_way_over_resized_gop30": round(cpu_s["seed_way_gop30"] / cpu_s["resized"], 2),
        "copy_over_decode": round(cpu_s["copy"] / cpu_s["decode_gop30"], 3),
        "index_over_decode": round(cpu_s["index"] / cpu_s["decode_gop30"], 4),
        "num_segments": len(files),
        "scaled_over_decode": round(cpu_s["scaled"] / cpu_s["decode"], 3),
        "scaled_psnr_db": round(min(measure_psnr_db(usual_video, scaled_files)), 2),
        **scaled_numbers,
        "cpu_s_per_video_s": {name: round(value / seconds, 4) for name, value in cpu_s.items()},
        "input_mbit_s": round(mbit_s, 2),
    }


def make_recording(root: Path, seconds: int, height: int, width: int, key_interval: int | None) -> RecordingRef:
    """One recording in PhysicalAI-AV's extracted layout whose video is drawn at full size.

    Everything but the pixels comes from the synthetic recordings; its small video is replaced by a large one of as many
    frames.
    """
    write_dataset(root, [constant_motion(12.0, 0.002)], layout="extracted", seconds=seconds, height=32, width=64)
    source = find_source("physical_ai", root)
    (ref,) = source.plan(root)
    path = Path(ref.place["video"][0])
    num_frames = probe_video(VideoAddress(str(path))).num_frames
    bits_per_s = round(8e6 * height * width / (1080 * 1920))
    frames = draw_frames(num_frames, height, width)
    write_video(
        path, frames, FPS, preset="veryfast", crf=None, key_interval=key_interval, options={"b": str(bits_per_s)}
    )
    return ref


def draw_frames(num_frames: int, height: int, width: int) -> Iterator[np.ndarray]:
    """(H, W) uint8 pictures of a textured wall that a camera nears and leaves, with sensor noise.

    The picture grows and shrinks by up to 1 % a frame: like a road driven along, no block of it merely slides.
    """
    rng = np.random.default_rng(0)
    wall = draw_texture(rng, 3 * height // 2, 3 * width // 2)
    noise = np.round(2 * rng.normal(size=(8, height, width))).astype(np.int16)
    scale = FrameScaler((height, width), "gray", scaler="bilinear")
    for index in range(num_frames):
        share = 0.82 + 0.18 * np.cos(2 * np.pi * index / 120)
        rows, columns = (round(size * share / 2) * 2 for size in wall.shape)
        top, left = (wall.shape[0] - rows) // 2, (wall.shape[1] - columns) // 2
        seen = np.ascontiguousarray(wall[top : top + rows, left : left + columns])
        picture = scale(av.VideoFrame.from_ndarray(seen, "gray")).to_ndarray()
        yield np.clip(picture + noise[index % 8], 0, 255).astype(np.uint8)


def draw_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) uint8: smooth random blobs of many sizes, the large ones strongest."""
    texture = np.full((height, width), 110.0)
    for block_px, contrast in ((256, 40), (64, 20), (16, 12), (4, 8), (2, 4)):
        grid = rng.normal(size=(height // block_px + 2, width // block_px + 2)) * contrast
        rows, columns = np.arange(height) / block_px, np.arange(width) / block_px
        across = np.stack([np.interp(columns, np.arange(grid.shape[1]), line) for line in grid])
        low = rows.astype(int)
        weight = (rows - low)[:, None]
        texture += across[low] * (1 - weight) + across[low + 1] * weight
    return np.clip(texture, 16, 235).astype(np.uint8)


def build_job(ref: RecordingRef, cut: str, output_dir: Path) -> CutJob:
    rules = SegmentRules(FPS, 1.0, FRAME_TOLERANCE, MAX_GAP_S, "pose")
    return CutJob(ref, "", rules, cut, FRAME_PIXELS, output_dir)


def decode(video: VideoAddress) -> None:
    """The reference: every frame decoded once, in one thread, and dropped."""
    with av.open(video.path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for _ in container.decode(stream):
            pass


def cut_as_the_seed(video: VideoAddress, output_dir: Path, num_segments: int) -> None:
    """The seed's way, with FFmpeg's MPEG-4 encoder as OpenCV's `mp4v` writer sets it up.

    A file opened for every segment and seeked to 16 frames before it (OpenCV's margin against B-frames; decoding then
    starts at the key frame before that); every frame turned into BGR (OpenCV knows no other) and written at full size
    at the bit rate OpenCV asks for, 64 bits a pixel, which the quantiser's floor of 3 then limits.
    """
    output_dir.mkdir(exist_ok=True)
    for second in range(num_segments):
        with av.open(video.path) as source, av.open(str(output_dir / f"{second:02d}.mp4"), "w") as target:
            stream = source.streams.video[0]
            stream.thread_count = 1
            copy = target.add_stream("mpeg4", rate=round(FPS))
            copy.height, copy.width, copy.pix_fmt = stream.height, stream.width, "yuv420p"
            copy.bit_rate = min(64 * round(FPS) * stream.height * stream.width, 2**30)
            copy.thread_count, copy.codec_context.qmin, copy.codec_context.gop_size = 1, 3, 12
            source.seek(round(max(0, second - OPENCV_MARGIN_FRAMES / FPS) / stream.time_base), stream=stream)
            num_written = 0
            for frame in source.decode(stream):
                if frame.time < second - 0.5 / FPS:
                    continue
                picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="bgr24", interpolation="BICUBIC"), "bgr24")
                target.mux(copy.encode(picture.reformat(format="yuv420p", interpolation="BICUBIC")))
                num_written += 1
                if num_written == round(FPS):
                    break
            target.mux(copy.encode(None))


def measure_cpu_s(way: Callable[[], object]) -> float:
    start = time.process_time()
    way()
    return time.process_time() - start


def measure_psnr_db(video: VideoAddress, files: Sequence[Path]) -> list[float]:
    """For each segment, the luma PSNR against the frames it was encoded from: frame i of segment s is 30 s + i."""
    per_segment = round(FPS)
    originals = iter_decoded(video, range(per_segment * len(files)), info=probe_video(video))
    results = []
    for path in files:
        segment = VideoAddress(str(path))
        info = probe_video(segment)
        scale = FrameScaler((info.height, info.width), "yuv420p")
        errors = [
            np.mean((read_planes(scale(next(originals)[1]))[0].astype(float) - read_planes(frame)[0]) ** 2)
            for _, frame in iter_decoded(segment, range(per_segment), info=info)
        ]
        results.append(10 * np.log10(255**2 / np.mean(errors)))
    return results


if __name__ == "__main__":
    sys.exit(main())
