"""The model beside a baseline: skill, differences, wins, what could be told, and the gate."""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import pytest

from driving.errors import DrivingError
from evaluation.evaluate import main
from evaluation.scoring.skill import check_gate, choose_best, compare, judge_gate, parse_gate, win_rates
from evaluation.scoring.statistics import DETECTABLE_ERRORS, Bootstrap

NAN = float("nan")


def clips(num):
    return [f"clip{index}" for index in range(num)]


def ade(*values):
    return {"ade_m": np.array(values, dtype=np.float64)}


def test_skill_is_a_share_and_the_difference_has_the_unit():
    found = compare(ade(1, 2, 3), ade(4, 4, 4), Bootstrap(clips(3), 500), ["ade_m"])["ade_m"]
    assert found["value"] == pytest.approx(0.5)  # 1 - 2 / 4
    assert found["difference"]["value"] == pytest.approx(2.0)  # 4 - 2 metres


def test_the_power_factor_is_that_of_a_two_sided_test_at_five_and_a_power_of_eighty_per_cent():
    from scipy.stats import norm

    assert pytest.approx(norm.ppf(0.975) + norm.ppf(0.8), abs=1e-12) == DETECTABLE_ERRORS


def test_the_detectable_difference_is_that_of_the_standard_error_of_clip_means():
    # 400 clips whose paired difference has a standard deviation of 0.5 m: 2.8016 x 0.5 / 20 = 0.070 m
    rng = np.random.default_rng(1)
    difference = rng.normal(0, 1, 400)
    difference = 0.5 * (difference - difference.mean()) / difference.std()
    reference = rng.uniform(1, 9, 400)  # shared by both, so it leaves the difference alone
    found = compare(ade(*(reference - difference)), ade(*reference), Bootstrap(clips(400), 4000), ["ade_m"])["ade_m"]
    assert found["difference"]["min_detectable"] == pytest.approx(2.8016 * 0.5 / 20, rel=0.04)
    assert found["min_detectable"] == pytest.approx(2.8016 * 0.5 / 20 / reference.mean(), rel=0.05)


def test_a_true_difference_of_that_size_is_shown_four_times_in_five():
    rng = np.random.default_rng(2)
    shown = []
    for _ in range(200):
        difference = 0.2 + rng.normal(0, 0.2 * 10 / 2.8016, 100)  # 100 clips: 0.2 m is just detectable
        low = Bootstrap(clips(100), 300).difference(np.zeros(100), difference).low
        shown.append(low > 0)
    assert np.mean(shown) == pytest.approx(0.8, abs=0.08)  # 2.8 standard errors of 200 tries


def test_one_clip_detects_nothing():
    found = compare(ade(1, 2), ade(4, 4), Bootstrap(["a", "a"], 100), ["ade_m"])["ade_m"]
    assert found["min_detectable"] is None
    assert found["difference"]["min_detectable"] is None


def test_wins_are_counted_by_row_and_a_tie_is_half():
    rates = win_rates(ade(1, 5, 2, NAN), ade(2, 4, 2, 1), Bootstrap(clips(4), 100), ["ade_m"])
    assert rates["ade_m"]["value"] == pytest.approx(1.5 / 3)
    assert rates["ade_m"]["num_rows"] == 3


def test_the_best_baseline_is_the_one_with_the_lowest_mean():
    columns = {"a": ade(3, 3), "b": ade(1, 2), "c": ade(NAN, NAN)}
    assert choose_best(columns, ["a", "b", "c"], "ade_m") == "b"
    assert choose_best(columns, ["c"], "ade_m") is None


def skills(**intervals):
    return {
        name: {"ade_m": {"value": (low + high) / 2, "low": low, "high": high, "min_detectable": 0.1}}
        for name, (low, high) in intervals.items()
    }


@pytest.mark.parametrize("low, holds", [(0.01, True), (0.0, False), (-0.2, False)])
def test_the_gate_holds_when_the_whole_interval_is_above_zero(low, holds):
    gate = judge_gate({"track": "video only", "skill": skills(train_mean=(low, 0.4))})
    assert (gate["baseline"], gate["holds"], gate["is_required"]) == ("train_mean", holds, False)
    assert gate["sentence"].startswith("beats train_mean" if holds else "does not beat train_mean")


