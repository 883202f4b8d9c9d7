"""`--ego-motion-dir`: labels read again from ego motion files, against a circle known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk
from drawn_segments import make_row, make_rows, write_index

from data_prep.dataset_options import DatasetOptions
from data_prep.hf_dataset import run
from data_prep.relabel import plan_times
from driving.errors import LedgerError, SourceError
from driving.ledger import read_ledger

SPEED_MPS, CURVATURE_PER_M = 10.0, -0.02  # a right turn


def write_circle(folder: Path, clip: str, stop_s: float = 10.0) -> None:
    """PhysicalAI-AV's table of a clip that drives a circle from the anchor, 100 Hz from 0.1 s before it."""
    time_s = np.arange(-0.1, stop_s + 0.005, 0.01)
    heading = SPEED_MPS * CURVATURE_PER_M * time_s
    zero = np.zeros_like(time_s)
    columns = {
        "timestamp": np.round(time_s * 1e6).astype(np.int64),
        "qx": zero, "qy": zero, "qz": np.sin(heading / 2), "qw": np.cos(heading / 2),
        "x": np.sin(heading) / CURVATURE_PER_M, "y": (1 - np.cos(heading)) / CURVATURE_PER_M, "z": zero,
        "vx": SPEED_MPS * np.cos(heading), "vy": SPEED_MPS * np.sin(heading), "vz": zero,
        "ax": zero, "ay": zero, "az": zero, "curvature": np.full_like(time_s, CURVATURE_PER_M),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{clip}.egomotion.parquet")


def relabel(folder: Path, rows: list[dict], **options) -> Path:
    write_index(folder / "segments", rows)
    given = {"segments_path": folder / "segments", "output_dir": folder / "dataset", "fps": 4.0}
    run(DatasetOptions(**given, ego_motion_dir=folder / "ego_motion_chunk_0000", **options))
    return folder / "dataset"


def write_circles(folder: Path, num_clips: int) -> None:
    for clip in range(num_clips):
        write_circle(folder / "ego_motion_chunk_0000", f"clip{clip:03d}")


def test_labels_are_those_of_the_ego_motion_and_not_of_the_segments(tmp_path):
    write_circles(tmp_path, 4)
    row = load_from_disk(str(relabel(tmp_path, make_rows(4, 2))))["train"][1]
    assert np.array(row["targets"]) == pytest.approx(np.tile([SPEED_MPS, CURVATURE_PER_M], (4, 1)), abs=1e-4)
    assert np.array(row["observed"]) == pytest.approx(np.tile([SPEED_MPS, CURVATURE_PER_M], (4, 1)), abs=1e-4)
    assert row["targets_text"] == "[(10.0, -0.0200), (10.0, -0.0200), (10.0, -0.0200), (10.0, -0.0200)]"


def test_the_future_pose_drives_the_circle(tmp_path):
    write_circles(tmp_path, 4)
    poses = np.array(load_from_disk(str(relabel(tmp_path, make_rows(4, 2))))["train"][1]["future_pose"])
    heading = SPEED_MPS * CURVATURE_PER_M * np.arange(len(poses)) / 4
    x, y = np.sin(heading) / CURVATURE_PER_M, (1 - np.cos(heading)) / CURVATURE_PER_M
    assert len(poses) == 26  # 6.4 s at 4 a second: 0, 0.25, ..., 6.25
    assert poses == pytest.approx(np.stack([x, y, heading], axis=1), abs=1e-4)


def test_segments_without_labels_get_them(tmp_path):
    write_circles(tmp_path, 4)
    bare = {"has_labels": False, "targets": None, "observed": None, "future_pose": None, "future_times_s": None}
    assert len(load_from_disk(str(relabel(tmp_path, make_rows(4, 2, **bare))))["train"]) >= 2


def test_a_segment_that_the_motion_does_not_cover_goes_to_the_ledger(tmp_path):
    write_circles(tmp_path, 4)
    output = relabel(tmp_path, [*make_rows(4, 2), make_row("clip000", 9)])
    (skip,) = read_ledger(output / "skipped.jsonl")
    assert skip.id == "clip000_seg_09" and "the window needs 10.000 to 11.000 s" in skip.reason


def test_a_clip_without_a_file_goes_to_the_ledger(tmp_path):
    write_circles(tmp_path, 5)
    output = relabel(
        tmp_path, [*make_rows(5, 2, split="train"), *held_out(tmp_path), make_row("lost", 0, split="train")]
    )
    (skip,) = read_ledger(output / "skipped.jsonl")
    assert skip.id == "lost_seg_00" and "missing" in skip.reason


def held_out(folder: Path) -> list[dict]:
    for side in ("val", "test"):
        write_circle(folder / "ego_motion_chunk_0000", side)
    return [make_row(side, 0, split=side) for side in ("val", "test")]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="--ego-motion-dir .*ego_motion_chunk_0000 is not a folder"):
        relabel(tmp_path, make_rows(4, 2))


def test_other_ego_motion_files_are_another_plan(tmp_path):
    write_circles(tmp_path, 4)
    relabel(tmp_path, make_rows(4, 2))
    write_circle(tmp_path / "ego_motion_chunk_0000", "clip004")
    with pytest.raises(LedgerError, match="was made with ego_motion_hash"):
        relabel(tmp_path, make_rows(4, 2))


def test_windows_of_a_segment_touch_at_whole_microseconds():
    times = plan_times(2.0, 1.0)
    assert (times.index, times.observed.start_us, times.observed.stop_us) == (2, 2_000_000, 3_000_000)
    assert (times.target.start_us, times.target.stop_us) == (3_000_000, 4_000_000)
