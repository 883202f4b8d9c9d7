"""What counts as a JSON answer, how much mending is allowed, and what is never guessed."""

from __future__ import annotations

import pytest

from evaluation.text.json_answers import parse_json_answer

ADAS = """**Scene Description:**
Wet city street, {no} braces lie here.

**Driving Parameters (JSON):**
```json
{"weather": "rainy"}
```

**Risk Assessment:**
- **Nearby Vehicles:** low"""


@pytest.mark.parametrize(
    "text, parsing, value",
    [
        ('{"a": 1}', "bare", {"a": 1}),
        (' \n{"a": {"b": "}"}}\n', "bare", {"a": {"b": "}"}}),
        ('Sure: {"a": 1} as asked', "embedded", {"a": 1}),
        ('```json\n{"a": 1}\n```', "embedded", {"a": 1}),
        (ADAS.replace("{no}", "no"), "embedded", {"weather": "rainy"}),
        ('{"a": "say \\"hi\\" {"}', "bare", {"a": 'say "hi" {'}),
        ('{"a": "<script>alert(1)</script>"}', "bare", {"a": "<script>alert(1)</script>"}),
        ('{"a": 1,}', "repaired", {"a": 1}),
        ('{"a": [1, 2, ], "b": "x, }",\n}', "repaired", {"a": [1, 2], "b": "x, }"}),
        ("{'a': True, 'b': None}", "repaired", {"a": True, "b": None}),
        ('{"a": True}', "repaired", {"a": True}),
        ("{\u201ca\u201d: 1}", "repaired", {"a": 1}),
    ],
)
def test_an_object_is_read_with_how_it_stood_there(text, parsing, value):
    found = parse_json_answer(text)
    assert (found.parsing, found.value) == (parsing, value)


@pytest.mark.parametrize(
    "text, error",
    [
        ("", "the answer is empty"),
        ("  \n", "the answer is empty"),
        ("I cannot see the road.", "holds no object"),
        ("[1, 2]", "holds no object"),
        ('{"a": 1', "the object is not closed"),
        ('{"weather": "rai', "the object is not closed"),
        ('{"a": 1} {"a": 2}', "holds 2 objects, asked was one"),
        (ADAS, "holds 2 objects"),
        ('{"a": 1, "a": 2}', "key 'a' comes twice"),
        ("{'a': 1, 'a': 2}", "Expecting property name"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "1e999 is beyond every float"),
        ('{"a": __import__("os")}', "Expecting value"),
        ('{"a": b}', "Expecting value"),
        ('{"a": ' + "[" * 9000 + "]" * 9000 + "}", "nested too deeply"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_says_why(text, error):
    found = parse_json_answer(text)
    assert (found.parsing, found.value) == ("failed", None)
    assert error in found.error


def test_an_inner_object_of_a_broken_one_is_not_taken_for_the_answer():
    assert parse_json_answer('{"a": {"b": 1}, oops}').parsing == "failed"
