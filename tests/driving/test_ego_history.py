"""The clip's own motion in the prompt: how it is told, read back, taken away, swapped and mirrored."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY, AnswerFormat
from driving.ego_history import (
    build_question,
    check_told,
    check_track,
    explain_other_track,
    format_history,
    mirror_history,
    read_back,
    read_history,
    remove_history,
    replace_history,
    tells_history,
)
from driving.errors import AnswerError, DrivingError, RecordError
from driving.trajectory import Trajectory

TOLD = AnswerFormat(num_pairs=2, fps=4.0, history_pairs=2)
SILENT = AnswerFormat(num_pairs=2, fps=4.0)
HEAD = "Ego motion during this clip, 2 pairs of (velocity in m/s, curvature in 1/m, positive = left), oldest first: "


def drive(*pairs: tuple[float, float]) -> Trajectory:
    return Trajectory.from_pairs(np.array(pairs))


def record_of(question: str, name: str = "a") -> dict:
    turns = [
        {"from": "system", "value": "You drive."},
        {"from": "human", "value": f"<video>\n{question}"},
        {"from": "gpt", "value": "[(1.0, 0.0000), (1.0, 0.0000)]"},
    ]
    return {"id": name, "video": "a.mp4", "conversations": turns}


def told_record(*pairs: tuple[float, float], name: str = "a") -> dict:
    return record_of(build_question(TOLD, drive(*pairs)), name)


def prompt_of(record: dict) -> str:
    return record["conversations"][1]["value"]


# the format


def test_an_answer_format_is_of_the_video_only_track_unless_it_counts_pairs_of_history():
    assert (SILENT.track, TOLD.track) == (VIDEO_ONLY, EGO_HISTORY) == ("video only", "video and ego history")


def test_the_json_of_video_only_is_that_of_files_from_before_there_were_tracks():
    assert list(SILENT.to_json()) == ["name", "num_pairs", "fps", "duration_s", "system_prompt", "user_instruction"]
    assert AnswerFormat(**SILENT.to_json()) == SILENT


def test_a_format_with_history_is_rebuilt_from_its_json():
    assert TOLD.to_json()["history_pairs"] == 2
    assert AnswerFormat(**TOLD.to_json()) == TOLD


def test_a_history_at_another_rate_than_the_answer_is_refused():
    with pytest.raises(DrivingError, match="a history of 3 pairs beside answers of 2: they share one rate"):
        AnswerFormat(num_pairs=2, history_pairs=3)


def test_a_format_with_history_has_no_question_that_fits_every_clip():
    with pytest.raises(DrivingError, match="is told the 2 pairs that the vehicle drove .* cannot be asked without"):
        _ = TOLD.question


@pytest.mark.parametrize("field", ["system_prompt", "user_instruction"])
def test_a_users_own_words_may_not_look_like_a_history(field):
    with pytest.raises(DrivingError, match="a line of the prompt begins with 'Ego motion during this clip'"):
        AnswerFormat(**{field: "Drive.\nEgo motion during this clip is unknown."})


# what is said


def test_the_history_is_one_line_in_front_of_the_video_only_question():
    question = build_question(TOLD, drive((12.34, -0.00424), (0.0, 0.1)))
    assert question == f"{HEAD}[(12.3, -0.0042), (0.0, 0.1000)]\n{SILENT.question}"


def test_video_only_asks_the_same_whatever_the_clip_drove():
    assert build_question(SILENT, drive((12.34, -0.00424), (0.0, 0.1))) == SILENT.question


def test_a_clip_without_recorded_motion_cannot_be_asked_with_history():
    with pytest.raises(DrivingError, match="cannot be asked without them"):
        build_question(TOLD, None)


def test_a_finer_history_is_averaged_as_answers_are():
    # way-weighted curvature of the first half: (1 * 0.1 + 3 * 0.02) / 4 = 0.04
    line = format_history(TOLD, drive((1.0, 0.1), (3.0, 0.02), (5.0, 0.0), (7.0, 0.0)))
    assert line == f"{HEAD}[(2.0, 0.0400), (6.0, 0.0000)]\n"


def test_the_seeds_notation_tells_no_sign():
    told = AnswerFormat("seed", 1, history_pairs=1)
    assert format_history(told, drive((8.24, -0.0123))).endswith("oldest first: [(08.2, 0.012)]\n")


def test_a_users_own_question_stands_behind_the_history():
    told = AnswerFormat(num_pairs=1, user_instruction="Give {num_pairs}.", history_pairs=1)
    assert build_question(told, drive((1.0, 0.0))).splitlines()[1:] == ["Give 1."]


def test_a_history_that_is_not_finite_cannot_be_told():
    with pytest.raises(AnswerError, match="not finite"):
        build_question(TOLD, drive((1.0, 0.0), (np.nan, 0.0)))


# what is read back


def test_reading_undoes_telling_up_to_the_printed_decimals():
    told = read_history(prompt_of(told_record((12.34, -0.00424), (0.0, 0.1))), TOLD)
    assert told.to_pairs().tolist() == [[12.3, -0.0042], [0.0, 0.1]]


def test_what_was_told_is_the_observed_motion_rounded_and_averaged():
    read = read_back(TOLD, drive((1.04, 0.0), (1.04, 0.0), (2.06, 0.00004), (2.06, 0.00004)))
    assert read.to_pairs().tolist() == [[1.0, 0.0], [2.1, 0.0]]


pairs_of_any_car = st.lists(st.tuples(st.floats(-60, 60), st.floats(-0.5, 0.5)), min_size=2, max_size=2)


@given(pairs_of_any_car)
def test_any_motion_is_read_back_within_half_a_printed_decimal(pairs):
    told = read_history(f"<video>\n{build_question(TOLD, drive(*pairs))}", TOLD)
    assert (np.abs(told.to_pairs() - np.array(pairs)) <= [0.05 + 1e-9, 0.00005 + 1e-9]).all()


def test_a_hostile_prompt_costs_time_in_its_length_only():
    started = time.process_time()  # not of the clock: other work shares the cores
    assert read_history(HEAD + "[: [(" * 200_000, TOLD) is None
    assert time.process_time() - started < 2


def test_a_prompt_without_the_line_tells_nothing():
    assert read_history(f"<video>\n{SILENT.question}", TOLD) is None


def test_a_history_that_is_told_twice_is_refused():
    line = format_history(TOLD, drive((1.0, 0.0), (1.0, 0.0)))
    with pytest.raises(AnswerError, match="tells the ego motion 2 times"):
        read_history(line + line, TOLD)


def test_a_history_with_other_decimals_is_refused():
    with pytest.raises(AnswerError, match=r"is not written as \[\(xx.x, 0.xxxx\), ...\]"):
        read_history(f"{HEAD}[(1, 0), (1, 0)]\n", TOLD)


# rows of a track


def test_rows_of_their_own_track_pass():
    check_track(told_record((1.0, 0.0), (2.0, 0.0)), TOLD)
    check_track(record_of(SILENT.question), SILENT)


def test_a_row_without_history_among_such_that_have_it_is_named():
    with pytest.raises(RecordError, match="b: its prompt does not tell the ego motion, .* 'video and ego history'"):
        check_track(record_of(SILENT.question, "b"), TOLD)


def test_a_row_with_history_among_video_only_is_named():
    row = told_record((1.0, 0.0), (2.0, 0.0))
    with pytest.raises(RecordError, match="a: its prompt tells the ego motion, .* 'video only'"):
        check_told(row, is_told=False)


def test_a_row_whose_history_has_another_number_of_pairs_is_named():
    row = record_of(f"{HEAD}[(1.0, 0.0000)]\nWhere to?")
    with pytest.raises(RecordError, match="a: the ego motion in the prompt cannot be read: .* holds 1 .* asked for 2"):
        check_track(row, TOLD)


def test_two_formats_of_two_tracks_are_told_apart_whichever_comes_first():
    said = "b.json tells the ego motion of the clip in its prompts, a.json does not: these are two tracks"
    assert explain_other_track("a.json", SILENT.to_json(), "b.json", TOLD.to_json()) == said
    assert explain_other_track("b.json", TOLD.to_json(), "a.json", SILENT.to_json()) == said


def test_formats_of_one_track_that_differ_otherwise_are_no_two_tracks():
    assert explain_other_track("a", SILENT.to_json(), "b", AnswerFormat(num_pairs=5).to_json()) == ""


# controls


def test_without_its_history_a_row_asks_the_video_only_question():
    row = remove_history(told_record((1.0, 0.0), (2.0, 0.0)))
    assert prompt_of(row) == f"<video>\n{SILENT.question}"
    assert not tells_history(row)


def test_only_the_question_changes():
    row = told_record((1.0, 0.0), (2.0, 0.0))
    before = {**row, "conversations": [dict(turn) for turn in row["conversations"]]}
    changed = remove_history(row)
    assert row == before
    assert changed["conversations"][0] == row["conversations"][0]
    assert changed["conversations"][2] == row["conversations"][2]


def test_another_clips_history_takes_the_place_of_its_own():
    row = replace_history(told_record((1.0, 0.0), (2.0, 0.0)), told_record((3.0, 0.1), (4.0, -0.1), name="b"))
    assert read_history(prompt_of(row), TOLD).to_pairs().tolist() == [[3.0, 0.1], [4.0, -0.1]]
    assert row["id"] == "a"


def test_a_row_that_tells_nothing_has_no_history_to_lend():
    with pytest.raises(RecordError, match="b: its prompt tells no ego motion that another could be given"):
        replace_history(told_record((1.0, 0.0), (2.0, 0.0)), record_of(SILENT.question, "b"))


def test_a_mirror_swaps_the_sides_of_the_history_and_undoes_itself():
    row = told_record((3.0, 0.1), (4.0, 0.0))
    mirrored = mirror_history(row, TOLD)
    assert read_history(prompt_of(mirrored), TOLD).to_pairs().tolist() == [[3.0, -0.1], [4.0, 0.0]]
    assert mirror_history(mirrored, TOLD) == row


def test_a_backslash_in_another_clips_prompt_is_no_pattern():
    row, donor = told_record((1.0, 0.0), (2.0, 0.0)), told_record((3.0, 0.0), (4.0, 0.0), name="b")
    donor["conversations"][1]["value"] += r" \1 \g<pairs>"
    assert read_history(prompt_of(replace_history(row, donor)), TOLD).velocity_mps.tolist() == [3.0, 4.0]
