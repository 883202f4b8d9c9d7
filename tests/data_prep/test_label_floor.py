"""The floor of each answer format: against hand arithmetic, and through the files that the tool reads."""

import json

import numpy as np
import pandas as pd
import pytest

from data_prep.label_floor import (
    UNROUNDED,
    FloorInput,
    LabelFloorOptions,
    compute_floor,
    format_floor,
    load_token_counter,
    main,
    read_floor_input,
)
from data_prep.segment_table import SegmentTable
from driving.errors import DrivingError, SourceError


def circle(speed_mps, curvature_per_m, num_pairs=30, fps=30.0):
    """(T, 2) targets and the exact (T + 1, 3) path of constant motion, by the formula of a circle."""
    time_s = np.arange(num_pairs + 1) / fps
    turned = speed_mps * curvature_per_m * time_s
    if curvature_per_m == 0:
        path = np.stack([speed_mps * time_s, 0 * time_s, 0 * time_s], axis=1)
    else:
        path = np.stack([np.sin(turned) / curvature_per_m, (1 - np.cos(turned)) / curvature_per_m, turned], axis=1)
    return np.tile([speed_mps, curvature_per_m], (num_pairs, 1)), path


def floor_of(*motions):
    targets, paths = zip(*(circle(*motion) for motion in motions), strict=True)
    return FloorInput(np.array(targets), np.array(paths), 30.0)


def row(rows, name, speed="all"):
    return next(row for row in rows if (row.format, row.speed) == (name, speed))


def test_labels_of_constant_motion_have_no_floor_of_their_own():
    assert row(compute_floor(floor_of((12.34, 0.0123), (3.0, -0.05))), UNROUNDED).fde_m < 1e-9


def test_a_rounded_speed_costs_its_rounding_after_one_second():
    rows = compute_floor(floor_of((12.34, 0.0)))
    assert row(rows, "signed").fde_m == pytest.approx(0.04, abs=1e-9)  # 12.3 for 12.34 m/s over 1 s
    assert row(rows, "signed").ade_m == pytest.approx(0.04 * 31 / 60, abs=1e-9)  # mean of i / 30 for i = 1..30
    assert row(rows, "signed2").fde_m == pytest.approx(0.0, abs=1e-9)


def test_a_lost_sign_costs_twice_the_sideways_way():
    rows = compute_floor(floor_of((20.0, -0.01)))
    sideways_m = (1 - np.cos(0.2)) / 0.01  # 20 m of a circle of radius 100 m
    assert row(rows, "seed").fde_m == pytest.approx(2 * sideways_m, abs=1e-6)
    assert row(rows, "signed").fde_m == pytest.approx(0.0, abs=1e-9)


def test_a_fourth_decimal_of_curvature_is_worth_centimetres_on_a_motorway():
    rows = compute_floor(floor_of((30.0, 0.0004)))
    assert row(rows, "seed").fde_m == pytest.approx(0.0004 * 30**2 / 2, rel=0.01)  # 0.18 m: 0.000 instead of 0.0004
    assert row(rows, "signed").fde_m == pytest.approx(0.0, abs=1e-9)


def test_segments_are_counted_in_their_speed_bin():
    rows = compute_floor(floor_of((1.0, 0.0), (5.0, 0.0), (6.0, 0.0), (-9.0, 0.0), (30.0, 0.0)))
    counts = {row.speed: row.num_segments for row in rows if row.format == UNROUNDED}
    assert counts == {"all": 5, "0-2": 1, "2-8": 2, "8-15": 1, "25+": 1}


def test_fewer_pairs_are_longer_arcs_with_fewer_characters():
    targets, path = circle(10.0, 0.0)
    targets[:15, 0], targets[15:, 0] = 9.0, 11.0
    path[:, 0] = np.concatenate([[0.0], np.cumsum(targets[:, 0]) / 30])
    rows = compute_floor(FloorInput(targets[None], path[None], 30.0), answer_hz=(2, 1))
    assert row(rows, "signed 2 Hz").fde_m == pytest.approx(0.0, abs=1e-9)
    assert row(rows, "signed 1 Hz").fde_m == pytest.approx(0.0, abs=1e-9)
    # One pair of 10 m/s is 0.5 m ahead after half a second of 9 m/s; the error rises to that and falls again.
    assert row(rows, "signed 1 Hz").ade_m == pytest.approx(
        sum(min(i, 30 - i) / 30 for i in range(1, 31)) / 30, abs=1e-9
    )
    assert row(rows, "signed 1 Hz").chars == len("[(10.0, 0.0000)]")


