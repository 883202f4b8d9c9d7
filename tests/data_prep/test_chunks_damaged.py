"""What a run goes on from when a file of an unfinished folder is damaged, or its listing became shorter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cutting import cut, draw_recordings, read_rows
from killing import read_tree

from data_prep import chunks


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Four videos in rec/, two to a chunk; the test runs beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunks, "RECORDINGS_PER_CHUNK", 2)
    return draw_recordings(tmp_path, "abcd")


def stop(where):
    """A run that ends in `where` of data_prep.segments: before the index, or before any chunk is finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cut()


def stop_before_the_index():
    stop("data_prep.segments.write_index")


def test_the_last_recording_of_a_chunk_that_went_away_is_not_counted(recordings):
    stop_before_the_index()
    (recordings / "d.mp4").unlink()
    assert cut().num_segments == len(read_rows()) == 9
    assert not list(Path("out/video_segments").glob("d_*"))


def test_of_a_large_index_it_is_not_in_the_rows_either(recordings, monkeypatch):
    from data_prep import segment_index
    from data_prep.segment_table import open_segments

    monkeypatch.setattr(segment_index, "MAX_FILE_ROWS", 5)
    stop_before_the_index()
    (recordings / "d.mp4").unlink()
    cut()
    assert set(open_segments(Path("out")).read_rows(["clip_uuid"])["clip_uuid"]) == {"a", "b", "c"}


@pytest.mark.parametrize("num_bytes", [0, 3, 3_000])
def test_a_chunk_whose_rows_are_cut_short_is_made_again(recordings, num_bytes):
    cut()
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    stop_before_the_index()
    os.truncate("out/metadata/chunks/batch_00001.parquet", num_bytes)
    cut()
    assert read_tree(Path("out")) == whole


def test_a_recordings_part_that_is_cut_short_is_made_again(recordings, capsys):
    cut()
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    stop("data_prep.chunk_run.finish_chunk")
    (part,) = list(Path("out/metadata/recordings").glob("a.arrow"))
    os.truncate(part, 500)
    cut()
    assert "continuing: 1 of 4 recordings are done" in capsys.readouterr().out  # b
    assert read_tree(Path("out")) == whole
