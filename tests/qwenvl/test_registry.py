"""`--dataset_use`: names, paths, shares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from driving.errors import DrivingError
from qwenvl.data import choose_rows, load_registry, parse_dataset_use


def test_the_seeds_name_is_registered_where_its_document_says():
    (use,) = parse_dataset_use("physical_ai_driving")
    assert use.annotation_path == Path("qwen_video_dataset_training/train.json")
    assert use.percent == 100


def test_names_and_paths_may_be_mixed_each_with_its_share():
    first, second = parse_dataset_use("physical_ai_driving%50, my/train.json%12.5")
    assert (first.name, first.percent) == ("physical_ai_driving", 50)
    assert (second.annotation_path, second.percent) == (Path("my/train.json"), 12.5)


def test_an_unknown_name_is_answered_with_the_nearest_known_ones():
    with pytest.raises(DrivingError, match="'physical_ai_drivin' is not registered; .* physical_ai_driving"):
        parse_dataset_use("physical_ai_drivin")


@pytest.mark.parametrize("share", ["0", "-5", "x", "nan"])
def test_a_share_that_is_no_number_above_zero_is_refused(share):
    with pytest.raises(DrivingError, match="must be a number above 0"):
        parse_dataset_use(f"physical_ai_driving%{share}")


def test_no_name_at_all_is_refused():
    with pytest.raises(DrivingError, match="names no dataset"):
        parse_dataset_use(" , ")


def test_half_the_rows_are_the_same_half_every_time():
    rows = choose_rows(100, 50, seed=7, name="a")
    assert len(rows) == 50 == len(set(rows))
    assert rows == choose_rows(100, 50, seed=7, name="a")


def test_another_seed_or_dataset_takes_another_half():
    assert choose_rows(100, 50, seed=7, name="a") != choose_rows(100, 50, seed=8, name="a")
    assert choose_rows(100, 50, seed=7, name="a") != choose_rows(100, 50, seed=7, name="b")


def test_250_percent_is_every_row_twice_and_half_of_them_a_third_time():
    rows = choose_rows(10, 250, seed=7, name="a")
    counts = sorted(rows.count(row) for row in range(10))
    assert counts == [2] * 5 + [3] * 5


def test_a_small_share_takes_at_least_one_row():
    assert len(choose_rows(10, 1, seed=7, name="a")) == 1


def test_a_system_brings_its_own_datasets(tmp_path):
    (tmp_path / "bdd").mkdir()
    entry = {"bdd_captions": {"annotation_path": "bdd/train.json", "data_path": "bdd/videos"}}
    (tmp_path / "bdd/datasets.json").write_text(json.dumps(entry))
    (use,) = parse_dataset_use("bdd_captions", load_registry((tmp_path,)))
    assert (use.annotation_path, use.data_path) == (Path("bdd/train.json"), Path("bdd/videos"))


def test_two_systems_may_not_claim_one_name(tmp_path):
    for system in ("a", "b"):
        (tmp_path / system).mkdir()
        (tmp_path / system / "datasets.json").write_text(json.dumps({"x": {"annotation_path": f"{system}.json"}}))
    with pytest.raises(DrivingError, match="registers 'x', which is taken"):
        load_registry((tmp_path,))


def test_a_broken_registry_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/datasets.json").write_text("[1]")
    with pytest.raises(DrivingError, match="datasets.json is not a dataset registry"):
        load_registry((tmp_path,))
