"""JSON answers field by field; expected values by hand."""

from __future__ import annotations

import json

import pytest

from driving.errors import RecordError
from evaluation.text.json_fields import build_constant_object, read_reference_objects, score_json
from evaluation.text.schema import Field, build_checker, guess_fields, list_fields, order_fields, read_schema

SCHEMA = {
    "type": "object",
    "required": ["weather", "risk"],
    "additionalProperties": False,
    "properties": {
        "weather": {"enum": ["clear", "rainy", "snowy"]},
        "risk": {"enum": ["low", "medium", "high"], "x-ordered": True},
        "lanes": {"type": "integer", "x-tolerance": 1},
        "crossing": {"type": "boolean"},
        "signs": {"type": "array"},
        "note": {"type": "string"},
    },
}


@pytest.fixture()
def schema_file(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    return path


@pytest.fixture()
def score(make_row, value_of):
    def score(said, true, fields, check=None, synonyms=None):
        texts = [one if isinstance(one, str) else json.dumps(one) for one in said]
        rows = [make_row(f"{i}", text, fields=truth) for i, (text, truth) in enumerate(zip(texts, true, strict=True))]
        measures, facts, problems = score_json(rows, true, fields, check, synonyms or {})
        return {name: value_of(one) for name, one in measures.items()}, facts, problems

    return score


def test_readable_repaired_and_failed_answers_are_counted_apart(score):
    said = ['{"a": 1}', 'so: {"a": 1}', '{"a": 1,}', "nothing"]
    values, facts, problems = score(said, [{"a": 1}] * 4, {"a": Field("number")})
    assert facts["parsings"] == {"bare": 1, "embedded": 1, "repaired": 1, "failed": 1}
    assert [values[name] for name in ("bare", "readable", "readable_repaired")] == [0.25, 0.5, 0.75]
    assert problems[3] == "the answer holds no object"


def test_a_field_of_an_unreadable_or_repaired_answer_is_wrong_not_left_out(score):
    values, _, _ = score(['{"a": 1}', '{"a": 1,}', "", "{"], [{"a": 1}] * 4, {"a": Field("number")})
    assert values["field/a/exact"] == values["fields_exact"] == 0.25


def test_a_schema_is_obeyed_or_the_first_breach_is_named(score, schema_file):
    schema = read_schema(schema_file)
    said = [{"weather": "rainy", "risk": "low"}, {"weather": "wet", "risk": "low"}, {"weather": "rainy"}]
    values, _, problems = score(said, [said[0]] * 3, list_fields(schema), build_checker(schema))
    assert values["valid_readable"] == pytest.approx(1 / 3)
    assert problems[1] == "weather: 'wet' is not one of ['clear', 'rainy', 'snowy']"
    assert problems[2] == "object: 'risk' is a required property"
    assert "field/lanes/exact" not in values  # no reference has it


def test_the_kinds_of_a_schema_are_read(schema_file):
    fields = list_fields(read_schema(schema_file))
    assert {name: field.kind for name, field in fields.items()} == {
        "weather": "category", "risk": "ordered", "lanes": "number", "crossing": "boolean", "signs": "set",
        "note": "words",
    }  # fmt: skip
    assert fields["risk"].levels == ("low", "medium", "high")
    assert fields["lanes"].tolerance == 1


def test_without_a_schema_the_references_tell_the_kinds():
    objects = [
        {"b": bool(i % 2), "n": i, "s": [i], "c": "low" if i % 3 else "high", "w": f"text number {i}"}
        for i in range(12)
    ]
    kinds = {name: field.kind for name, field in guess_fields(objects).items()}
    assert kinds == {"b": "boolean", "n": "number", "s": "set", "c": "category", "w": "words"}


def test_keys_left_out_and_keys_made_up(score):
    values, _, _ = score([{"a": 1, "x": 1, "y": 1}], [{"a": 1, "b": 2}], {"a": Field("number"), "b": Field("number")})
    assert values["key_coverage"] == 1 / 2
    assert values["unknown_keys"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "said, true, exact",
    [
        (2, 2.0, 1),
        ("2", 2, 0),
        (True, 1, 0),
        (None, None, 1),
        (None, "none", 0),
        ([1], [1], 1),
        ({"x": 1}, {"x": 1}, 1),
    ],
)
def test_exact_means_the_same_json_value(score, said, true, exact):
    values, _, _ = score([{"a": said}], [{"a": true}], {"a": Field("category")})
    assert values["field/a/exact"] == exact


@pytest.mark.parametrize(
    "kind, said, true, as_meant",
    [
        ("category", "Moderate ", "medium", 1),
        ("category", "MEDIUM.", "medium", 1),
        ("category", None, "none", 0),
        ("boolean", "yes", True, 1),
        ("boolean", "none", False, 1),
        ("boolean", "crossing", True, 0),
        ("boolean", None, False, 0),
        ("number", "2 lanes", 2, 1),
        ("number", "two", 2, 1),
        ("number", "about 2", 2, 0),
        ("number", 10**400, 2, 0),
        ("number", True, 1, 0),
        ("set", ["Stop sign", "yield"], ["yield", "stop sign"], 1),
        ("set", "yield", ["yield"], 0),
        ("words", "A wet street.", "wet street", 1),
    ],
)
def test_as_meant_forgives_spelling_and_nothing_else(score, kind, said, true, as_meant):
    values, _, _ = score([{"a": said}], [{"a": true}], {"a": Field(kind)}, synonyms={"moderate": "medium"})
    assert values["field/a/as_meant"] == as_meant


def test_a_number_within_the_tolerance_is_as_meant_and_its_error_is_kept(score):
    said, true = [{"a": 3}, {"a": 9}, {"a": "many"}], [{"a": 2}, {"a": 2}, {"a": 2}]
    values, _, _ = score(said, true, {"a": Field("number", tolerance=1)})
    assert values["field/a/as_meant"] == pytest.approx(1 / 3)
    assert values["field/a/mae"] == 4  # (1 + 7) / 2
    assert values["field/a/answered"] == pytest.approx(2 / 3)


def test_a_missed_high_risk_is_counted_and_no_answer_stands_farthest_from_the_truth(score):
    field = Field("ordered", ("low", "medium", "high"))
    said = [{"a": "low"}, {"a": "high"}, {}, {"a": "dangerous"}]
    true = [{"a": "high"}, {"a": "high"}, {"a": "high"}, {"a": "low"}]
    values, _, _ = score(said, true, {"a": field})
    assert values["field/a/missed_highest"] == pytest.approx(2 / 3)
    assert values["field/a/steps_off"] == (2 + 0 + 2 + 2) / 4


def test_a_truth_outside_the_levels_is_counted_and_has_no_place_among_them(score):
    field = Field("ordered", ("low", "high"))
    values, facts, _ = score([{"a": "low"}, {"a": "wild"}], [{"a": "low"}, {"a": "wild"}], {"a": field})
    assert facts["references_outside_levels"] == {"a": 1}
    assert (values["field/a/steps_off"], values["field/a/exact"]) == (0, 1)


def test_synonyms_give_a_truth_outside_the_levels_its_place(score):
    field = Field("ordered", ("low", "medium", "high"))
    values, facts, _ = score([{"a": "medium"}], [{"a": "moderate"}], {"a": field}, synonyms={"moderate": "medium"})
    assert (values["field/a/as_meant"], values["field/a/steps_off"]) == (1, 0)
    assert facts["references_outside_levels"] == {}


def test_half_a_set_right_has_the_f1_of_its_members(score):
    values, _, _ = score([{"a": ["bus", "car"]}, {"a": []}], [{"a": ["bus"]}, {"a": []}], {"a": Field("set")})
    assert values["field/a/set_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_a_row_whose_truth_lacks_a_field_says_nothing_about_it(score):
    fields = {"a": Field("number"), "b": Field("number")}
    values, _, _ = score([{"a": 1, "b": 5}, {"a": 1, "b": 2}], [{"a": 1}, {"a": 2, "b": 2}], fields)
    assert (values["field/a/exact"], values["field/b/exact"]) == (0.5, 1)
    assert values["fields_exact"] == (1 + 0.5) / 2


def test_a_model_that_always_says_one_value_shows(score):
    said = [{"distance": "50 feet"}] * 3
    _, facts, _ = score(said, [{"distance": f"{i} feet"} for i in range(3)], {"distance": Field("words")})
    assert facts["commonest_values"]["distance"]["answers"] == {"value": "'50 feet'", "share": 1}


def test_the_best_constant_object_holds_the_commonest_value_of_each_field():
    truths = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 2}]
    assert build_constant_object(truths) == {"a": 2, "b": "x"}


