"""Faults that the audit once passed over: rows without numbers, and videos that nobody opened."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.audit import AuditOptions, audit_recordings
from data_prep.audit.findings import FAIL, PASS
from data_prep.audit.motion_checks import check_finite
from data_prep.audit.samples import Samples
from video_io import write_video


def drive(num_rows=20):
    quaternion = np.tile([0.0, 0.0, 0.0, 1.0], (num_rows, 1))
    times_us = np.arange(num_rows) * 10_000
    return Samples("clip7", times_us, np.zeros((num_rows, 3)), quaternion, np.zeros((num_rows, 3)), None, None, None)


def test_a_drive_of_numbers_passes():
    assert check_finite(drive()).status == PASS


@pytest.mark.parametrize(
    "column, named",
    [("position_m", "position"), ("quaternion_xyzw", "quaternion"), ("velocity_mps", "velocity")],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_without_a_number_is_named(column, named, value):
    samples = drive()
    getattr(samples, column)[[5, 9], 1] = value
    finding = check_finite(samples)
    assert (finding.status, finding.value) == (FAIL, 2.0)
    assert finding.measured == f"2 rows hold NaN or infinity, first {named} of row 5 in clip7"


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 8])
def test_a_video_that_cannot_be_opened_fails_the_audit(tmp_path, content):
    write_video(tmp_path / "a.mp4", (np.full((32, 64), 40, np.uint8) for _ in range(10)), 10)
    (tmp_path / "b.mp4").write_bytes(content)
    report = audit_recordings(AuditOptions(input_dir=tmp_path, source="folder"))
    opened = {finding.recording_id: finding for finding in report.findings if finding.check == "recordings open"}
    assert opened["a"].status == PASS
    assert opened["b"].status == FAIL and "b.mp4" in opened["b"].measured
    assert "recordings open" in report.failed_checks
