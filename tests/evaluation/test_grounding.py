"""Claims that a model sees, and when they may be made."""

from __future__ import annotations

import numpy as np

from evaluation.scoring.grounding import check_grounding, flip_column, turning_rows


def hold(values):
    return np.repeat(np.array(values, dtype=np.float64)[:, None], 10, axis=1)


def estimate(value, low, high):
    return {"value": value, "low": low, "high": high, "num_rows": 100, "num_clips": 25}


def test_only_moving_rows_in_a_bend_are_asked_to_flip(drive):
    truth = drive([(8, 0.006), (8, 0.004), (0, 0.02), (-3, -0.02)])
    assert turning_rows(truth).tolist() == [True, False, False, True]


def test_a_flip_is_a_change_of_sign_and_zero_is_none(drive):
    truth = drive([(8, 0.02)] * 5)
    before, after = hold([0.01, 0.01, 0.0, -0.01, 0.01]), hold([-0.01, 0.005, -0.01, 0.02, 0.0])
    flipped = flip_column((hold([8] * 5), before), (hold([8] * 5), after), np.ones(5, bool), truth)
    assert flipped.tolist() == [1, 0, 0, 1, 0]


def test_an_answer_that_could_not_be_read_is_no_flip(drive):
    truth = drive([(8, 0.02)])
    motion = (hold([8]), hold([0.01]))
    assert flip_column(motion, (motion[0], -motion[1]), np.array([False]), truth).tolist() == [0]


def grounding(velocity, curvature, frozen=0.9, wrong=0.9, flipped=0.9):
    return {
        "velocity_gain_percent": velocity,
        "curvature_gain_percent": curvature,
        "frozen": {"share_removed": estimate(frozen, 0, 1)},
        "wrong_clip": {"share_removed": estimate(wrong, 0, 1)},
        "mirror": {"share_flipped": estimate(flipped, 0, 1)},
    }


def holds(values, num_clips=25):
    return {check["name"]: check["holds"] for check in check_grounding(values, num_clips)}


def test_all_claims_hold_at_their_bars():
    values = grounding(estimate(30, 1, 50), estimate(1, 0.5, 2), frozen=0.6, wrong=0.6, flipped=0.75)
    assert set(holds(values, num_clips=20).values()) == {True}


def test_a_gain_whose_interval_holds_zero_is_no_gain():
    verdicts = holds(grounding(estimate(40, -1, 60), estimate(5, -2, 9)))
    assert not verdicts["velocity_gain"]
    assert not verdicts["curvature_gain"]


def test_a_gain_below_its_bar_does_not_hold_however_certain():
    assert not holds(grounding(estimate(29.9, 29, 31), estimate(5, 1, 9)))["velocity_gain"]


def test_nineteen_clips_are_too_few():
    assert not holds(grounding(estimate(40, 30, 50), estimate(5, 1, 9)), num_clips=19)["enough_clips"]


def test_a_control_that_was_not_run_has_no_verdict():
    values = grounding(estimate(40, 30, 50), estimate(5, 1, 9))
    del values["mirror"], values["frozen"]
    verdicts = holds(values)
    assert verdicts["mirror"] is None
    assert verdicts["frozen"] is None
    assert verdicts["wrong_clip"] is True
