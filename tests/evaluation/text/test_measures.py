"""Scores as combinations of means: values by hand, by scikit-learn, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scoring.statistics import Bootstrap
from evaluation.text.measures import f1_of, kappa_of, macro_f1_of, mean_of, ratio_of

TRUE = np.array([0, 1, 2, 2, 1, 0, 0, 1, 2, 1], dtype=float)
SAID = np.array([0, 2, 2, 1, 1, 0, 1, 1, 0, 1], dtype=float)


def test_kappa_with_quadratic_weights_is_scikit_learns(value_of):
    # cohen_kappa_score(TRUE, SAID, weights="quadratic"), scikit-learn 1.8
    assert value_of(kappa_of(TRUE, SAID, 3)) == pytest.approx(0.36363636363636365, abs=1e-12)


def test_macro_f1_is_scikit_learns(value_of):
    # f1_score(TRUE, SAID, average="macro"), scikit-learn 1.8
    assert value_of(macro_f1_of(TRUE, SAID, 3)) == pytest.approx(0.5777777777777778, abs=1e-12)


def test_perfect_agreement_has_kappa_and_f1_of_one(value_of):
    assert value_of(kappa_of(TRUE, TRUE, 3)) == 1
    assert value_of(macro_f1_of(TRUE, TRUE, 3)) == 1


def test_an_answer_that_is_no_class_is_a_miss_and_nobodys_false_alarm(value_of):
    # class 0: one of two found, none wrongly claimed: 2 * 1 / (2 + 1)
    assert value_of(macro_f1_of(np.array([0.0, 0.0]), np.array([0.0, -1.0]), 1)) == pytest.approx(2 / 3)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios(value_of):
    assert value_of(ratio_of([1, 0], [1, 3])) == 0.25


def test_f1_is_the_harmonic_mean_of_precision_and_recall(value_of):
    precision, recall = 3 / 4, 3 / 8
    assert value_of(f1_of([3], [4], [8])) == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_ratio_over_nothing_is_unknown(value_of):
    assert value_of(ratio_of([0, 0], [0, 0])) is None


def test_a_measure_within_rows_sees_those_rows_only(value_of):
    assert value_of(mean_of([1.0, 5.0, 9.0]).within(np.array([True, False, True]))) == 5.0


def test_a_difference_of_equal_scores_is_certainly_zero():
    column = np.random.default_rng(1).uniform(0, 1, 30)
    gain = mean_of(column).less(mean_of(column))
    estimate = Bootstrap([str(i) for i in range(30)], 500).estimate(gain.combine, *gain.columns)
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_a_ratios_interval_agrees_with_scipys_paired_bootstrap():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(4)
    wholes = rng.integers(1, 9, 50)
    parts = rng.binomial(wholes, 0.4)
    one = ratio_of(parts, wholes)
    ours = Bootstrap([str(i) for i in range(50)], 20_000).estimate(one.combine, *one.columns)
    theirs = bootstrap(
        (parts, wholes), lambda p, w, axis: p.sum(axis=axis) / w.sum(axis=axis), paired=True, n_resamples=20_000,
        method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
