"""A LeRobot v3.0 dataset: each segment an episode, what the car did its state, what it did next its action.

    meta/info.json stats.json tasks.parquet                what there is, and how it is spread
    meta/episodes/chunk-000/file-000.parquet               where each episode's rows and pictures are; id, group, split
    data/chunk-000/file-000.parquet                        a row a frame: state, action (velocity m/s, curvature 1/m)
    videos/observation.images.front/chunk-000/file-000.mp4 the episodes of one shard behind one another

Source: the layout of lerobot 0.4 (codebase_version v3.0). A row's action is the motion one segment length after it, at
the same offset. The conversations are not in it: LeRobot's policies read numbers.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from data_prep.export.job import ExportFormat, ExportJob
from data_prep.export.lerobot_tables import (
    CAMERA,
    Layout,
    build_episode_table,
    build_frame_table,
    describe_features,
    format_info,
    read_layout,
)  # fmt: skip
from data_prep.export.rows import Record, iter_samples
from data_prep.export.running_statistics import RunningStatistics, describe_steps
from data_prep.export.shards import count_shards, iter_shards
from driving.recording import VideoAddress
from driving.whole_files import write_atomically, write_json

TASK = "Predict the motion of the car in the next second."
NUM_PICTURES = 100  # of so many episodes the first frame counts for the statistics of the pictures


def write(job: ExportJob) -> list[str]:
    """The shards that are not there yet, then tasks, statistics and info."""
    layout = read_layout(job.rows)
    num_episodes = sum(job.rows.splits.values())
    samples = (sample for split in job.rows.splits for sample in iter_samples(job.rows, split))
    state, action, pictures = RunningStatistics(2), RunningStatistics(2), RunningStatistics(3)
    every = max(1, num_episodes // NUM_PICTURES)
    for number, shard in iter_shards(samples, job.shard_rows):
        first = number * job.shard_rows
        for _, truth in shard:
            state.add(truth["observed"])
            action.add(truth["targets"])
        with tempfile.TemporaryDirectory() as scratch:
            videos = [job.media.find(record, Path(scratch)) for record, _ in shard]
            for index, video in enumerate(videos, first):
                if index % every == 0:
                    pictures.add(_read_first_frame(video) / 255)
            _write_shard(job, layout, number, first, shard, videos)
        job.on_rows(len(shard))
    _write_tasks(job.output_dir / "meta/tasks.parquet")
    statistics = {
        "observation.state": state.to_json(),
        "action": action.to_json(),
        CAMERA: pictures.to_json(shape=(3, 1, 1)),
        **describe_steps(num_episodes, layout.num_frames, layout.fps),
    }
    write_json(job.output_dir / "meta/stats.json", statistics)
    features = describe_features(layout, _read_codec(job, layout))
    write_json(job.output_dir / "meta/info.json", format_info(layout, job.rows.splits, features))
    numbers = range(count_shards(num_episodes, job.shard_rows))
    shards = [name for number in numbers for name in shard_names(number)]
    return [*shards, "meta/tasks.parquet", "meta/stats.json", "meta/info.json"]


def shard_names(number: int) -> tuple[str, str, str]:
    """Pictures, rows and episodes of one shard, in the order in which they are written."""
    place = f"chunk-{number // 1000:03d}/file-{number % 1000:03d}"
    return f"videos/{CAMERA}/{place}.mp4", f"data/{place}.parquet", f"meta/episodes/{place}.parquet"


def _write_shard(
    job: ExportJob, layout: Layout, number: int, first: int, shard: list[tuple[Record, Record]], videos: list[Path]
) -> None:
    import pyarrow.parquet as pq

    from video_io import join_videos

    video_path, data_path, episodes_path = (job.output_dir / name for name in shard_names(number))
    if not video_path.is_file():
        with write_atomically(video_path) as file:
            join_videos(videos, file.name, fps=layout.fps, num_frames=layout.num_frames)
    truths = [truth for _, truth in shard]
    if not data_path.is_file():
        with write_atomically(data_path) as file:
            pq.write_table(build_frame_table(layout, first, truths), file, compression="zstd")
    if not episodes_path.is_file():
        with write_atomically(episodes_path) as file:
            pq.write_table(build_episode_table(layout, number, first, truths, TASK), file, compression="zstd")


def _write_tasks(path: Path) -> None:
    """The task is the table's index: LeRobot looks a task up by the name of its row."""
    import pandas as pd

    buffer = io.BytesIO()
    pd.DataFrame({"task_index": [0]}, index=pd.Index([TASK], name="task")).to_parquet(buffer)
    with write_atomically(path) as file:
        file.write(buffer.getbuffer())


def _read_first_frame(video: Path) -> Any:
    """(H * W, 3) uint8."""
    from video_io import decode_frames

    return decode_frames(VideoAddress(str(video)), [0]).reshape(-1, 3)


def _read_codec(job: ExportJob, layout: Layout) -> str:
    from video_io import probe_video

    return probe_video(VideoAddress(str(job.output_dir / shard_names(0)[0]))).codec


FORMAT = ExportFormat(
    'LeRobot v3.0: `LeRobotDataset("driving", root=<this folder>)`. An episode is one clip; `observation.state` is its '
    "(velocity m/s, curvature 1/m), positive = left, `action` the same of the next second. `splits` in "
    "`meta/info.json` names the episodes of train, val and test.",
    write,
)
