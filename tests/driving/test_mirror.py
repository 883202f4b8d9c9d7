"""A mirrored row says of the mirrored road what the row says of the road."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_prep.segment_labels import label_segment
from driving.answer_format import AnswerFormat, format_answer
from driving.clock import SegmentTimes, Window
from driving.ego_history import build_question
from driving.ego_motion import EgoMotion
from driving.mirror import mirror_frames, mirror_record, mirror_text
from driving.records import build_messages, conversations_from_messages
from driving.trajectory import Trajectory

PAIRS = AnswerFormat(num_pairs=2, fps=2.0)
TOLD = AnswerFormat(num_pairs=2, fps=2.0, history_pairs=2)
OBSERVED = Trajectory.from_pairs([[3.0, 0.1], [4.0, -0.02]])


def make_record(question: str, answer: str, system: str = "") -> dict:
    messages = build_messages(system, "a.mp4", question, answer)
    return {"id": "a", **conversations_from_messages(messages)}


def values(record: dict) -> list[str]:
    return [turn["value"] for turn in record["conversations"]]


def test_an_answer_in_pairs_has_its_curvatures_negated_and_its_question_kept():
    record = make_record(PAIRS.question, "[(1.0, -0.0200), (2.5, 0.0000)]", PAIRS.system_prompt)
    mirrored = mirror_record(record, PAIRS)
    assert values(mirrored) == [PAIRS.system_prompt, f"<video>\n{PAIRS.question}", "[(1.0, 0.0200), (2.5, 0.0000)]"]
    assert "positive = left" in values(mirrored)[1]
    assert mirror_record(mirrored, PAIRS) == record


def test_the_ego_history_is_mirrored_with_the_answer():
    record = make_record(build_question(TOLD, OBSERVED), "[(4.0, 0.0300), (5.0, 0.0310)]")
    question, answer = values(mirror_record(record, TOLD))
    assert "positive = left), oldest first: [(3.0, -0.1000), (4.0, 0.0200)]\n" in question
    assert answer == "[(4.0, -0.0300), (5.0, -0.0310)]"
    assert mirror_record(mirror_record(record, TOLD), TOLD) == record


def test_a_question_that_defines_the_sign_and_names_a_side_has_the_side_swapped_alone():
    asked = f"Take the left lane.\n{PAIRS.question}"
    (question, _) = values(mirror_record(make_record(asked, "[(1.0, 0.0100), (1.0, 0.0100)]"), PAIRS))
    assert question == f"<video>\nTake the right lane.\n{PAIRS.question}"


def drive(side: int) -> EgoMotion:
    """Four seconds at 6 to 10 m/s through a bend that tightens to the left (side 1), or to the right (side -1)."""
    times_s = np.arange(0, 4.001, 0.01)
    heading = 0.1 * times_s + 0.05 * times_s**2
    velocity = (6 + times_s)[:, None] * np.stack([np.cos(heading), side * np.sin(heading), 0 * heading], axis=1)
    position = np.cumsum(velocity, axis=0) * 0.01
    quaternion = np.stack([0 * heading, 0 * heading, side * np.sin(heading / 2), np.cos(heading / 2)], axis=1)
    return EgoMotion((times_s * 1e6).round().astype(np.int64), position, quaternion, velocity)


def test_the_label_of_a_mirrored_drive_is_the_mirrored_label():
    motion, mirrored_motion = drive(1), drive(-1)
    times = SegmentTimes(1, Window(1_000_000, 2_000_000), Window(2_000_000, 3_000_000))
    labels = [label_segment(each, times, 10.0, max_gap_s=0.25, curvature="pose") for each in (motion, mirrored_motion)]
    answer_format = AnswerFormat(num_pairs=10, fps=10.0, history_pairs=10)
    records = [
        make_record(
            build_question(answer_format, Trajectory.from_pairs(each.observed)),
            format_answer(Trajectory.from_pairs(each.targets), answer_format),
        )
        for each in labels
    ]
    assert abs(labels[0].targets[:, 1]).min() > 0.005
    assert mirror_record(records[0], answer_format) == records[1]


@pytest.mark.parametrize(
    "text, mirrored",
    [
        ("Turn left at the light.", "Turn right at the light."),
        ("The leftmost car is on our RIGHT", "The rightmost car is on our LEFT"),
        ("lane_change_left; Right-hand bend", "lane_change_right; Left-hand bend"),
        ("leftwards, then rightward", "rightwards, then leftward"),
        ("Slow down, the brakes ahead are bright.", "Slow down, the brakes ahead are bright."),
        ("negative means right. Go right.", "negative means right. Go left."),
    ],
)
def test_left_and_right_change_places_in_words_and_back(text, mirrored):
    assert mirror_text(text) == mirrored
    assert mirror_text(mirrored) == text


@pytest.mark.parametrize(
    "text",
    [
        "The sign says STOP.", "What is written on the truck?", "A speed limit of 30", 'It shows "EXIT"',
        "We have the right of way.", "Brake right now.", "There is room left.", "It left the lane.", "Is that right?",
        "The car at [120, 40, 300, 200]", "<box>left</box>", "We drive north.", "turn clockwise", "TurnLeft",
        "right-hand traffic", "nach rechts \u00fcber die Kreuzung", "What does the plate say?",
    ],
)  # fmt: skip
def test_text_without_a_mirrored_form_is_not_mirrored(text):
    assert mirror_text(text) is None
    assert mirror_record(make_record("What now?", text), None) is None
    assert mirror_record(make_record(text, "Go."), PAIRS) is None


@pytest.mark.parametrize(
    "answer", ["[(1.0, 0.02), (1.0, 0.02)]", "Sure: [(1.0, 0.0200), (1.0, 0.0200)]", "[(1.0, -0.0000), (1.0, 0.0200)]"]
)
def test_pairs_that_are_not_written_as_the_format_does_are_not_mirrored(answer):
    assert mirror_record(make_record(PAIRS.question, answer), PAIRS) is None


def test_pairs_of_a_dataset_without_a_format_are_not_mirrored():
    assert mirror_record(make_record(PAIRS.question, "[(1.0, 0.0200), (1.0, 0.0200)]"), None) is None


def test_an_unsigned_answer_stays_as_it_is_and_words_of_the_system_turn_decide_too():
    seed = dataclasses.replace(PAIRS, name="seed")
    record = make_record(seed.question, "[(01.0, 0.020), (01.0, 0.020)]")
    assert mirror_record(record, seed) == record
    assert mirror_record(make_record("Where to?", "Go left.", "You drive on the left."), None) is None


def test_a_row_of_several_pictures_is_not_mirrored():
    record = make_record("Where to?", "Go left.") | {"video": ["a.mp4", "b.mp4"]}
    assert mirror_record(record, None) is None


def test_frames_are_mirrored_left_to_right_and_back():
    frames = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    assert mirror_frames(frames)[0, 0].tolist() == [[6, 7, 8], [3, 4, 5], [0, 1, 2]]
    assert (mirror_frames(mirror_frames(frames)) == frames).all()
