"""A seeded choice of rows, spread over the recordings."""

from __future__ import annotations

from driving.row_choice import choose_evenly


def test_fewer_rows_take_turns_over_the_recordings_and_keep_their_order():
    rows = [
        {"id": f"{clip}{index}", "group": clip} for clip, num in (("a", 9), ("b", 2), ("c", 1)) for index in range(num)
    ]
    chosen = choose_evenly(rows, 6, seed=7)
    assert [sum(rows[place]["group"] == clip for place in chosen) for clip in "abc"] == [3, 2, 1]
    assert chosen == sorted(chosen)
    assert choose_evenly(rows, 6, seed=7) == chosen
    assert choose_evenly(rows, 6, seed=8) != chosen


def test_another_order_of_the_rows_gives_the_same_rows():
    rows = [{"id": str(number)} for number in range(9)]
    backwards = rows[::-1]
    chosen = {rows[place]["id"] for place in choose_evenly(rows, 4, seed=7)}
    assert {backwards[place]["id"] for place in choose_evenly(backwards, 4, seed=7)} == chosen


def test_zero_or_more_than_there_are_takes_all_rows():
    rows = [{"id": "a"}, {"id": "b"}]
    assert choose_evenly(rows, 0, seed=7) == [0, 1]
    assert choose_evenly(rows, 5, seed=7) == [0, 1]
