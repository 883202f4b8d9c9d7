"""What a text says the own car did, and whether it did."""

from __future__ import annotations

import pytest

from driving.errors import RecordError
from evaluation.text.motion_claims import find_claims, score_motion


def kinds(text, verdict="stated"):
    return [claim.kind for claim in find_claims(text) if claim.verdict == verdict]


@pytest.mark.parametrize(
    "text, found",
    [
        (
            "The ego vehicle slows down and comes to a complete stop, then turns left.",
            ["brakes", "stops", "turns_left"],
        ),
        ("Slowing for red light; stopped.", ["brakes", "stops"]),
        ("We brake, then pick up speed.", ["brakes", "accelerates"]),
        ("The vehicle makes a sharp left turn.", ["turns_left"]),
        ("The car turns to the right.", ["turns_right"]),
        ("The driver begins to slow.", ["brakes"]),
        ("The light turns green and the car pulls away.", ["starts"]),
        ("The ego car remains stationary.", ["stops"]),
        ("Our vehicle reverses out of the lot.", ["reverses"]),
        ("The ego vehicle waits. It accelerates.", ["accelerates"]),
        ("", []),
        ("<marquee>turns left</marquee>", ["turns_left"]),
    ],
)
def test_the_own_cars_motion_is_found(text, found):
    assert kinds(text) == found


@pytest.mark.parametrize(
    "text, found",
    [
        ("The car ahead stops. It turns right.", []),
        ("A pedestrian stops at the stop sign near the bus stop.", []),
        ("A car turning left blocks us.", []),
        ("We accelerate behind a braking car.", ["accelerates"]),
        ("The ego car follows a white truck that turns right, then accelerates.", ["accelerates"]),
        ("The ego vehicle, behind a white truck, slows.", ["brakes"]),
        ("We are stopped behind stopped traffic.", ["stops"]),
        ("The car in front of us brakes hard.", []),
        ("Brake lights of cars glow.", []),
        ("The ego vehicle is in the left-turn lane.", []),
        ("A bus passes while the ego vehicle accelerates.", ["accelerates"]),
        ("A dark Mazda is seen stopped, with a green arrow for turning left.", []),
        ("We see a car in front that eventually comes to a stop.", []),
        ("We wait amid stopped or slow-flowing traffic.", []),
        ("The vehicle drives through a town of frequent stops.", []),
        ("The observer's vehicle stops behind the traffic.", ["stops"]),
    ],
)
def test_what_another_road_user_does_is_no_claim(text, found):
    assert kinds(text) == found


@pytest.mark.parametrize(
    "text", ["The car goes on without stopping.", "The ego vehicle does not stop.", "We never stop."]
)
def test_what_is_denied_is_a_denial(text):
    assert (kinds(text), kinds(text, "denied")) == ([], ["stops"])


@pytest.mark.parametrize(
    "text",
    [
        "The driver should slow down.",
        "Slow down and keep distance.",
        "Be ready to brake.",
        "It may brake.",
        "We will brake.",
    ],
)
def test_what_is_advised_or_expected_claims_nothing(text):
    assert (kinds(text), kinds(text, "hedged")) == ([], ["brakes"])


def test_precision_and_recall_by_hand(make_row, value_of):
    rows = [
        make_row("a", "The car brakes, stops and turns left.", motion=["brakes", "turns_right"]),
        make_row("b", "The car drives on without braking.", motion=["brakes"]),
        make_row("c", "Nothing happens.", motion=[]),
        make_row("d", "The car stops."),
    ]
    measures, facts = score_motion(rows)
    values = {name: value_of(one) for name, one in measures.items()}
    assert values["motion_precision"] == pytest.approx(1 / 3)
    assert values["motion_recall"] == pytest.approx(1 / 3)
    assert values["motion_f1"] == pytest.approx(1 / 3)
    assert values["motion_claims_per_answer"] == 1
    assert values["motion_false_denials"] == 1
    assert values["motion_wrong_side"] == 1
    assert values["motion/brakes/recall"] == 0.5
    assert facts["recorded_motion"]["brakes"] == 2


def test_saying_the_same_twice_claims_it_once(make_row, value_of):
    measures, _ = score_motion([make_row("a", "We stop. We stop again.", motion=["stops"])])
    assert value_of(measures["motion_claims_per_answer"]) == 1


def test_rows_without_motion_have_no_scores(make_row):
    assert score_motion([make_row("a", "The car stops.")]) == ({}, {})


def test_a_fact_that_nobody_records_is_refused(make_row):
    with pytest.raises(
        RecordError, match=r"has 'flies' in \"motion\"; known are accelerates, brakes, reverses, starts"
    ):
        score_motion([make_row("a", "", motion=["flies"])])
