"""An index of any size: read in pieces, the same whatever files it lies in, and never held whole."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_segments import make_rows, options_for, write_index
from hypothesis import given, settings
from hypothesis import strategies as st
from splitting import SplitRow, pack

from benchmarks.drawn_index import write_index as draw_index
from data_prep.arrow_dataset import iter_split
from data_prep.hf_dataset import run
from data_prep.leakage import check_leakage
from data_prep.pieces import cut_pieces
from data_prep.segment_rows import row_schema
from data_prep.segment_table import BATCH_ROWS, open_segments
from data_prep.split_rows import SplitRows
from data_prep.split_rule import SplitRule
from data_prep.splits import plan_splits
from driving.errors import DrivingError
from driving.whole_files import write_json


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7))
def test_pieces_are_of_one_size_and_hold_every_row_in_order(sizes, size):
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    tables = [pa.table({"row": pa.array(range(a, a + n), pa.int64())}) for a, n in zip(starts, sizes, strict=True)]
    pieces = list(cut_pieces(tables, size))
    assert [piece.num_rows for piece in pieces[:-1]] == [size] * (len(pieces) - 1)
    assert [row for piece in pieces for row in piece["row"].to_pylist()] == list(range(sum(sizes)))
    assert all(0 < piece.num_rows <= size for piece in pieces)


def write_chunks(folder: Path, rows: list[dict], cuts: list[int]) -> None:
    """The same rows as a finished folder whose index is by chunk."""
    chunks = folder / "metadata" / "chunks"
    chunks.mkdir(parents=True)
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        table = pa.Table.from_pylist(rows[start:stop], schema=row_schema())
        pq.write_table(table, chunks / f"chunk_{number:04d}.parquet", row_group_size=5)
    write_json(folder / "manifest.json", {"plan": {}, "summary": {}})


def hash_rows(dataset: Path) -> dict[str, str]:
    files = [*dataset.glob("*/*"), *dataset.glob("*_examples.json")]
    return {str(path.relative_to(dataset)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_dataset_does_not_depend_on_the_files_that_its_index_lies_in(tmp_path):
    rows = make_rows(450)  # more than a piece
    assert len(rows) > BATCH_ROWS
    write_index(tmp_path / "one" / "segments", rows)
    write_chunks(tmp_path / "many" / "segments", rows, [40, 45, 1200])
    for name in ("one", "many"):
        run(options_for(tmp_path / name))
    found = hash_rows(tmp_path / "one" / "dataset")
    assert len(found) == 12  # three splits of three files and a preview
    assert hash_rows(tmp_path / "many" / "dataset") == found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """10,000 rows of real weight: five pieces of 14 MB."""
    return draw_index(tmp_path_factory.mktemp("drawn"), 10_000)


def test_of_an_index_one_piece_at_a_time_is_in_memory(drawn):
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in open_segments(drawn).iter_pieces()]
    assert len(held) == 5
    assert max(held) < 40e6  # a piece, and what is decoded ahead; all that is read would be 70 MB more


def test_of_a_split_one_piece_at_a_time_is_in_memory(drawn, tmp_path):
    run(replace(options_for(tmp_path), segments_path=drawn, fps=30.0))
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in iter_split(tmp_path / "dataset" / "train", 1000)]
    assert len(held) >= 7
    assert max(held) < 40e6


def recordings(count: int) -> list[SplitRow]:
    names = [(f"ride{number}", second) for number in range(count) for second in range(3)]
    return [SplitRow(f"{ride}_{s}", ride, ride, "", s, s + 2, f"{ride}_{s}.mp4") for ride, s in names]


def with_equal_hashes(rows: list[SplitRow]) -> SplitRows:
    packed = pack(rows)
    return replace(packed, segment_hashes=packed.segment_hashes * 0, video_hashes=packed.video_hashes * 0)


def test_names_that_only_share_a_hash_are_no_leak():
    rows = with_equal_hashes(recordings(20))
    check_leakage(rows, plan_splits(rows, SplitRule()))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"segment": "ride0_0"}, "ride0_0 is listed twice"), ({"video": "ride0_0.mp4"}, "the video ride0_0.mp4 is in")],
)
def test_names_that_are_equal_are_found_among_equal_hashes(change, message):
    rows = recordings(20)
    sides = plan_splits(pack(rows), SplitRule()).sides
    other = next(place for place, side in enumerate(sides) if side != sides[0])
    rows[other] = rows[other]._replace(**change)
    packed = with_equal_hashes(rows)
    with pytest.raises(DrivingError, match=message):
        check_leakage(packed, plan_splits(packed, SplitRule()))