def test_a_rate_that_does_not_divide_is_refused():
    with pytest.raises(DrivingError, match="--answer-hz 7 does not divide 30 Hz into 30 pairs"):
        compute_floor(floor_of((1.0, 0.0)), answer_hz=(7,))


def test_tokens_are_counted_with_the_counter_that_is_given():
    rows = compute_floor(floor_of((12.3, 0.004)), count_tokens=lambda text: text.count("("))
    assert row(rows, "signed").tokens == 30 and row(rows, UNROUNDED).tokens is None


def write_index(path, motions, **change):
    rows = []
    for number, motion in enumerate(motions):
        targets, future = circle(*motion)
        values = {"segment_uuid": str(number), "clip_uuid": "c", "start_second": number, "video_path": "x.mp4"}
        values |= {"fps": 30.0, "num_frames": 30, "group": "c", "split": "train", "observed": []}
        rows.append({**values, "targets": targets.tolist(), "future_pose": future.tolist(), **change})
    pd.DataFrame(rows).to_parquet(path)
    return path


def test_the_tool_prints_a_table_and_writes_json(tmp_path, capsys):
    index = write_index(tmp_path / "segments.parquet", [(12.34, 0.0), (5.0, 0.02)])
    assert main(["--segments-path", str(index), "--json", str(tmp_path / "floor.json"), "--answer-hz", "10"]) == 0
    printed = capsys.readouterr().out
    assert "signed 10 Hz" in printed and "8-15" in printed
    values = json.loads((tmp_path / "floor.json").read_text())
    best = next(value for value in values if (value["format"], value["speed"]) == ("signed", "8-15"))
    assert best["fde_m"] == pytest.approx(0.04, abs=1e-9)


def test_a_longer_recorded_future_is_cut_to_the_answer(tmp_path):
    index = write_index(tmp_path / "segments.parquet", [(10.0, 0.0)], future_pose=circle(10.0, 0.0, 192)[1].tolist())
    assert read_floor_input(index).future.shape == (1, 31, 3)


def test_segments_are_thinned_evenly(tmp_path):
    index = write_index(tmp_path / "segments.parquet", [(float(speed), 0.0) for speed in range(11)])
    chosen = read_floor_input(index, max_segments=3).targets[:, 0, 0]
    np.testing.assert_array_equal(chosen, [0.0, 5.0, 10.0])


def test_only_the_chosen_segments_become_python_lists(tmp_path, monkeypatch):
    index = write_index(tmp_path / "segments.parquet", [(float(speed), 0.0) for speed in range(11)])
    taken, whole = [], SegmentTable.iter_tables

    def watch(table, is_wanted, columns=None):
        taken.append(sum(is_wanted))
        return whole(table, is_wanted, columns)

    monkeypatch.setattr(SegmentTable, "iter_tables", watch)
    read_floor_input(index, max_segments=3)
    assert taken == [3]


def test_segments_without_labels_have_no_floor(tmp_path):
    index = write_index(tmp_path / "segments.parquet", [(1.0, 0.0)], targets=[])
    with pytest.raises(DrivingError, match="no segment of .* has labels"):
        read_floor_input(index)


def test_a_missing_index_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="no index of segments"):
        read_floor_input(tmp_path)


def test_the_table_names_each_format_once():
    text = format_floor(compute_floor(floor_of((1.0, 0.0), (10.0, 0.0))))
    assert text.count("signed2") == 1 and text.count("seed") == 1


def test_the_default_reads_the_folder_of_the_segments_tool():
    assert str(LabelFloorOptions().segments_path) == "qwen_video_segments"


@pytest.mark.needs_torch
def test_the_real_tokenizer_needs_420_tokens_for_signed_pairs(shared_data):
    pytest.importorskip("transformers")
    count = load_token_counter(str(shared_data / "qwen3vl_processor"))
    rows = compute_floor(floor_of((12.3, -0.0042)), count_tokens=count)
    assert row(rows, "signed").tokens == 420  # measured independently; the data's README


@pytest.mark.needs_torch
def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(DrivingError, match="cannot be loaded|has no vocabulary"):
        load_token_counter(str(tmp_path))
