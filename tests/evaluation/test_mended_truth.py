"""Recorded motion that is mended after a run: the answers are kept, the scores are of what is recorded now."""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driving.errors import LedgerError
from evaluation.evaluate import run


@pytest.fixture
def evaluate(evaluate_options, seeing_engine):
    """evaluate(**options) -> (metrics, how many were asked)."""

    def call(**changes):
        engine = seeing_engine()
        options = dataclasses.replace(evaluate_options, **changes)
        metrics = run(options, lambda planned, asked: (engine, {"max_new_tokens": 9}))
        return metrics, engine.num_asked

    return call


@pytest.fixture
def mend(small_dataset):
    """mend(id, motion) changes what was recorded of one row, in truth.parquet only."""

    def change(name, motion):
        before = small_dataset.test_data.read_bytes()
        row = next(row for row in small_dataset.rows if row.id == name)
        row.motion = motion
        small_dataset.write()
        assert small_dataset.test_data.read_bytes() == before

    return change


def test_a_mended_row_is_scored_again_and_nobody_is_asked(evaluate, mend, capsys, tmp_path):
    assert evaluate()[0]["model"]["velocity_mae_mps"]["value"] == 0
    mend("left_0", (11.0, 0.02))  # 8 m/s before
    metrics, num_asked = evaluate()
    assert num_asked == 0
    # 3 m/s on one of six rows
    assert metrics["model"]["velocity_mae_mps"]["value"] == pytest.approx(3 / 6)
    assert "truth.parquet is not what these answers were scored with: scored again" in capsys.readouterr().out
    stored = json.loads((tmp_path / "results/metrics.json").read_text())
    assert stored["model"]["velocity_mae_mps"]["value"] == pytest.approx(3 / 6)


def test_a_mended_training_row_moves_the_baseline(evaluate, mend):
    assert evaluate()[0]["baselines"]["train_mean"]["velocity_mae_mps"]["value"] == pytest.approx(5)
    mend("train0_0", (6.0, 0.02))  # 2 m/s before: the mean goes from 5 to 6; |0 - 6|, |8 - 6|, |12 - 6|
    metrics, num_asked = evaluate()
    assert num_asked == 0
    assert metrics["baselines"]["train_mean"]["velocity_mae_mps"]["value"] == pytest.approx(14 / 3)


def test_the_report_and_the_numbers_say_which_truth_they_are_of(evaluate, mend, tmp_path):
    before = evaluate()[0]["data"]["scored_with"]
    assert before["truth_hash"] in (tmp_path / "results/report.html").read_text()
    mend("left_0", (11.0, 0.02))
    after = evaluate()[0]["data"]["scored_with"]
    assert after["truth"] == before["truth"]
    assert after["truth_hash"] != before["truth_hash"]
    page = (tmp_path / "results/report.html").read_text()
    assert after["truth_hash"] in page
    assert before["truth_hash"] not in page


def test_once_scored_again_it_is_complete(evaluate, mend):
    evaluate()
    mend("left_0", (11.0, 0.02))
    evaluate()
    assert evaluate()[0]["message"].startswith("already complete: ")


def test_another_file_with_the_same_rows_is_the_same_question(evaluate, small_dataset, tmp_path):
    evaluate()
    copy = tmp_path / "elsewhere.parquet"
    copy.write_bytes((small_dataset.folder / "truth.parquet").read_bytes())
    metrics, num_asked = evaluate(truth=copy, train_truth=copy)
    assert (metrics["message"].partition(":")[0], num_asked) == ("already complete", 0)


def test_a_row_more_with_truth_is_another_run_as_the_controls_are_chosen_among_them(evaluate, small_dataset):
    records = json.loads(small_dataset.test_data.read_text())
    small_dataset.test_data.write_text(json.dumps([*records, {**records[0], "id": "late"}]))
    small_dataset.rows.append(dataclasses.replace(small_dataset.test_rows[0], id="late"))
    evaluate()
    path = small_dataset.folder / "truth.parquet"
    rows = pq.read_table(path).to_pylist()
    extra = {**next(row for row in rows if row["id"] == "stop_0"), "id": "late"}
    pq.write_table(pa.Table.from_pylist([*rows, extra]), path)
    with pytest.raises(LedgerError, match="was made with labelled_rows = .* pass --overwrite-output"):
        evaluate()


def test_a_run_killed_while_it_is_scored_again_is_not_taken_for_complete(evaluate, mend, monkeypatch, tmp_path):
    evaluate()
    mend("left_0", (11.0, 0.02))
    import evaluation.report

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluation.report, "write_report", die)
        evaluate()
    assert not (tmp_path / "results/manifest.json").exists()
    metrics, num_asked = evaluate()
    assert (num_asked, metrics["model"]["velocity_mae_mps"]["value"]) == (0, pytest.approx(3 / 6))
