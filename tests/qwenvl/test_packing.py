"""Bins: full, fair, and the same for the same seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest

from driving.errors import DrivingError
from qwenvl.data.packing import hash_lengths, plan_bins


def test_two_halves_and_a_whole_make_two_bins():
    bins = plan_bins([512, 1024, 512], 1024, seed=0, epoch=0)
    assert sorted(sorted(rows.tolist()) for rows in bins) == [[0, 2], [1]]


def test_a_row_that_fills_its_bin_to_the_last_token_stands_alone():
    bins = plan_bins([1000, 24, 1001], 1001, seed=0, epoch=0)
    assert [rows.tolist() for rows in bins if 2 in rows] == [[2]]


def test_a_row_longer_than_a_bin_is_refused():
    with pytest.raises(DrivingError, match="row 1 holds 1,025 tokens, a bin 1,024; raise --model_max_length"):
        plan_bins([3, 1025], 1024, seed=0, epoch=0)


def test_rows_of_nearly_one_length_meet_others_in_the_next_epoch():
    lengths = [500 + index % 12 for index in range(60)]
    partners = [{frozenset(rows.tolist()) for rows in plan_bins(lengths, 1024, 0, epoch)} for epoch in (0, 1)]
    assert len(partners[0]) == len(partners[1]) == 30
    assert len(partners[0] & partners[1]) < 5


def test_short_answers_to_one_question_fill_their_bins():
    lengths = np.random.default_rng(0).integers(60, 700, 2000)
    assert lengths.sum() / (len(plan_bins(lengths, 4096, 0, 0)) * 4096) > 0.95


def test_the_hash_changes_with_any_length_and_with_the_bin():
    same = hash_lengths([5, 6], [1, 2], 64)
    assert same == hash_lengths(np.array([5, 6]), np.array([1, 2]), 64)
    assert len({same, hash_lengths([5, 7], [1, 2], 64), hash_lengths([5, 6], [2, 2], 64)}) == 3
    assert same != hash_lengths([5, 6], [1, 2], 65)
