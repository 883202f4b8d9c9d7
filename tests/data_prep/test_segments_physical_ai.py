"""What the segment stage says and does only for PhysicalAI-AV: how much of it is here, and which split is taken."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from breaking import edit_index

from data_prep.segment_options import SegmentOptions, main
from data_prep.segments import run
from data_prep.synthetic import constant_motion, write_dataset
from driving.errors import LedgerError, SourceError


@pytest.fixture
def hub(tmp_path):
    """(folder of two drawn clips of three seconds whose index lists a third chunk that is not here, clip ids)"""
    made = write_dataset(tmp_path / "in", [constant_motion(8.0), constant_motion(9.0)], seconds=3, height=32, width=64)
    elsewhere = pd.DataFrame({"chunk": [5], "split": ["train"], "clip_is_valid": [True]}, index=["elsewhere"])
    edit_index(made.root, lambda table: pd.concat([table, elsewhere]).rename_axis("clip_id"))
    return made.root, made.clip_ids


def cut(root, **options):
    run(SegmentOptions(input_dir=root, output_dir=root.parent / "out", cut="index", workers=1, **options))
    return pd.read_parquet(root.parent / "out" / "metadata" / "segments.parquet").set_index("clip_uuid")["split"]


def write_split(root, name, labels):
    path = root / "splits" / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame({"split": labels}).rename_axis("clip_id").to_parquet(path)


def test_how_much_of_the_dataset_is_here_is_said_once(hub, capsys):
    cut(hub[0])
    said = capsys.readouterr().out
    line = "1 of the 2 chunks of camera_front_wide_120fov that clip_index.parquet lists are here"
    assert said.count(line) == 1


def test_the_split_is_taken_from_the_table_that_is_named(hub):
    root, (first, second) = hub
    write_split(root, "default", {first: "train", second: "train"})
    write_split(root, "mine", {first: "test", second: "val"})
    assert cut(root, split_name="mine").to_dict() == {first: "test", second: "val"}


def test_another_split_into_the_same_folder_is_refused(hub):
    root, (first, second) = hub
    cut(root)
    write_split(root, "mine", {first: "test", second: "val"})
    with pytest.raises(LedgerError, match="was made with split_name = default, this run asks for mine"):
        cut(root, split_name="mine")


def test_a_split_that_is_not_there_is_refused_with_those_that_are(hub):
    write_split(hub[0], "mine", {})
    with pytest.raises(SourceError, match=r"other.parquet is missing; the splits that are there: mine"):
        cut(hub[0], split_name="other")


def test_a_format_without_named_splits_refuses_the_flag(tmp_path):
    Path(tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").touch()
    argv = ["--input-dir", str(tmp_path / "in"), "--output-dir", str(tmp_path / "out"), "--split-name", "mine"]
    with pytest.raises(SourceError, match="--split-name mine: .* is of the format folder, and only physical_ai"):
        main(argv)


@pytest.mark.parametrize("layout", ["hub", "extracted"])
def test_rows_of_drawn_recordings_say_that_they_were_drawn(tmp_path, layout):
    write_dataset(tmp_path / "in", [constant_motion(8.0)], seconds=2, height=32, width=64, layout=layout)
    cut(tmp_path / "in")
    assert pd.read_parquet(tmp_path / "out/metadata/segments.parquet")["platform"].tolist() == ["synthetic"]
