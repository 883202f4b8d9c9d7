"""Asking in batches, going on after a kill, and controls that see what they should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from driving.records import record_name
from evaluation.asking.controls import plan_donors
from evaluation.asking.predict import Job, part_path, plan_batches, predict, read_parts


@pytest.fixture
def records(small_dataset) -> list[dict]:
    return json.loads(small_dataset.test_data.read_text())


def build_job(records, **changes) -> Job:
    names = [record_name(record) for record in records]
    donors = plan_donors(names, [record["group"] for record in records], 7)
    by_name = dict(zip(names, records, strict=True))
    values = {
        "records": records,
        "controls": ("frozen", "wrong_clip", "mirror"),
        "control_ids": frozenset(names),
        "donors": {name: by_name[donor] for name, donor in donors.items()},
        "batch_size": 4,
    }
    return Job(**(values | changes))


def ask(job: Job, engine, folder: Path):
    predict(job, engine, folder, show_progress=False)
    return read_parts(folder, len(plan_batches(job)))


def test_every_row_is_answered_once_as_it_is_and_once_under_each_control(records, seeing_engine, tmp_path):
    predictions, skips = ask(build_job(records), seeing_engine(), tmp_path)
    assert len(predictions) == 4 * len(records)
    assert skips == []
    plain = [entry for entry in predictions if entry.control == "plain"]
    assert [entry.id for entry in plain] == [record["id"] for record in records]
    assert plain[2].text.startswith("[(8.0, 0.0200), ")
    assert plain[2].clip == [10, 4, 4]


def test_the_controls_show_what_they_say(records, seeing_engine, tmp_path):
    job = build_job(records)
    predictions, _ = ask(job, seeing_engine(), tmp_path)
    texts = {(entry.control, entry.id): entry.text for entry in predictions}
    assert texts["frozen", "left_0"].startswith("[(0.0, 0.0200), ")
    assert texts["mirror", "left_0"].startswith("[(8.0, -0.0200), ")
    assert texts["wrong_clip", "left_0"] == texts["plain", job.donors["left_0"]["id"]]
    assert job.donors["left_0"]["group"] != "left"


def test_controls_are_shown_for_the_chosen_rows_only(records, seeing_engine, tmp_path):
    predictions, _ = ask(build_job(records, control_ids=frozenset({"left_0"})), seeing_engine(), tmp_path)
    assert {entry.id for entry in predictions if entry.control != "plain"} == {"left_0"}


def test_a_run_that_was_killed_asks_only_what_is_missing_and_ends_the_same(records, seeing_engine, tmp_path):
    job = build_job(records)
    whole = ask(job, seeing_engine(), tmp_path / "whole")
    ask(job, seeing_engine(), tmp_path / "killed")
    part_path(tmp_path / "killed", 1).unlink()
    engine = seeing_engine()
    assert ask(job, engine, tmp_path / "killed") == whole
    assert engine.num_asked == 2 * 4  # two rows in the second batch, as they are and under three controls


def test_a_clip_that_cannot_be_read_is_skipped_with_its_reason_and_the_others_answered(
    records, seeing_engine, tmp_path
):
    engine = seeing_engine()
    engine.unreadable.add("stop_1")
    predictions, skips = ask(build_job(records, controls=("frozen",)), engine, tmp_path)
    assert [(skip.id, skip.stage, skip.reason) for skip in skips] == [
        ("stop_1", "read", "videos/stop_1.mp4 is cut short")
    ]
    assert {entry.id for entry in predictions} == {record["id"] for record in records} - {"stop_1"}


def test_a_wrong_clip_that_cannot_be_read_skips_that_control_of_that_row(records, seeing_engine, tmp_path):
    engine = seeing_engine()
    job = build_job(records, controls=("wrong_clip",))
    donor = job.donors["left_0"]["id"]
    engine.unreadable.add(donor)
    predictions, skips = ask(job, engine, tmp_path)
    assert ("left_0", "control wrong_clip") in {(skip.id, skip.stage) for skip in skips}
    assert ("left_0", "plain") in {(entry.id, entry.control) for entry in predictions}


def test_an_answer_with_a_line_separator_stays_one_line(records, seeing_engine, tmp_path):
    engine = seeing_engine(lambda name, text: "a\u2028b\nc")
    predictions, _ = ask(build_job(records, controls=()), engine, tmp_path)
    assert {entry.text for entry in predictions} == {"a\u2028b\nc"}


def test_batches_are_as_large_as_asked_for(records, seeing_engine, tmp_path):
    engine = seeing_engine()
    ask(build_job(records, controls=()), engine, tmp_path)
    assert engine.batches == [4, 2]


def test_a_clip_that_was_mended_is_asked_when_the_run_goes_on(records, seeing_engine, tmp_path):
    job = build_job(records, controls=())
    broken = seeing_engine()
    broken.unreadable.add("left_1")
    ask(job, broken, tmp_path)
    predictions, skips = ask(job, seeing_engine(), tmp_path)
    assert skips == []
    assert [entry.id for entry in predictions] == [record["id"] for record in records]
