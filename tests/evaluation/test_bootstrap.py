"""Intervals over clips, not rows."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scoring.statistics import Bootstrap


def test_the_value_is_the_plain_mean_over_rows():
    estimate = Bootstrap(["a", "a", "b"], 200).mean(np.array([1.0, 2.0, 6.0]))
    assert estimate.value == 3.0
    assert (estimate.num_rows, estimate.num_clips) == (3, 2)


def test_the_interval_of_clip_means_agrees_with_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).normal(5, 2, 40)
    ours = Bootstrap([f"clip{i}" for i in range(40)], 20_000).mean(values)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_nineteen_equal_rows_of_one_clip_are_one_observation():
    clip_values = np.random.default_rng(3).normal(0, 1, 30)
    single = Bootstrap([str(i) for i in range(30)], 2000).mean(clip_values)
    many = Bootstrap(np.repeat([str(i) for i in range(30)], 19), 2000).mean(np.repeat(clip_values, 19))
    assert (many.low, many.high) == pytest.approx((single.low, single.high))
    assert many.num_rows == 570
    assert many.num_clips == 30


def test_one_clip_has_no_interval():
    estimate = Bootstrap(["a", "a"], 200).mean(np.array([1.0, 3.0]))
    assert (estimate.value, estimate.low, estimate.high) == (2.0, None, None)


def test_rows_with_nothing_to_say_are_left_out():
    estimate = Bootstrap(["a", "b", "c"], 200).mean(np.array([1.0, np.nan, 3.0]))
    assert estimate.value == 2.0
    assert (estimate.num_rows, estimate.num_clips) == (2, 2)


def test_a_column_with_nothing_to_say_gives_null():
    estimate = Bootstrap(["a", "b"], 200).mean(np.array([np.nan, np.nan]))
    assert estimate.to_json() == {"value": None, "low": None, "high": None, "num_rows": 0, "num_clips": 0}


def test_a_paired_gain_is_certain_where_each_clip_gains_alike():
    reference = np.random.default_rng(5).uniform(1, 9, 25)
    gain = Bootstrap([str(i) for i in range(25)], 2000).gain(0.6 * reference, reference)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.4, 0.4, 0.4))


def test_a_control_as_bad_as_the_mean_removes_the_whole_gain():
    model, mean = np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 5.0])
    bootstrap = Bootstrap(["a", "b", "c"], 500)
    assert bootstrap.share_removed(model, mean, mean).value == pytest.approx(1.0)
    assert bootstrap.share_removed(model, model, mean).value == pytest.approx(0.0)
    assert bootstrap.share_removed(model, (model + mean) / 2, mean).value == pytest.approx(0.5)


def test_the_same_seed_gives_the_same_interval():
    values = np.arange(12.0)
    names = [str(i) for i in range(12)]
    assert Bootstrap(names, 300, 4).mean(values) == Bootstrap(names, 300, 4).mean(values)
    assert Bootstrap(names, 300, 4).mean(values) != Bootstrap(names, 300, 5).mean(values)


def test_columns_that_are_prepared_together_give_the_same_estimates():
    rng = np.random.default_rng(8)
    names = rng.integers(0, 30, 200).astype(str)
    columns = [rng.normal(size=200), np.where(rng.random(200) < 0.3, np.nan, 1.0), rng.normal(size=200)]
    together = Bootstrap(names, 300)
    together.prepare(columns)
    for column in columns:
        alone = Bootstrap(names, 300).mean(column)
        assert together.mean(column).to_json() == pytest.approx(alone.to_json(), abs=1e-12)


def test_a_part_sees_the_same_draws_of_clips_as_the_whole():
    rng = np.random.default_rng(9)
    names, values = rng.integers(0, 12, 80).astype(str), rng.normal(size=80)
    rows = np.flatnonzero(rng.random(80) < 0.4)
    whole = Bootstrap(names, 500)
    masked = np.full(80, np.nan)
    masked[rows] = values[rows]
    assert whole.part(rows).mean(values[rows]).to_json() == pytest.approx(whole.mean(masked).to_json(), abs=1e-12)


def test_a_part_of_a_part_is_a_part():
    names, values = np.repeat([str(i) for i in range(10)], 3), np.arange(30.0)
    whole = Bootstrap(names, 200)
    outer, inner = np.arange(6, 30), np.arange(3, 12)
    assert whole.part(outer).part(inner).mean(values[outer][inner]) == whole.part(outer[inner]).mean(values[9:18])


def test_the_standard_error_is_that_of_independent_clips():
    values = np.random.default_rng(10).normal(0, 1, 400)
    expected = values.std() / 20  # of the mean of 400
    assert Bootstrap([str(i) for i in range(400)], 4000).mean(values).std_error == pytest.approx(expected, rel=0.04)


def test_draws_too_many_to_keep_are_made_again_and_are_the_same(monkeypatch):
    values = np.random.default_rng(11).normal(size=50)
    kept = Bootstrap([str(i) for i in range(50)], 300).mean(values)
    monkeypatch.setattr("evaluation.scoring.statistics._MAX_KEPT", 10)
    assert Bootstrap([str(i) for i in range(50)], 300).mean(values) == kept
