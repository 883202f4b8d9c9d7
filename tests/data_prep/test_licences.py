"""Licences: every source has one, dataset.json carries them, and what nobody may pass on is told from the rest."""

from __future__ import annotations

import json

import pytest
from drawn_segments import make_row, make_rows, prepare

from data_prep.licences import LICENCES, check_may_be_passed_on, describe_licences, find_licence, read_licences
from data_prep.sources import SOURCES
from driving.errors import LicenceError


def read_facts(folder) -> dict:
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", sorted({*SOURCES, "bdd100k", "nuscenes", "synthetic"}))
def test_every_source_has_a_licence(source):
    assert source in LICENCES and LICENCES[source].terms


def test_nvidias_data_may_not_be_passed_on_and_the_free_ones_may():
    assert not find_licence("physical_ai").may_be_passed_on
    assert all(find_licence(name).may_be_passed_on for name in ("kitti", "comma2k19", "bdd100k", "nuscenes"))


def test_a_source_that_nobody_has_looked_up_may_not_be_passed_on():
    with pytest.raises(LicenceError, match="d is derived from waymo, which may not be passed on .not known.; pass"):
        check_may_be_passed_on(describe_licences(["waymo"]), "d", force=False)


def test_one_source_that_forbids_it_forbids_it_for_all():
    licence = describe_licences(["kitti", "physical_ai"])
    with pytest.raises(LicenceError, match="derived from physical_ai, .* pass --force-licence for a copy that stays"):
        check_may_be_passed_on(licence, "d", force=False)
    assert check_may_be_passed_on(licence, "d", force=True) == ["physical_ai"]


def test_a_dataset_without_rows_of_any_source_is_not_free():
    with pytest.raises(LicenceError, match="derived from unknown"):
        check_may_be_passed_on(describe_licences([]), "d", force=False)


def test_free_data_passes_in_silence():
    assert check_may_be_passed_on(describe_licences(["kitti", "comma2k19"]), "d", force=False) == []


def test_dataset_json_carries_the_licence_of_its_rows(tmp_path):
    licence = read_facts(prepare(tmp_path, make_rows(6)))["licence"]
    assert licence["may_be_passed_on"] is False
    assert licence["origins"]["physical_ai"]["name"] == "NVIDIA Autonomous Vehicle Dataset License Agreement"


def test_drawn_recordings_in_nvidias_layout_are_nobody_elses(tmp_path):
    licence = read_facts(prepare(tmp_path, make_rows(6, platform="synthetic")))["licence"]
    assert licence["may_be_passed_on"] is True and list(licence["origins"]) == ["synthetic"]


def test_one_recorded_clip_among_drawn_ones_is_not_lost_sight_of(tmp_path):
    rows = [*make_rows(6, platform="synthetic"), *(make_row("real", second) for second in range(5))]
    licence = read_facts(prepare(tmp_path, rows))["licence"]
    assert licence["may_be_passed_on"] is False and list(licence["origins"]) == ["physical_ai", "synthetic"]


def test_a_dataset_from_before_licences_has_those_of_its_sources():
    assert read_licences({"sources": {"kitti": 3}})["may_be_passed_on"] is True
    assert read_licences({"sources": {"physical_ai": 3}, "synthetic": True})["may_be_passed_on"] is False
