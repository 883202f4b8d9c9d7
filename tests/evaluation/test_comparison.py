"""Two runs side by side: what is paired, what is refused, and differences worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from driving.errors import DrivingError
from evaluation.comparing.comparison import COMPARED, compare, pair_rows
from evaluation.scoring.row_scores import RowScores


def build_rows(ade, groups=None, ids=None, **columns) -> RowScores:
    num = len(ade)
    errors = {name: np.zeros(num) for name in COMPARED}
    errors |= {"ade_m": np.array(ade, float)} | {name: np.array(values, float) for name, values in columns.items()}
    return RowScores(
        np.array(ids or [f"row{k}" for k in range(num)], dtype=object),
        np.array(groups or [f"clip{k}" for k in range(num)], dtype=object),
        np.array(["t"] * num, dtype=object),
        errors,
        {"speed": np.array(["fast" if k % 2 else "slow" for k in range(num)], dtype=object)},
    )


def test_a_difference_is_b_minus_a_over_the_same_rows():
    pair = pair_rows(build_rows([1.0, 2.0, 3.0]), build_rows([1.5, 2.5, 3.5]))
    ade = compare(pair, 200)["metrics"]["ade_m"]
    assert (ade["a"]["value"], ade["b"]["value"]) == (2.0, 2.5)
    assert ade["difference"]["value"] == pytest.approx(0.5)
    # every clip is worse by the same: whatever clips are drawn, the difference is half a metre
    assert (ade["difference"]["low"], ade["difference"]["high"]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert ade["change_percent"]["value"] == pytest.approx(25)
    assert ade["better"] == "a"


def test_where_the_interval_holds_zero_nothing_is_shown():
    pair = pair_rows(build_rows([1.0, 2.0, 3.0, 4.0]), build_rows([2.0, 1.0, 4.0, 3.0]))
    ade = compare(pair, 500)["metrics"]["ade_m"]
    assert ade["difference"]["value"] == 0
    assert ade["better"] is None
    assert ade["min_detectable"] > 0


def test_more_is_better_of_strict_answers_and_of_the_right_side():
    a = build_rows([1.0] * 4, strict_rate=[0, 0, 0, 0], curvature_sign_accuracy=[1, 1, 1, 1], cut_rate=[1, 1, 1, 1])
    b = build_rows([1.0] * 4, strict_rate=[1, 1, 1, 1], curvature_sign_accuracy=[0, 0, 0, 0])
    better = {name: entry["better"] for name, entry in compare(pair_rows(a, b), 200)["metrics"].items()}
    assert (better["strict_rate"], better["curvature_sign_accuracy"], better["cut_rate"]) == ("b", "a", "b")


def test_of_a_bias_neither_side_is_better():
    a, b = build_rows([1.0] * 3), build_rows([1.0] * 3, velocity_bias_mps=[1, 1, 1])
    assert compare(pair_rows(a, b), 200)["metrics"]["velocity_bias_mps"]["better"] is None


def test_a_root_mean_square_is_compared_as_a_root():
    a = build_rows([1.0] * 2, velocity_rmse_mps=[9.0, 9.0])
    b = build_rows([1.0] * 2, velocity_rmse_mps=[16.0, 16.0])
    entry = compare(pair_rows(a, b), 200)["metrics"]["velocity_rmse_mps"]
    assert (entry["a"]["value"], entry["b"]["value"], entry["difference"]["value"]) == (3, 4, 1)


def test_a_row_that_one_run_cannot_judge_is_judged_in_neither():
    a = build_rows([1.0, 1.0], velocity_relative=[0.1, np.nan])
    b = build_rows([1.0, 1.0], velocity_relative=[0.2, 0.9])
    entry = compare(pair_rows(a, b), 200)["metrics"]["velocity_relative"]
    assert (entry["b"]["value"], entry["difference"]["num_rows"]) == (0.2, 1)


def test_rows_of_one_run_alone_are_left_out_and_counted():
    a = build_rows([1.0, 2.0, 3.0], ids=["x", "y", "z"], groups=["c", "d", "e"])
    b = build_rows([9.0, 5.0], ids=["w", "z"], groups=["c", "e"])
    result = compare(pair_rows(a, b), 0)
    assert result["rows"] == {"num_shared": 1, "num_clips": 1, "num_only_a": 2, "num_only_b": 1}
    assert result["metrics"]["ade_m"]["difference"]["value"] == 2
    assert result["metrics"]["ade_m"]["min_detectable"] is None


def test_the_order_of_the_rows_does_not_matter():
    a = build_rows([1.0, 2.0], ids=["x", "y"], groups=["c", "d"])
    b = build_rows([2.0, 1.0], ids=["y", "x"], groups=["d", "c"])
    assert compare(pair_rows(a, b), 100)["metrics"]["ade_m"]["difference"]["value"] == 0


def test_runs_without_a_row_in_common_are_refused():
    with pytest.raises(DrivingError, match=r"A and B have no row in common \(x, ... and y, ...\)"):
        pair_rows(build_rows([1.0], ids=["x"]), build_rows([1.0], ids=["y"]))


def test_other_recorded_motion_is_refused():
    b = dataclasses.replace(build_rows([1.0, 1.0]), truth=np.array(["t", "u"], dtype=object))
    with pytest.raises(DrivingError, match=r"1 of 2 shared rows .* another recorded motion in A than in B \(row1, ..."):
        pair_rows(build_rows([1.0, 1.0]), b)


def test_rows_of_another_clip_are_refused():
    with pytest.raises(DrivingError, match="another clip in A"):
        pair_rows(build_rows([1.0], groups=["c"]), build_rows([1.0], groups=["d"]))


def test_the_nearer_of_each_row_is_counted():
    pair = pair_rows(build_rows([1.0, 2.0, 3.0, 4.0]), build_rows([2.0, 1.0, 1.0, 4.0]))
    assert {name: entry["value"] for name, entry in compare(pair, 0)["nearer"].items()} == {
        "a": 0.25, "b": 0.5, "level": 0.25,
    }  # fmt: skip


def test_clips_are_listed_from_the_most_improved_to_the_most_worsened():
    pair = pair_rows(
        build_rows([1.0, 3.0, 5.0, 5.0], ["c", "c", "d", "e"]), build_rows([2.0, 4.0, 1.0, 5.0], ["c", "c", "d", "e"])
    )
    clips = compare(pair, 0)["clips"]
    assert [(clip["group"], clip["a"], clip["b"]) for clip in clips] == [("d", 5, 1), ("e", 5, 5), ("c", 2, 3)]


def test_bins_come_in_the_order_of_the_report():
    pair = pair_rows(build_rows([1.0, 2.0]), build_rows([1.0, 2.0]))
    assert list(compare(pair, 0)["strata"]["speed"]) == ["fast", "slow"]
    assert list(compare(pair, 0, bin_order={"speed": ["slow", "fast"]})["strata"]["speed"]) == ["slow", "fast"]


def test_the_difference_that_could_be_shown_shrinks_with_the_number_of_clips():
    rng = np.random.default_rng(0)
    few, many = (
        compare(pair_rows(build_rows(rng.normal(5, 1, num)), build_rows(rng.normal(5, 1, num))), 500)
        for num in (25, 400)
    )
    ratio = few["metrics"]["ade_m"]["min_detectable"] / many["metrics"]["ade_m"]["min_detectable"]
    assert ratio == pytest.approx(4, rel=0.35)  # the square root of sixteen times as many clips
    # the standard error of a difference of two unit normals over 400 clips is sqrt(2 / 400); 2.8 of them
    assert many["metrics"]["ade_m"]["min_detectable"] == pytest.approx(2.8 * np.sqrt(2 / 400), rel=0.15)
