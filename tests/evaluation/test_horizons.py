"""Errors at published times ahead, for answers of one second and of 6.4."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driving.answer_format import AnswerFormat, format_answer
from driving.trajectory import Trajectory
from evaluation.scoring.answers import read_answers
from evaluation.scoring.baselines import predict_baselines
from evaluation.scoring.horizons import find_horizons, measure_horizons
from evaluation.scoring.measure import measure
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.truth_table import read_truth


def test_one_second_at_thirty_a_second_reaches_two_horizons():
    assert find_horizons(30, 1 / 30) == {"0.5 s": 15, "1 s": 30}


def test_a_time_between_two_samples_is_left_out():
    assert find_horizons(5, 0.2) == {"1 s": 5}


@pytest.mark.parametrize("rate", [10, 30])
def test_6_4_seconds_reach_every_published_horizon(rate):
    ends = find_horizons(round(6.4 * rate), 1 / rate)
    seconds = [0.5, 1, 2, 3, 5, 6.4]
    assert ends == {f"{s:g} s": round(s * rate) for s in seconds}


def test_the_error_until_a_horizon_and_at_it(drive):
    truth = drive([(10, 0), (10, 0)])  # one second at 10 Hz
    motion = np.full((2, 10), 12.0), np.zeros((2, 10))
    found = measure_horizons({"model": motion}, truth, Bootstrap(truth.groups, 100))
    assert found["0.5 s"]["model"]["ade_m"]["value"] == pytest.approx(0.6)  # mean of 0.2, 0.4 ... 1.0
    assert found["0.5 s"]["model"]["fde_m"]["value"] == pytest.approx(1.0)
    assert found["1 s"]["model"]["ade_m"]["value"] == pytest.approx(1.1)
    assert found["1 s"]["model"]["corner_m"]["value"] == pytest.approx(1.1)


@pytest.fixture
def long_truth(tmp_path):
    """Two clips at 10 Hz whose cars turn on circles for 6.4 s; future_pose reaches 8 s."""
    times_s = np.arange(81) / 10
    rows = []
    for index, (v, k) in enumerate([(10.0, 0.02), (5.0, -0.01)]):
        angle = v * k * times_s
        poses = np.stack([np.sin(angle) / k, (1 - np.cos(angle)) / k, angle], axis=1)
        rows.append({"id": f"r{index}", "group": f"g{index}", "split": "test", "targets": [[v, k]] * 64,
                     "observed": [[v, k]] * 64, "future_pose": poses.tolist()})  # fmt: skip
    rows.append({**rows[0], "id": "t", "group": "t", "split": "train"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "truth.parquet")
    return read_truth(tmp_path / "truth.parquet", 6.4)


def test_answers_of_6_4_seconds_are_scored_to_their_end(long_truth):
    answer_format = AnswerFormat(num_pairs=64, fps=10.0, duration_s=6.4)
    truth = long_truth.rows(["r0", "r1"])
    texts = [
        format_answer(Trajectory(velocity + 0.5, curvature), answer_format)
        for velocity, curvature in zip(truth.velocity_mps, truth.curvature_per_m, strict=True)
    ]
    baselines = predict_baselines(truth, long_truth.train_labels(), answer_format)
    answers = read_answers(texts, [False] * 2, [1] * 2, answer_format, baselines["train_mean"])
    metrics = measure(truth, answers, {}, baselines, num_resamples=50).metrics
    assert metrics["horizon_s"] == pytest.approx(6.4)
    assert list(metrics["horizons"]) == ["0.5 s", "1 s", "2 s", "3 s", "5 s", "6.4 s"]
    # 0.5 m/s more on the same circle: a chord of 0.5 t on radius 1 / k
    chords = [[2 / k * np.sin(k * 0.5 * t / 2) for k in (0.02, 0.01)] for t in (3.0, 6.4)]
    for name, pair in zip(("3 s", "6.4 s"), chords, strict=True):
        assert metrics["horizons"][name]["model"]["fde_m"]["value"] == pytest.approx(np.mean(pair), abs=1e-9)
        assert metrics["l2_protocols_m"]["uniad"][name] == pytest.approx(np.mean(pair), abs=1e-9)
    assert metrics["horizons"]["6.4 s"]["representation_floor"]["fde_m"]["value"] == pytest.approx(0, abs=1e-9)
    assert metrics["model"]["fde_m"]["value"] == metrics["horizons"]["6.4 s"]["model"]["fde_m"]["value"]


def test_metrics_hold_every_promised_part_as_strict_json(drive):
    truth = drive([(10, 0.0), (8, 0.01), (0, 0.0)])
    truth = dataclasses.replace(truth, facts=[{"country": "Italy", "hour": 23}, {"hour": 8}, {}])
    answer_format = AnswerFormat(num_pairs=10, fps=10.0)
    from evaluation.scoring.train_labels import TrainLabels

    baselines = predict_baselines(truth, TrainLabels(np.ones((10, 2)), np.ones((10, 2)), 1), answer_format)
    answers = read_answers(["no"] * 3, [False] * 3, [1] * 3, answer_format, baselines["train_mean"])
    metrics = json.loads(json.dumps(measure(truth, answers, {}, baselines, num_resamples=50).metrics, allow_nan=False))
    entry = metrics["skill"]["ctra"]["ade_m"]
    assert set(entry) == {"value", "low", "high", "num_rows", "num_clips", "min_detectable", "difference"}
    assert set(entry["difference"]) == {"value", "low", "high", "num_rows", "num_clips", "min_detectable"}
    assert set(metrics["win_rate"]) == set(metrics["skill"])
    assert not {"label_floor", "representation_floor"} & set(metrics["skill"])
    assert set(metrics["best_baseline"]["ade_m"]) == {"fair", "any"}
    assert metrics["best_baseline"]["ade_m"]["fair"] in ("train_mean", "train_median")
    assert {"speed", "turn", "motion", "event", "hour", "daylight", "country"} == set(metrics["strata"])
    limits = metrics["feasibility"]["limits"]
    assert limits["yaw_rate"]["high"] == 0.95
    assert limits["any"]["model"]["value"] is None  # no answer could be read
    assert metrics["feasibility"]["baselines"]["ctra"]["value"] is not None
