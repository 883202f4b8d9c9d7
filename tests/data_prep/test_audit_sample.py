"""Which labels of a large index the audit looks at."""

from __future__ import annotations

from data_prep.audit import tool


def test_few_segments_are_all_looked_at():
    assert tool._thin({"a": [0, 1, 2], "b": [3]}, 4) == {"a": [0, 1, 2], "b": [3]}


def test_of_many_segments_each_recording_gives_some_evenly_chosen():
    places = {"a": list(range(10)), "b": [10], "c": list(range(11, 17))}
    assert tool._thin(places, 6) == {"a": [0, 5], "b": [10], "c": [11, 14]}


def test_a_recording_always_gives_one():
    assert tool._thin({"a": [0, 1], "b": [2, 3]}, 1) == {"a": [0], "b": [2]}
