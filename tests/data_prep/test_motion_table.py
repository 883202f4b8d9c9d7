"""What a segment's car did, in the index and in the table beside it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from data_prep.motion_table import MotionTable, format_motion
from data_prep.segment_labels import SegmentLabels
from data_prep.segment_rows import MOTION_COLUMNS, measure_motions


def test_the_numbers_of_a_segment_are_of_the_second_that_is_asked_for():
    # 10 m/s rising by 2 m/s^2, sampled at the middles of 4 intervals; 9 degrees left in that second, 80 in the next
    speeds = 10 + 2 * (np.arange(4) + 0.5) / 4
    poses = np.zeros((9, 3))
    poses[:, 2] = np.radians([0, 2, 4, 7, 9, 20, 40, 60, 80])
    labels = SegmentLabels(np.stack([speeds, np.zeros(4)], axis=1), np.zeros((4, 2)), poses, np.arange(9) / 4)
    measured = measure_motions([None, labels])
    assert list(measured) == list(MOTION_COLUMNS)
    assert [column[0] for column in measured.values()] == [None] * 3
    assert [column[1] for column in measured.values()] == pytest.approx([11.0, 9.0, 2.0])


def test_the_table_counts_each_bin_and_leaves_out_what_has_no_labels(tmp_path):
    columns = ([0.0, 5.0, 5.0, None], [0.0, -11.0, 3.0, None], [0.0, -1.2, 0.5, None])
    table = MotionTable()
    table.add(pa.table({name: pa.array(column) for name, column in zip(MOTION_COLUMNS, columns, strict=True)}))
    table.write(tmp_path / "motion.json")
    kept = json.loads((tmp_path / "motion.json").read_text())
    assert kept["num_unlabelled"] == 1
    assert {name: count for name, count in kept["axes"]["speed"].items() if count} == {"0-2 m/s": 1, "2-8 m/s": 2}
    assert kept["axes"]["turn"] == {
        "left over 10°": 0, "left 2-10°": 1, "straight": 1, "right 2-10°": 0, "right over 10°": 1,
    }  # fmt: skip
    assert kept["axes"]["acceleration"] == {"braking": 1, "steady": 2, "accelerating": 0}
    lines = format_motion(tmp_path / "motion.json").splitlines()
    assert lines[0] == "motion of 3 segments in the window that is asked for"
    assert any(line.split() == ["2-8", "m/s", "2", "66.7%"] for line in lines)


def test_segments_without_labels_have_no_table_to_print(tmp_path):
    MotionTable().write(tmp_path / "motion.json")
    assert format_motion(tmp_path / "motion.json") == ""
