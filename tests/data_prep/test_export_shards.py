"""Exports that hold the videos: WebDataset by its own package, LeRobot v3.0 by its documented layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from exporting import HEIGHT, NUM_CLIPS, NUM_SEGMENTS, WIDTH, export, make_datasets, read_training

from data_prep.export.running_statistics import RunningStatistics, describe_steps
from driving.errors import DrivingError, VideoError
from driving.recording import VideoAddress
from video_io import decode_frames, join_videos, probe_video, write_video

SPLITS = ("train", "val", "test")
FRONT = "observation.images.front"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_datasets(tmp_path_factory.mktemp("export"))


@pytest.fixture(autouse=True)
def stay(monkeypatch, folder):
    monkeypatch.chdir(folder)


def read_truth(folder: Path) -> dict[str, dict]:
    return {row["id"]: row for row in pq.read_table(folder / "training" / "truth.parquet").to_pylist()}


# WebDataset


def read_webdataset(output: Path, split: str) -> list[dict]:
    webdataset = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted(output.glob(f"{split}-*.tar"))]
    return list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode())


@pytest.mark.parametrize("split", SPLITS)
def test_webdatasets_own_reader_gives_every_row_back(folder, split):
    rows, records, truth = (
        read_webdataset(export(folder, "webdataset", shard_rows=4), split),
        read_training(folder, split),
        read_truth(folder),
    )
    assert [row["json"]["id"] for row in rows] == [record["id"] for record in records]
    for row, record in zip(rows, records, strict=True):
        told = row["json"]
        assert row["mp4"] == (folder / record["video"]).read_bytes()
        assert told["conversations"] == record["conversations"] and told["split"] == split
        known = truth[record["id"]]
        assert [told[name] for name in ("targets", "observed", "future_pose", "group")] == [
            known[name] for name in ("targets", "observed", "future_pose", "group")
        ]


def test_training_streams_every_row_of_the_shards(folder):
    pytest.importorskip("torch")
    from qwenvl.data import parse_dataset_use
    from qwenvl.data.stream import load_stream

    output = export(folder, "webdataset", shard_rows=4)
    rows, records = load_stream(parse_dataset_use(f"{output}/train")), read_training(folder, "train")
    assert rows.answer_format == json.loads((folder / "training/dataset.json").read_text())["answer_format"]
    for streamed, record in zip(rows.records, records, strict=True):
        assert [streamed[name] for name in ("id", "group", "conversations")] == [
            record[name] for name in ("id", "group", "conversations")
        ]
        inside = VideoAddress(streamed["video"], streamed["member"], byte_range=tuple(streamed["byte_range"]))
        assert np.array_equal(decode_frames(inside, [0, 1]), decode_frames(VideoAddress(record["video"]), [0, 1]))


def test_shards_hold_as_many_rows_as_asked(folder):
    output = export(folder, "webdataset", shard_rows=4)
    num_train = len(read_training(folder, "train"))
    assert len(list(output.glob("train-*.tar"))) == -(-num_train // 4) > 1


def test_ids_with_dots_keep_their_rows_apart(tmp_path):
    pytest.importorskip("webdataset")
    from data_prep.export.webdataset import format_key

    assert format_key(7, "2011.09.26_drive_seg_00") == "000000007-2011_09_26_drive_seg_00"
    assert format_key(8, "2011_09.26_drive_seg_00") != format_key(7, "2011.09_26_drive_seg_00")


def test_a_tar_names_no_clock_and_no_user(folder):
    import tarfile

    with tarfile.open(sorted(export(folder, "webdataset", shard_rows=4).glob("*.tar"))[0]) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


# LeRobot


def read_lerobot(output: Path) -> tuple[dict, list[dict], list[dict]]:
    info = json.loads((output / "meta/info.json").read_text())
    episodes, frames = (
        [row for path in sorted((output / part).glob("*/*.parquet")) for row in pq.read_table(path).to_pylist()]
        for part in ("meta/episodes", "data")
    )
    return info, episodes, frames


@pytest.fixture(scope="module")
def lerobot(folder) -> tuple[Path, dict, list[dict], list[dict]]:
    import os

    before = Path.cwd()
    output = export(folder, "lerobot", shard_rows=4)
    os.chdir(before)
    return output, *read_lerobot(output)


def test_an_episode_is_a_segment_and_its_rows_are_its_labels(folder, lerobot):
    _, info, episodes, frames = lerobot
    truth = read_truth(folder)
    assert len(episodes) == info["total_episodes"] == NUM_CLIPS * NUM_SEGMENTS
    assert len(frames) == info["total_frames"] == 4 * len(episodes)
    for episode in episodes:
        known = truth[episode["segment_uuid"]]
        rows = frames[episode["dataset_from_index"] : episode["dataset_to_index"]]
        assert len(rows) == episode["length"] == 4
        np.testing.assert_allclose([row["observation.state"] for row in rows], known["observed"], rtol=1e-6)
        np.testing.assert_allclose([row["action"] for row in rows], known["targets"], rtol=1e-6)
        assert [row["timestamp"] for row in rows] == [0.0, 0.25, 0.5, 0.75]
        assert {row["episode_index"] for row in rows} == {episode["episode_index"]}


def test_rows_are_numbered_without_a_gap(lerobot):
    _, _, episodes, frames = lerobot
    assert [row["index"] for row in frames] == list(range(len(frames)))
    assert [row["episode_index"] for row in episodes] == list(range(len(episodes)))


def test_an_episodes_stretch_of_video_is_its_segment(folder, lerobot):
    output, info, episodes, _ = lerobot
    for number, episode in enumerate(episodes):
        name = info["video_path"].format(
            video_key=FRONT,
            chunk_index=episode[f"videos/{FRONT}/chunk_index"],
            file_index=episode[f"videos/{FRONT}/file_index"],
        )
        start_s, stop_s = (episode[f"videos/{FRONT}/{end}_timestamp"] for end in ("from", "to"))
        address = VideoAddress(str(output / name))
        times_s = probe_video(address).frame_times_us / 1e6
        inside = np.flatnonzero((times_s >= start_s - 1e-4) & (times_s < stop_s - 1e-4))
        np.testing.assert_allclose(times_s[inside], start_s + np.arange(4) / 4, atol=1e-4)  # LeRobot's tolerance
        segment = VideoAddress(str(folder / "segments/video_segments" / f"{episode['segment_uuid']}.mp4"))
        assert np.array_equal(decode_frames(address, inside), decode_frames(segment, range(4))), number


def test_data_files_are_where_the_episodes_say(lerobot):
    output, info, episodes, _ = lerobot
    for episode in episodes:
        name = info["data_path"].format(chunk_index=episode["data/chunk_index"], file_index=episode["data/file_index"])
        assert episode["episode_index"] in pq.read_table(output / name)["episode_index"].to_pylist()


def test_splits_are_ranges_of_episodes(lerobot):
    _, info, episodes, _ = lerobot
    for split in SPLITS:
        start, stop = map(int, info["splits"][split].split(":"))
        assert {row["split"] for row in episodes[start:stop]} == {split}


def test_every_feature_has_a_column_or_a_video_and_statistics(lerobot):
    output, info, _, frames = lerobot
    assert info["codebase_version"] == "v3.0" and info["fps"] == 4
    assert info["features"][FRONT]["shape"] == [HEIGHT, WIDTH, 3]
    assert {*frames[0], FRONT} == set(info["features"])
    statistics = json.loads((output / "meta/stats.json").read_text())
    assert set(statistics) == set(info["features"])
    assert statistics["action"]["mean"] == [11.0, 0.01]  # 10, 11 and 12 m/s in every clip, 0.01 1/m
    assert np.shape(statistics[FRONT]["mean"]) == (3, 1, 1)


def test_the_task_is_the_index_of_its_table(lerobot):
    import pandas as pd

    output, _, episodes, _ = lerobot
    tasks = pd.read_parquet(output / "meta/tasks.parquet")
    assert tasks["task_index"].to_dict() == {episodes[0]["tasks"][0]: 0}


@pytest.mark.parametrize("num_episodes, num_frames", [(1, 1), (3, 4)])
def test_statistics_of_what_counts_are_those_of_the_columns(num_episodes, num_frames):
    total = num_episodes * num_frames
    told = describe_steps(num_episodes, num_frames, 4)
    columns = {
        "timestamp": np.tile(np.arange(num_frames), num_episodes) / 4,
        "frame_index": np.tile(np.arange(num_frames), num_episodes),
        "episode_index": np.repeat(np.arange(num_episodes), num_frames),
        "index": np.arange(total),
        "task_index": np.zeros(total),
    }
    for name, column in columns.items():
        parts = [column.min(), column.max(), column.mean(), column.std(), total]
        assert [told[name][key][0] for key in ("min", "max", "mean", "std", "count")] == pytest.approx(parts, abs=1e-6)


def test_running_statistics_are_numpys_of_all_rows():
    rows = np.random.default_rng(3).normal(size=(50, 2))
    running = RunningStatistics(2)
    for part in np.split(rows, 5):
        running.add(part)
    told = running.to_json()
    assert told["std"] == pytest.approx(rows.std(axis=0).tolist(), abs=1e-6)
    assert told["min"] == pytest.approx(rows.min(axis=0).tolist(), abs=1e-6) and told["count"] == [50]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cut": "copy"}, "were cut with --cut copy; LeRobot takes frames at index / fps only"),
        ({"facts": {"fps": 9.5}}, "LeRobot knows whole frames a second, .* has 9.5; cut with --fps"),
        ({"facts": {"frame_sizes": {"64x96": 1, "64x64": 1}}}, "frames of one size, .* has 64x96, 64x64; export one"),
    ],
)
def test_what_lerobot_has_no_room_for_is_refused(tmp_path, changes, message):
    make_datasets(tmp_path, cut=changes.get("cut", "resized"))
    path = tmp_path / "training" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes.get("facts", {})))
    manifest = tmp_path / "training" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["files"]["dataset.json"] = path.stat().st_size
    manifest.write_text(json.dumps(told))
    with pytest.raises(DrivingError, match=message):
        export(tmp_path, "lerobot")


# joining videos


def test_videos_of_another_kind_or_length_are_not_joined(tmp_path):
    def draw(name, size, num_frames):
        write_video(tmp_path / name, (np.full(size, 90, np.uint8) for _ in range(num_frames)), 4.0)
        return tmp_path / name

    first, wider, shorter = draw("a.mp4", (64, 96), 4), draw("b.mp4", (64, 128), 4), draw("c.mp4", (64, 96), 3)
    with (tmp_path / "out.mp4").open("wb") as file, pytest.raises(VideoError, match="b.mp4 is coded otherwise than"):
        join_videos([first, wider], file, fps=4.0, num_frames=4)
    with (
        (tmp_path / "out.mp4").open("wb") as file,
        pytest.raises(VideoError, match="c.mp4 has 3 frames, 4 were expect"),
    ):
        join_videos([first, shorter], file, fps=4.0, num_frames=4)
