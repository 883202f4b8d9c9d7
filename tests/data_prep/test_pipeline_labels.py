"""From recordings with known motion to the labels in the index: drawn circles in both layouts, and real KITTI."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from data_prep.segment_options import SegmentOptions
from data_prep.segments import run
from data_prep.synthetic import constant_motion, write_dataset
from driving.clock import Window, plan_midpoints

MOTIONS = {
    "left": constant_motion(8.0, 0.02),
    "right": constant_motion(8.0, -0.02),
    "reversing": constant_motion(-3.0, 0.02),
    "standing": constant_motion(0.0),
}


def label(root, output, fps):
    """Rows of the index by segment id; no pictures are written."""
    run(SegmentOptions(input_dir=root, output_dir=output, cut="index", fps=fps, workers=1, allow_one_recording=True))
    return pd.read_parquet(output / "metadata" / "segments.parquet").set_index("segment_uuid")


def pairs(cell):
    return np.array(cell.tolist())


@pytest.fixture(scope="module", params=["hub", "extracted"])
def drawn(request, tmp_path_factory):
    """({name: clip id}, rows)"""
    folder = tmp_path_factory.mktemp(request.param)
    made = write_dataset(
        folder / "in", list(MOTIONS.values()), layout=request.param, seconds=4, height=64, width=112, workers=1
    )
    return dict(zip(MOTIONS, made.clip_ids, strict=True)), label(folder / "in", folder / "out", 30.0)


@pytest.mark.parametrize("second", [0, 1, 2])
@pytest.mark.parametrize("name", ["left", "right", "reversing"])
def test_targets_of_a_circle_are_what_was_driven_a_second_later(drawn, name, second):
    ids, rows = drawn
    targets = pairs(rows.loc[f"{ids[name]}_seg_{second:02d}", "targets"])
    start_us = (second + 1) * 1_000_000
    truth = MOTIONS[name].sample(plan_midpoints(Window(start_us, start_us + 1_000_000), 30))
    assert np.abs(targets[:, 0] - truth.velocity_mps).max() < 0.01
    assert np.abs(targets[:, 1] - truth.curvature_per_m).max() < 0.0001


def test_targets_of_a_standing_car_are_zero(drawn):
    ids, rows = drawn
    for cell in rows.loc[rows["clip_uuid"] == ids["standing"], "targets"]:
        assert pairs(cell).tolist() == [[0.0, 0.0]] * 30


def test_the_future_pose_of_a_circle_is_on_it(drawn):
    ids, rows = drawn
    end = pairs(rows.loc[f"{ids['right']}_seg_00", "future_pose"])[30]
    assert end == pytest.approx([50 * np.sin(0.16), -50 * (1 - np.cos(0.16)), -0.16], abs=1e-3)


def chord_speeds(folder, times_s, at_s):
    """|dX| / dt between the poses around each instant, from the file's own numbers."""
    position = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)[:, :, 3]
    speeds = np.linalg.norm(np.diff(position, axis=0), axis=1) / np.diff(times_s)
    return speeds[np.searchsorted(times_s, at_s) - 1]


def test_speeds_of_real_kitti_are_those_of_its_own_clock(shared_data, tmp_path):
    folder = shared_data / "kitti_odometry_06"
    rows = label(folder, tmp_path / "out", 10.0)
    assert len(rows) == 4
    times_s = np.loadtxt(folder / "times.txt")
    for start, cell in zip(rows["start_second"], rows["targets"], strict=True):
        chords = chord_speeds(folder, times_s, start + 1 + (np.arange(10) + 0.5) / 10)
        assert np.abs(pairs(cell)[:, 0] - chords).max() < 0.05


def test_with_ten_hertz_assumed_real_kitti_would_be_four_percent_too_fast(shared_data, tmp_path):
    folder = shutil.copytree(shared_data / "kitti_odometry_06", tmp_path / "assumed")
    times_s = np.loadtxt(folder / "times.txt")
    (folder / "times.txt").write_text("".join(f"{index / 10}\n" for index in range(51)))
    rows = label(folder, tmp_path / "out", 10.0)
    for start, cell in zip(rows["start_second"], rows["targets"], strict=True):
        chords = chord_speeds(folder, times_s, start + 1 + (np.arange(10) + 0.5) / 10)
        assert (pairs(cell)[:, 0] - chords).min() > 0.3


def test_a_real_video_without_motion_is_cut_but_not_labelled(shared_data, tmp_path):
    rows = label(shared_data / "udacity_lane_video", tmp_path / "out", 25.0)
    assert len(rows) == 7
    assert not rows["has_labels"].any()
    assert rows["targets"].isna().all()
