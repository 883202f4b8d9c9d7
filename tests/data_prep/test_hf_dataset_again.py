"""The Hugging Face dataset, made a second time: untouched, refused, continued after a full disk or a kill."""

from __future__ import annotations

import errno

import pytest
from drawn_segments import make_rows, options_for, prepare, write_index
from killing import read_tree, run_killed_at_rename

from data_prep.arrow_dataset import _HashingWriter
from data_prep.hf_dataset import run
from driving.errors import LedgerError
from driving.ledger import claim_output


def test_running_twice_leaves_a_complete_dataset_untouched(tmp_path):
    output = prepare(tmp_path, make_rows(4, 2))
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file() and path.name != ".lock"}
    assert "already complete" in run(options_for(tmp_path))["lines"][0]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    "options, difference", [({"seed": 8}, "seed = 7, .* asks for 8"), ({"answer_format": "signed2"}, "answer_format")]
)
def test_other_options_are_refused_and_overwrite_replaces(tmp_path, options, difference):
    prepare(tmp_path, make_rows(4, 2))
    with pytest.raises(LedgerError, match=f"was made with {difference}.*--overwrite-output"):
        run(options_for(tmp_path, **options))
    assert run(options_for(tmp_path, overwrite_output=True, **options))["splits"]


def test_other_segments_are_another_plan(tmp_path):
    prepare(tmp_path, make_rows(4, 2))
    with pytest.raises(LedgerError, match="was made with segments_sha256"):
        prepare(tmp_path, make_rows(5, 2))


def test_a_second_writer_is_refused(tmp_path):
    write_index(tmp_path / "segments", make_rows(4, 2))
    with claim_output(tmp_path / "dataset", {}), pytest.raises(LedgerError, match="another run is writing"):
        run(options_for(tmp_path))


def test_a_disk_that_fills_up_is_named_and_the_same_command_continues(tmp_path, monkeypatch):
    whole = read_tree(prepare(tmp_path, make_rows(6)))
    options = options_for(tmp_path, output_dir=tmp_path / "full")

    def fail(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch, pytest.raises(LedgerError, match="the disk is full while writing .*arrow"):
        patch.setattr(_HashingWriter, "write", fail)
        run(options)
    assert sorted(path.name for path in (tmp_path / "full").rglob("*") if path.is_file()) == [".lock", "plan.json"]
    run(options)
    assert read_tree(tmp_path / "full") == whole


def test_two_runs_give_the_same_bytes(tmp_path):
    prepare(tmp_path, make_rows(6))
    run(options_for(tmp_path, output_dir=tmp_path / "again"))
    assert read_tree(tmp_path / "dataset") == read_tree(tmp_path / "again")


def test_killed_at_every_rename_the_same_command_gives_the_same_bytes(tmp_path):
    prepare(tmp_path, make_rows(6))
    whole = read_tree(tmp_path / "dataset")
    options = options_for(tmp_path, output_dir=tmp_path / "killed")
    num_kills = 0
    while run_killed_at_rename(lambda: run(options), num_kills):
        assert not (tmp_path / "killed" / "manifest.json").exists()
        num_kills += 1
    assert num_kills >= 10
    assert read_tree(tmp_path / "killed") == whole
