"""The ridge over the frames' features: what it fits, how its penalty is chosen, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scoring.baselines import DESCRIPTIONS, FRAMES, KNOWS, NEEDS_HISTORY
from evaluation.scoring.frame_motion import (
    PENALTIES,
    FrameRows,
    choose_penalty,
    fit_penalties,
    predict_frame_motion,
)
from evaluation.scoring.tracks import FAIR


def build_rows(num_train: int = 300, noise: float = 0.0) -> tuple[FrameRows, np.ndarray]:
    """Speed is 10 + the first feature, curvature 0.01 times the second, of six; and the truth of 50 more rows."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(num_train + 50, 6)).clip(-3, 3)
    pairs = np.stack([10 + features[:, 0], 0.01 * features[:, 1]], axis=-1)[:, None].repeat(4, axis=1)
    targets = pairs[:num_train] + noise * rng.normal(size=(num_train, 4, 2)) * [1, 0.01]
    groups = np.array([f"clip{row // 5}" for row in range(num_train)], dtype=object)
    return FrameRows(features[num_train:], features[:num_train], targets, groups), pairs[num_train:]


def test_what_is_linear_in_the_features_is_learned():
    rows, truth = build_rows()
    velocity, curvature = predict_frame_motion(rows).motion
    assert velocity.shape == curvature.shape == (50, 4)
    assert np.abs(velocity - truth[..., 0]).max() < 0.01
    assert np.abs(curvature - truth[..., 1]).max() < 1e-4


def test_a_clip_that_could_not_be_read_is_answered_with_the_training_mean():
    rows, _ = build_rows()
    rows.features[7] = np.nan
    velocity, curvature = predict_frame_motion(rows).motion
    assert np.allclose(velocity[7], rows.train_targets[..., 0].mean(axis=0))
    assert np.allclose(curvature[7], rows.train_targets[..., 1].mean(axis=0))


def test_a_feature_a_thousand_spreads_away_counts_as_five():
    rows, _ = build_rows()
    rows.features[0, 0] = 1000.0
    velocity, _ = predict_frame_motion(rows).motion
    assert velocity[0, 0] < 10 + 6


def test_the_weights_solve_the_penalised_equations():
    rng = np.random.default_rng(1)
    inputs, outputs = rng.normal(size=(40, 5)), rng.normal(size=(40, 3))
    (weights,) = fit_penalties(inputs, outputs, (0.3,))
    # a penalty is as many further rows that ask for weights of 0
    more = np.vstack([inputs, np.sqrt(0.3 * 40) * np.eye(5)])
    expected, *_ = np.linalg.lstsq(more, np.vstack([outputs, np.zeros((5, 3))]), rcond=None)
    assert np.allclose(weights, expected)


def test_noise_is_penalised_most_and_a_clean_signal_least():
    rng = np.random.default_rng(2)
    inputs, folds = rng.normal(size=(200, 20)), np.arange(200) % 5
    assert choose_penalty(inputs, rng.normal(size=(200, 1)), folds) == PENALTIES[-1]
    assert choose_penalty(inputs, inputs[:, :1], folds) == PENALTIES[0]


def test_one_recording_gives_the_middle_penalty():
    assert choose_penalty(np.ones((10, 2)), np.ones((10, 1)), np.zeros(10)) == 0.1


def test_a_penalty_is_chosen_on_recordings_that_were_not_fitted_to():
    rows, _ = build_rows(noise=0.5)
    facts = predict_frame_motion(rows).facts
    assert facts["num_train_recordings"] == 60
    assert facts["num_features"] == 6
    assert set(facts["penalty"]) == {"velocity", "curvature"}


def test_with_less_than_a_hundred_training_clips_there_is_no_answer_but_a_reason():
    rows, _ = build_rows(num_train=99)
    found = predict_frame_motion(rows)
    assert found.motion is None
    assert found.facts["reason"] == "99 training clips could be read, 100 are needed"


@pytest.mark.parametrize("track", FAIR)
def test_it_is_fair_to_a_model_of_either_track(track):
    assert KNOWS["frame_motion"] == FRAMES
    assert FRAMES in FAIR[track]
    assert "frame_motion" in DESCRIPTIONS and "frame_motion" not in NEEDS_HISTORY