def test_a_reference_is_an_object_or_a_text_that_holds_one(make_row):
    rows = [make_row("a", "", fields={"x": 1}), make_row("b", "", text='so ```json\n{"x": 2}\n```')]
    assert read_reference_objects(rows) == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize("reference", [{}, {"text": "no object"}, {"fields": {}}, {"text": '{"a": 1,}'}])
def test_a_reference_without_a_readable_object_is_refused(make_row, reference):
    with pytest.raises(RecordError, match=r"the reference of id 'a' has no object \"fields\""):
        read_reference_objects([make_row("a", "", **reference)])


def test_an_order_is_given_on_the_command_line():
    fields = order_fields({"risk": Field("category")}, ["risk=low, medium,high"])
    assert fields["risk"] == Field("ordered", ("low", "medium", "high"))


@pytest.mark.parametrize("order", ["risk", "risk=low", "speed=low,high", "=a,b"])
def test_an_order_of_no_field_or_no_values_is_refused(order):
    with pytest.raises(RecordError, match="names no field with its values; write risk_factor=low,medium,high"):
        order_fields({"risk": Field("category")}, [order])


@pytest.mark.parametrize(
    "text", ["{oops", "[]", '{"type": "object"}', '{"properties": 3}', '{"type": 7, "properties": {}}']
)
def test_what_is_no_schema_is_refused(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(RecordError, match=r"s.json is no JSON Schema of an object with properties \(.*\); mend it"):
        read_schema(tmp_path / "s.json")
