"""Weights of training rows: by the bins of their labels, bounded, in train.json alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn_segments import make_row
from test_training_format import convert, make_dataset, read_json

from data_prep.balance import plan_weights
from data_prep.training_format import ConvertOptions, run
from driving.errors import LedgerError

TURN_RAD = {"straight": 0.0, "left": np.radians(5), "right": np.radians(-20)}


def turning(clip: str, second: int, turn: str, speed_mps: float = 10.0) -> dict:
    poses = [[2.5 * step, 0.0, TURN_RAD[turn] * step / 4] for step in range(9)]
    poses[5:] = [[20.0, 0.0, 3.0]] * 4  # after the window that is asked for: no part of it
    return make_row(clip, second, targets=[[speed_mps, 0.0]] * 4, future_pose=poses)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """20 clips of 8 straight, 4 left and 1 right segment, 10 m/s but for the one to the right."""
    turns = ["straight"] * 8 + ["left"] * 4 + ["right"]
    return [
        turning(f"clip{clip:03d}", second, turn, 30.0 if turn == "right" else 10.0)
        for clip in range(20)
        for second, turn in enumerate(turns)
    ]


def test_a_weight_is_the_commonest_bin_over_this_one_and_bounded():
    assert plan_weights(np.array([800, 400, 0, 300, 2]), 4.0).tolist() == [1.0, 2.0, 0.0, 2.6667, 4.0]


def test_rows_of_rare_turns_carry_a_weight_and_val_and_test_carry_none(rows, tmp_path):
    folder = convert(tmp_path, rows, balance="turn")
    weights = {record["id"][-2:]: record["sampling_weight"] for record in read_json(folder / "train.json")}
    assert {weights[f"{second:02d}"] for second in range(8)} == {1.0}
    assert {weights[f"{second:02d}"] for second in range(8, 12)} == {2.0}
    assert weights["12"] == 4.0  # eight times as rare, but bounded
    for side in ("val", "test"):
        assert not any("sampling_weight" in record for record in read_json(folder / f"{side}.json"))
    kept = json.loads((folder / "balance.json").read_text())
    num_clips = kept["rows"] // 13
    assert kept["bins"]["left 2-10°"] == {"rows": 4 * num_clips, "weight": 2.0}
    assert kept["rows_an_epoch"] == num_clips * (8 + 4 * 2 + 4)


def test_balance_by_speed_weighs_by_the_mean_speed(rows, tmp_path):
    folder = convert(tmp_path, rows, balance="speed", max_weight=20.0)
    weights = {record["id"][-2:]: record["sampling_weight"] for record in read_json(folder / "train.json")}
    assert (weights["00"], weights["09"], weights["12"]) == (1.0, 1.0, 12.0)


def test_without_balance_nothing_changes_and_with_it_only_the_weights_are_added(rows, tmp_path):
    dataset_dir = make_dataset(tmp_path, rows[:130])
    for name, balance in (("plain", "none"), ("balanced", "turn")):
        run(ConvertOptions(dataset_dir=dataset_dir, output_dir=tmp_path / name, balance=balance))
    assert not (tmp_path / "plain" / "balance.json").exists()
    plain, balanced = (read_json(tmp_path / name / "train.json") for name in ("plain", "balanced"))
    for record in balanced:
        del record["sampling_weight"]
    assert balanced == plain
    for name in ("val.json", "test.json", "truth.parquet", "dataset.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "balanced" / name).read_bytes()
    with pytest.raises(LedgerError, match="balance"):
        run(ConvertOptions(dataset_dir=dataset_dir, output_dir=tmp_path / "balanced", balance="speed"))
