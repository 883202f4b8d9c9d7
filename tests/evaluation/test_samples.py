"""Several samples a row: what an oracle would pick, CRPS, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from driving.answer_format import AnswerFormat
from evaluation.scoring.samples import (
    Samples,
    crps,
    draw_blind,
    measure_blind,
    measure_samples,
    read_samples,
    share_inside,
)
from evaluation.scoring.score import score_rows
from evaluation.scoring.statistics import Bootstrap
from qwenvl.train.sampling import Sampling


def build_samples(velocity: np.ndarray) -> Samples:
    """(B, K) speeds, each held, straight on."""
    held = np.repeat(velocity[:, :, None], 10, axis=2).astype(np.float64)
    return Samples(held, np.zeros_like(held), np.ones(velocity.shape, bool), np.zeros(len(held)), np.ones(len(held)))


def measure(truth, samples, single_mps):
    shape = truth.velocity_mps.shape
    single = score_rows((np.broadcast_to(np.array(single_mps)[:, None], shape), np.zeros(shape)), truth)
    label = truth.velocity_mps, truth.curvature_per_m
    sampling = Sampling(samples.velocity_mps.shape[1])
    return measure_samples(truth, samples, single, label, sampling, Bootstrap(truth.groups, 50))


def test_the_oracles_choice_stands_beside_the_average_sample_and_the_single_answer(drive):
    truth = drive([(10.0, 0.0), (20.0, 0.0)])
    found = measure(truth, build_samples(np.array([[10.0, 11.0, 14.0], [18.0, 19.0, 23.0]])), [12.0, 20.0])
    # off by d m/s for a second: 0.55 d on average over the ten instants 0.1 s .. 1.0 s, d at the end
    assert found["min_ade_m"]["value"] == pytest.approx(0.55 * (0 + 1) / 2)
    assert found["min_fde_m"]["value"] == pytest.approx((0 + 1) / 2)
    assert found["mean_ade_m"]["value"] == pytest.approx(0.55 * (5 / 3 + 6 / 3) / 2)
    assert found["ade_of_mean_m"]["value"] == pytest.approx(0.55 * (5 / 3 + 0) / 2)
    assert found["single"]["ade_m"]["value"] == pytest.approx(0.55 * (2 + 0) / 2)
    assert found["num_samples"] == 3


def test_a_sample_that_failed_is_not_what_the_oracle_picks_unless_all_failed(drive):
    truth = drive([(10.0, 0.0), (20.0, 0.0)])
    samples = build_samples(np.array([[10.0, 12.0], [18.0, 18.0]]))  # the first of each is the fallback's motion
    samples.is_parsed[:] = [[False, True], [False, False]]
    found = measure(truth, samples, [12.0, 20.0])
    assert found["min_fde_m"]["value"] == pytest.approx((2 + 2) / 2)
    assert found["mean_fde_m"]["value"] == pytest.approx(((0 + 2) / 2 + 2) / 2)


def test_blind_draws_are_training_motions_of_the_rows_own_dice():
    targets = np.arange(100.0)[:, None, None] + np.zeros((100, 10, 2))
    drawn = draw_blind(["a", "b"], targets, Sampling(5, seed=1))
    assert drawn.velocity_mps.shape == (2, 5, 10)
    assert len(set(drawn.velocity_mps[:, :, 0].ravel())) > 5
    assert np.array_equal(draw_blind(["b"], targets, Sampling(5, seed=1)).velocity_mps[0], drawn.velocity_mps[1])


def test_the_models_draws_are_compared_with_as_many_blind_ones(drive):
    truth = drive([(10.0, 0.0), (20.0, 0.0)])
    label = truth.velocity_mps, truth.curvature_per_m
    ours, blind = (
        build_samples(np.array([[11.0, 14.0], [19.0, 16.0]])),
        build_samples(np.array([[12.0] * 2, [16.0] * 2])),
    )
    found = measure_blind(truth, ours, blind, label, Bootstrap(truth.groups, 50))
    assert found["min_fde_m"]["value"] == pytest.approx((2 + 4) / 2)
    assert found["gain"]["min_fde_m"]["value"] == pytest.approx(1 - 1 / 3)


def test_crps_of_one_sample_is_its_absolute_error():
    assert crps(np.array([[[3.0, -1.0]]]), np.array([[5.0, -1.0]])) == pytest.approx(np.array([[2.0, 0.0]]))


def test_crps_by_hand():
    # mean |x - 2| = (1 + 1 + 4) / 3 = 2; pairs |1-3|, |1-6|, |3-6| = 2, 5, 3: mean 10 / 3, half of it 5 / 3
    samples = np.array([6.0, 1.0, 3.0])[None, :, None]
    assert crps(samples, np.array([[2.0]]))[0, 0] == pytest.approx(2 - 5 / 3)


def test_crps_of_many_samples_is_the_closed_form_of_a_normal_distribution():
    # Gneiting and Raftery 2007: CRPS(N(0, 1), y) = y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi); at 0: 0.23369
    samples = np.random.default_rng(0).normal(size=(1, 20_000, 1))
    assert crps(samples, np.zeros((1, 1)))[0, 0] == pytest.approx(0.23369, abs=0.01)


def test_a_model_that_knows_its_error_covers_what_its_intervals_promise():
    rng = np.random.default_rng(1)
    values = np.round(rng.normal(0, 2, (40_000, 10, 1)))  # truth and 9 samples of one distribution, with many ties
    for order, expected in ((1, 0.8), (2, 0.6), (4, 0.2)):
        assert share_inside(values[:, 1:], values[:, 0], order).mean() == pytest.approx(expected, abs=0.01)


def test_a_model_that_is_too_sure_covers_less():
    rng = np.random.default_rng(2)
    truth, samples = rng.normal(0, 2, (5000, 1)), rng.normal(0, 1, (5000, 9, 1))
    assert share_inside(samples, truth, 1).mean() < 0.6


def test_a_truth_among_equals_takes_each_place_alike():
    # ranks 0, 1 and 2 are as likely; of them 1 is inside the lowest and the highest of two
    assert share_inside(np.array([[[5.0], [5.0]]]), np.array([[5.0]]), 1)[0, 0] == pytest.approx(1 / 3)


def test_intervals_are_listed_from_the_widest_with_what_they_promise(drive):
    found = measure(drive([(10.0, 0.0), (20.0, 0.0)]), build_samples(np.tile(np.arange(9.0), (2, 1))), [1.0, 1.0])
    assert [round(entry["expected"], 3) for entry in found["coverage"]] == [0.8, 0.6, 0.4, 0.2]
    assert [entry["velocity"]["value"] for entry in found["coverage"]] == [0, 0, 0, 0]


def test_a_single_sample_has_no_interval(drive):
    assert measure(drive([(10.0, 0.0), (20.0, 0.0)]), build_samples(np.zeros((2, 1))), [1.0, 1.0])["coverage"] == []


def test_a_sample_that_fails_is_counted_and_takes_the_fallback():
    fallback = np.full((1, 4), 7.0), np.zeros((1, 4))
    texts = [["[(1.0, 0.0000), (2.0, 0.0100)]", "no", "no"]]
    samples = read_samples(texts, [1], AnswerFormat(num_pairs=2), fallback)
    assert samples.velocity_mps.tolist() == [[[1, 1, 2, 2], [7, 7, 7, 7], [7, 7, 7, 7]]]
    assert samples.is_parsed.tolist() == [[True, False, False]]
    assert (samples.num_cut.tolist(), samples.num_distinct.tolist()) == ([1], [2])
