"""What a text says is there, what it denies, and what it made up."""

from __future__ import annotations

import json

import pytest

from driving.errors import RecordError
from evaluation.text.objects import find_objects, score_objects
from evaluation.text.ontology import load_ontology

BDD = load_ontology("bdd100k")
NUSCENES = load_ontology("nuscenes")


def names(text, ontology=BDD, verdict="stated"):
    return [one.name for one in find_objects(text, ontology) if one.verdict == verdict]


@pytest.mark.parametrize(
    "text, found",
    [
        ("A white SUV and two trucks wait at the red light.", ["car", "truck", "traffic light"]),
        ("Taxis, lorries and buses", ["car", "truck", "bus"]),
        ("a traffic-light and a TRAFFIC  LIGHT", ["traffic light", "traffic light"]),
        ("The ego vehicle passes a bus stop, a bike lane and a pedestrian crossing.", []),
        ("Cargo, carts, scars and abusive bushes in the rain", []),
        ("a no parking sign", ["traffic sign"]),
        ("The vehicle waits behind the vehicles, inside a vehicle.", ["vehicle"]),
        ("The vehicle ahead is a taxi.", ["vehicle", "car"]),
        ("A delivery truck", ["truck"]),
        ("People in vehicles", ["person", "vehicle"]),
        ("<b>car</b>", ["car"]),
        ("", []),
    ],
)
def test_whole_words_and_the_longest_phrase_are_found(text, found):
    assert names(text) == found


def test_each_ontology_has_its_own_classes():
    assert names("A van passes a cyclist and traffic cones", NUSCENES) == ["car", "bicycle", "traffic cone"]
    assert names("A van passes a cyclist and traffic cones", BDD) == ["van", "rider"]


@pytest.mark.parametrize(
    "text, denied, stated",
    [
        ("There are no pedestrians.", ["pedestrian"], []),
        (
            "No visible pedestrians, cyclists or oncoming vehicles, and a bus.",
            ["pedestrian", "rider", "vehicle"],
            ["bus"],
        ),
        ("There are no pedestrians. A car passes.", ["pedestrian"], ["car"]),
        ("No trucks are near, but a bus is.", ["truck"], ["bus"]),
        ("Pedestrians are not visible; cars are parked.", ["pedestrian"], ["car"]),
        ("The car drives without a trailer on the empty road beside the tracks past a bus.", [], ["car", "bus"]),
        ("The cars are not moving.", [], ["car"]),
        ("The road is clear of pedestrians and trucks.", ["pedestrian", "truck"], []),
        ("We don't see any buses.", ["bus"], []),
        ("There is no change in the traffic light.", [], ["traffic light"]),
        ("A 'No Entry' sign stands there.", [], ["traffic sign"]),
        ("Elements such as buses and a truck.", [], ["bus", "truck"]),
    ],
)
def test_what_is_denied_is_not_claimed(text, denied, stated):
    assert names(text, verdict="denied") == denied
    assert names(text) == stated


@pytest.mark.parametrize("text", ["Watch for pedestrians.", "Be alert for potential pedestrians", "Pedestrians"])
def test_what_is_only_warned_of_is_not_claimed(text):
    assert names(text) == (["pedestrian"] if text == "Pedestrians" else [])


def test_chair_and_coverage_by_hand(make_row, value_of):
    rows = [
        # car true; bus and bus again made up; truck not spoken of
        make_row("a", "A car passes. A bus and another bus wait.", objects=["car", "truck"]),
        # all true, and a denial that is right
        make_row("b", "A truck. No buses.", objects=["truck"]),
        # silent, and a denial that is wrong
        make_row("c", "There are no cars.", objects=["car"]),
        # no objects known: says nothing
        make_row("d", "A bus."),
    ]
    measures, facts = score_objects(rows, BDD)
    values = {name: value_of(one) for name, one in measures.items()}
    assert values["chair_i"] == pytest.approx(2 / 4)
    assert values["chair_s"] == pytest.approx(1 / 3)
    assert values["chair_sentence"] == pytest.approx(1 / 5)
    assert values["coverage"] == pytest.approx(2 / 4)
    assert values["silent"] == pytest.approx(1 / 3)
    assert values["false_denials"] == pytest.approx(1 / 2)
    assert values["objects_per_answer"] == pytest.approx(4 / 3)
    assert facts == {"hallucinated_objects": {"bus": 2}, "num_rows_with_objects": 3}


def test_a_general_word_is_true_where_any_of_its_kind_is_there(make_row, value_of):
    rows = [make_row("a", "Vehicles.", objects=["truck"]), make_row("b", "Vehicles.", objects=["pedestrian"])]
    measures, _ = score_objects(rows, BDD)
    assert value_of(measures["chair_i"]) == 0.5
    assert value_of(measures["coverage"]) == 0  # it names no class


def test_silence_has_no_hallucination_and_no_coverage(make_row, value_of):
    measures, _ = score_objects([make_row("a", "", objects=["car"])], BDD)
    assert (value_of(measures["chair_i"]), value_of(measures["coverage"])) == (None, 0)
    assert value_of(measures["silent"]) == 1


def test_a_datasets_own_names_are_taken_for_objects(make_row, value_of):
    row = make_row("a", "A bus and a worker", objects=["vehicle.bus.rigid", "human.pedestrian.adult"])
    assert value_of(score_objects([row], NUSCENES)[0]["coverage"]) == 0.5


def test_rows_without_objects_have_no_scores(make_row):
    assert score_objects([make_row("a", "A bus.")], BDD) == ({}, {})


@pytest.mark.parametrize(
    "objects, complaint",
    [
        (["kangaroo"], r"the reference of id 'a' has 'kangaroo' in \"objects\"; known are bicycle, bike, bus, car,"),
        ("car", r"the reference of id 'a' has \"objects\" that is no list of names: 'car'"),
    ],
)
def test_objects_that_cannot_be_taken_are_refused(make_row, objects, complaint):
    with pytest.raises(RecordError, match=complaint):
        score_objects([make_row("a", "", objects=objects)], BDD)


def test_an_ontology_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"classes": {"kangaroo": {"labels": [], "words": ["kangaroo", "roo"]}}}))
    assert names("Two roos and a bus", load_ontology(str(path))) == ["kangaroo"]


def test_what_is_no_ontology_is_refused(tmp_path):
    with pytest.raises(
        RecordError, match="'cityscapes' is no ontology .* name one of bdd100k, nuscenes or a JSON file"
    ):
        load_ontology("cityscapes")
    path = tmp_path / "own.json"
    path.write_text('{"classes": {"a": {"labels": []}}}')
    with pytest.raises(RecordError, match=r"own.json is not made like .*bdd100k.json: KeyError\('words'\); mend it"):
        load_ontology(str(path))
    path.write_text(json.dumps({"classes": {}, "generic": {"vehicle": {"members": ["car"], "words": []}}}))
    with pytest.raises(RecordError, match="car is a member of a generic word and no class"):
        load_ontology(str(path))
