"""What an index of segments may not lack, in any of its pieces."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.index_scan import NEVER_NULL, scan_index
from data_prep.segment_table import REQUIRED, SegmentTable
from driving.errors import SourceError


def build_index(num_rows: int, place: int, **values) -> SegmentTable:
    """An index of which one row has other values."""
    rows = [
        dict.fromkeys(REQUIRED)
        | {"segment_uuid": f"s{row}", "clip_uuid": f"c{row}", "group": f"c{row}"}
        | {"video_path": f"{row}.mp4", "start_second": 0.0, "fps": 10.0, "num_frames": 10}
        for row in range(num_rows)
    ]
    rows[place] |= values
    table = pa.Table.from_pylist(rows)
    return SegmentTable(Path("segments.json"), tuple(table.column_names), num_rows, table)


def test_an_index_without_holes_is_scanned():
    assert len(scan_index(build_index(3, 0), 1.0).rows.recording.codes) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, None) for name in NEVER_NULL), ("start_second", math.nan)],
)
@pytest.mark.parametrize("place", [1, 2_500])
def test_a_row_without_what_no_segment_is_without_is_named(place, name, value):
    with pytest.raises(SourceError, match=rf"row {place} of segments.json has no {name}; make the segments again"):
        scan_index(build_index(3_000, place, **{name: value}), 1.0)
