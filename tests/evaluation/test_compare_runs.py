"""scripts/compare_runs.py on two evaluations with engines that answer differently."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from driving.errors import DrivingError
from evaluation.comparing.tool import CompareOptions, main, run
from evaluation.evaluate import EvaluateOptions
from evaluation.evaluate import run as evaluate


@pytest.fixture
def finish(small_dataset, seeing_engine, tmp_path):
    """finish(name, answer=None, **options) -> the folder of a finished evaluation of the small dataset."""

    def call(name, answer=None, **changes):
        options = EvaluateOptions(
            model=str(small_dataset.model), test_data=small_dataset.test_data, output_dir=tmp_path / name,
            bootstrap=200, batch_size=4,
        )  # fmt: skip
        facts = {"model": {"num_parameters": 2_000_000, "model_type": "fake"}, "max_new_tokens": 99}
        evaluate(dataclasses.replace(options, **changes), lambda planned, asked: (seeing_engine(answer), facts))
        return tmp_path / name

    return call


@pytest.fixture
def blind(small_dataset):
    return lambda name, text: small_dataset.format(5.0, 0.0)


def edit_metrics(folder, **changes):
    path = folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_that_sees_beats_one_that_does_not(finish, blind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a, b = finish("a", blind), finish("b")
    assert main([str(a), str(b), "--bootstrap", "200", "--json", "c.json"]) == 0
    screen = capsys.readouterr().out
    # the blind one answers 5 m/s to 0, 8 and 12 m/s: errors 5, 3, 7
    assert "speed error, mean absolute [m/s]" in screen
    assert re.search(r"5\.000 +0\.000 +-5\.000", screen)
    assert "B is better" in screen
    assert screen.splitlines()[-1] == "written to comparison.html"
    numbers = json.loads((tmp_path / "c.json").read_text())
    assert numbers["metrics"]["velocity_mae_mps"]["difference"]["value"] == pytest.approx(-5)
    assert numbers["nearer"]["b"]["value"] == 1
    page = (tmp_path / "comparison.html").read_text()
    assert "B is better" in page
    assert "<script" not in page


def test_the_page_says_what_else_differs(finish, tmp_path):
    run(CompareOptions(finish("a"), finish("b", seed=8), out=tmp_path / "c.html", bootstrap=50))
    page = (tmp_path / "c.html").read_text()
    assert "<code>options.seed</code>" in page
    assert "options.output_dir" not in page


def test_the_models_and_the_data_need_not_be_there(finish, small_dataset, tmp_path):
    a, b = finish("a"), finish("b")
    small_dataset.test_data.unlink()
    (small_dataset.folder / "truth.parquet").unlink()
    run(CompareOptions(a, b, out=tmp_path / "c.html", bootstrap=50))
    assert (tmp_path / "c.html").exists()


def test_rows_that_one_run_left_out_are_named(finish, tmp_path):
    lines = run(CompareOptions(finish("a", max_samples=3), finish("b"), out=tmp_path / "c.html", bootstrap=50))["lines"]
    assert any("3 rows of 3 clips that both answered; left out: 0 only in A, 3 only in B" in line for line in lines)


def test_other_tracks_are_refused(finish, tmp_path):
    a, b = finish("a"), finish("b")
    edit_metrics(b, track="video and ego history")
    with pytest.raises(DrivingError, match="is of the track 'video only', .* had to see, so they are not compared"):
        run(CompareOptions(a, b, out=tmp_path / "c.html"))
    assert not (tmp_path / "c.html").exists()


def test_another_horizon_is_refused(finish, tmp_path):
    a, b = finish("a"), finish("b")
    edit_metrics(b, horizon_s=2.0)
    with pytest.raises(DrivingError, match="looks 1 s ahead, .* 2 s"):
        run(CompareOptions(a, b, out=tmp_path / "c.html"))


def test_another_truth_of_the_same_rows_is_refused(finish, small_dataset, tmp_path):
    a = finish("a")
    small_dataset.rows = [
        dataclasses.replace(row, motion=(9.0, 0.02), answer="") if row.id == "left_0" else row
        for row in small_dataset.rows
    ]
    small_dataset.write()
    with pytest.raises(DrivingError, match=r"1 of 6 shared rows .* another recorded motion .* \(left_0, ..."):
        run(CompareOptions(a, finish("b"), out=tmp_path / "c.html"))


def test_a_folder_without_an_evaluation_is_refused(finish, tmp_path):
    with pytest.raises(DrivingError, match="holds no finished evaluation .*; give the output folder of scripts/"):
        run(CompareOptions(finish("a"), tmp_path, out=tmp_path / "c.html"))


def test_an_evaluation_from_before_rows_were_kept_says_how_to_keep_them(finish, tmp_path):
    a, b = finish("a"), finish("b")
    (b / "row_scores.parquet").unlink()
    with pytest.raises(DrivingError, match="row_scores.parquet is missing: .* again with --rescore"):
        run(CompareOptions(a, b, out=tmp_path / "c.html"))


def test_damaged_rows_are_named(finish, tmp_path):
    a, b = finish("a"), finish("b")
    (b / "row_scores.parquet").write_bytes(b"no table")
    with pytest.raises(DrivingError, match="is no table of scored rows"):
        run(CompareOptions(a, b, out=tmp_path / "c.html"))


def test_metrics_of_another_format_are_refused(finish, tmp_path):
    a, b = finish("a"), finish("b")
    edit_metrics(b, format_version=0)
    with pytest.raises(DrivingError, match="is of format 0, this version reads 1"):
        run(CompareOptions(a, b, out=tmp_path / "c.html"))


def test_a_runs_own_report_is_not_written_over(finish):
    a, b = finish("a"), finish("b")
    with pytest.raises(DrivingError, match="--out .*report.html is a file of an evaluation; choose another name"):
        run(CompareOptions(a, b, out=a / "report.html"))


def test_a_folder_is_no_name_of_a_page(finish, tmp_path):
    with pytest.raises(DrivingError, match="--out .* is a folder; give the name of a file"):
        run(CompareOptions(finish("a"), finish("b"), out=tmp_path))
