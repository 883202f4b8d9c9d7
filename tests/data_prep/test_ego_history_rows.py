"""`--ego-history`: the observed second in every question, and nothing filled in.

segments ──▶ dataset ──▶ training JSON
"""

from __future__ import annotations

import json

import pytest
from datasets import load_from_disk
from drawn_segments import make_row, make_rows, options_for, prepare, write_index

from data_prep.hf_dataset import plan_output, run
from data_prep.segment_table import open_segments
from data_prep.training_format import ConvertOptions
from data_prep.training_format import run as convert
from driving.answer_format import EGO_HISTORY, AnswerFormat
from driving.ego_history import check_track, read_history
from driving.errors import LedgerError
from driving.ledger import read_ledger

INSTRUCTION = AnswerFormat(num_pairs=4, fps=4.0).question
# the rows of make_row drive 9 m/s and a m/s more every second
LINE = (
    "Ego motion during this clip, 4 pairs of (velocity in m/s, curvature in 1/m, positive = left), oldest first: "
    "[(11.0, 0.0100), (11.0, 0.0100), (11.0, 0.0100), (11.0, 0.0100)]\n"
)


def test_the_question_tells_the_motion_of_the_input_second_and_not_of_the_answered_one(tmp_path):
    row = load_from_disk(str(prepare(tmp_path, make_rows(4), ego_history=True)))["train"][2]
    assert row["messages"][1]["content"][1] == {"type": "text", "text": LINE + INSTRUCTION}
    assert row["targets_text"].startswith("[(12.0, 0.0100)")


def test_fewer_pairs_in_the_answer_are_fewer_in_the_history(tmp_path):
    observed = [[1.0, 0.1], [3.0, 0.02], [5.0, 0.0], [7.0, 0.0]]
    folder = prepare(tmp_path, make_rows(4, 1, observed=observed), ego_history=True, answer_hz=2.0)
    question = load_from_disk(str(folder))["train"][0]["messages"][1]["content"][1]["text"]
    told = AnswerFormat(num_pairs=2, fps=4.0, history_pairs=2)
    assert read_history(question, told).to_pairs().tolist() == [[2.0, 0.04], [6.0, 0.0]]


def test_the_training_json_and_its_description_are_of_the_track(tmp_path):
    folder = prepare(tmp_path, make_rows(4), ego_history=True)
    convert(ConvertOptions(dataset_dir=folder, output_dir=tmp_path / "training"))
    facts = json.loads((tmp_path / "training" / "dataset.json").read_text())
    answer_format = AnswerFormat(**facts["answer_format"])
    assert (answer_format.history_pairs, answer_format.track) == (4, EGO_HISTORY)
    rows = [
        row for side in ("train", "test") for row in json.loads((tmp_path / "training" / f"{side}.json").read_text())
    ]
    assert len(rows) == 15
    for row in rows:
        check_track(row, answer_format)
    assert rows[2]["conversations"][1]["value"] == "<video>\n" + LINE + INSTRUCTION


def test_without_a_system_turn_the_history_stands_behind_the_system_text(tmp_path):
    folder = prepare(tmp_path, make_rows(4), ego_history=True)
    convert(ConvertOptions(dataset_dir=folder, output_dir=tmp_path / "training", system=False))
    prompt = json.loads((tmp_path / "training" / "train.json").read_text())[2]["conversations"][0]["value"]
    assert prompt == f"<video>\n{AnswerFormat().system_prompt}\n{LINE}{INSTRUCTION}"


def test_a_row_without_observed_motion_goes_to_the_ledger(tmp_path):
    rows = [*make_rows(10), make_row("clip000", 9, observed=None)]
    folder = prepare(tmp_path, rows, ego_history=True)
    assert [(skip.id, skip.reason) for skip in read_ledger(folder / "skipped.jsonl")] == [
        ("clip000_seg_09", "observed is missing")
    ]
    assert sum(map(len, load_from_disk(str(folder)).values())) == 50


def test_a_dataset_from_before_there_were_tracks_is_still_complete(tmp_path):
    write_index(tmp_path / "segments", make_rows(4))
    segments = open_segments(tmp_path / "segments")
    assert "ego_history" not in plan_output(options_for(tmp_path), segments)
    assert plan_output(options_for(tmp_path, ego_history=True), segments)["ego_history"] is True


def test_the_same_command_without_the_flag_makes_the_same_dataset_as_ever(tmp_path):
    question = load_from_disk(str(prepare(tmp_path, make_rows(4))))["train"][0]["messages"][1]["content"][1]["text"]
    assert question == INSTRUCTION


def test_the_dataset_of_one_track_is_not_taken_for_the_other(tmp_path):
    prepare(tmp_path, make_rows(4))
    with pytest.raises(LedgerError, match="was made with .*ego_history"):
        run(options_for(tmp_path, ego_history=True))