def test_without_an_interval_nothing_is_shown():
    one_clip = {"ade_m": {"value": 0.9, "low": None, "high": None}}
    gate = judge_gate({"track": "video only", "skill": {"train_mean": one_clip}}, "auto")
    assert not gate["holds"]
    assert gate["is_required"]
    assert gate["sentence"] == "not shown to beat train_mean: ADE is lower by 90.0 %, and one clip gives no interval"


def test_a_model_that_was_told_its_past_must_beat_ctra():
    metrics = {"track": "video and ego history", "skill": skills(train_mean=(0.5, 0.9), ctra=(-0.1, 0.2))}
    assert judge_gate(metrics)["baseline"] == "ctra"
    assert not judge_gate(metrics, "auto")["holds"]
    assert judge_gate(metrics, "train_mean")["holds"]


def test_a_baseline_that_could_not_be_computed_is_not_beaten():
    metrics = {"track": "video and ego history", "skill": skills(train_mean=(0.5, 0.9))}
    assert judge_gate(metrics)["sentence"] == "not shown to beat ctra: it could not be computed on these rows"
    assert not judge_gate(metrics, "ridge")["holds"]


def test_a_baseline_without_error_is_not_beaten():
    perfect = {"ade_m": {"value": None, "low": None, "high": None}}
    gate = judge_gate({"track": "video only", "skill": {"ctra": perfect}}, "ctra")
    assert gate["sentence"] == "not shown to beat ctra: its own error is 0"
    assert not gate["holds"]


def test_a_gate_of_history_without_history_is_refused_before_anything_is_asked(drive):
    truth = dataclasses.replace(drive([(8.0, 0.0)]), observed=None)
    check_gate("train_mean", truth)
    with pytest.raises(DrivingError, match="--require-beat ctra needs how the car moved .* ask for train_mean"):
        check_gate("ctra", truth)


def test_a_gate_is_named_with_dashes_too_and_a_floor_is_none():
    assert parse_gate("train-mean") == "train_mean"
    with pytest.raises(argparse.ArgumentTypeError, match="'label_floor' is none of auto, train_mean, .* ego_mlp"):
        parse_gate("label_floor")


@pytest.fixture
def run_door(small_dataset, seeing_engine, tmp_path, monkeypatch, capsys):
    def call(answer, *flags):
        engine = seeing_engine(answer)
        facts = {"model": {"num_parameters": 2_000_000}, "max_new_tokens": 99}
        monkeypatch.setattr("evaluation.evaluate.load_model", lambda planned, options: (engine, facts))
        monkeypatch.setattr("evaluation.evaluate.describe_machine", lambda options: "cpu")
        named = {"model": small_dataset.model, "test-data": small_dataset.test_data, "output-dir": tmp_path / "out"}
        words = [word for name, value in named.items() for word in (f"--{name}", str(value))]
        code = main([*words, "--bootstrap", "200", "--controls", "none", *flags])
        return code, capsys.readouterr().out.splitlines()[-1]

    return call


def test_a_model_that_sees_passes_the_gate_with_exit_code_0(run_door):
    code, line = run_door(None, "--require-beat", "auto")
    assert code == 0
    assert line.startswith("beats train_mean: ADE is lower by 100.0 % [100.0, 100.0]")


def test_a_model_that_answers_the_mean_fails_the_gate_with_exit_code_3(run_door, small_dataset):
    code, line = run_door(lambda name, text: small_dataset.format(5.0, 0.0), "--require-beat", "train_mean")
    assert code == 3
    assert line.startswith("does not beat train_mean: ADE is lower by ")


def test_a_model_that_never_answers_fails_the_gate_and_passes_where_none_is_asked_for(run_door):
    def talk(name, text):
        return "Keep right."

    assert run_door(talk)[0] == 0
    assert run_door(talk, "--require-beat", "auto")[0] == 3  # already complete: the gate is judged again


def test_an_unknown_gate_is_a_usage_mistake(run_door):
    with pytest.raises(SystemExit) as stop:
        run_door(None, "--require-beat", "the_weather")
    assert stop.value.code == 2
