"""The whole evaluation with an engine that sees, one that guesses, one that only talks."""

from __future__ import annotations

import dataclasses
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driving.errors import DrivingError, LedgerError
from evaluation.evaluate import EvaluateOptions, run


@pytest.fixture
def evaluate(small_dataset, seeing_engine, tmp_path):
    def call(answer=None, engine=None, **changes):
        options = EvaluateOptions(
            model=str(small_dataset.model),
            test_data=small_dataset.test_data,
            output_dir=tmp_path / "results",
            bootstrap=200,
            batch_size=4,
        )
        engine = engine or seeing_engine(answer)
        facts = {"model": {"num_parameters": 2_000_000, "model_type": "fake"}, "max_new_tokens": 99}
        return run(dataclasses.replace(options, **changes), lambda planned, asked: (engine, facts))

    return call


def strict(text):
    def refuse(value):
        raise AssertionError(f"{value} is not strict JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_model_that_sees_scores_and_passes_every_check_but_the_number_of_clips(evaluate, tmp_path):
    metrics = evaluate()
    assert metrics["model"]["velocity_mae_mps"]["value"] == 0
    assert metrics["model"]["ade_m"]["value"] == pytest.approx(0, abs=1e-9)
    # the training mean is 5 m/s: |0 - 5|, |8 - 5|, |12 - 5| over three clips
    assert metrics["baselines"]["train_mean"]["velocity_mae_mps"]["value"] == pytest.approx(5)
    assert metrics["grounding"]["velocity_gain_percent"]["value"] == pytest.approx(100)
    assert metrics["grounding"]["mirror"]["share_flipped"]["value"] == 1
    assert metrics["grounding"]["mirror"]["share_flipped"]["num_rows"] == 4
    checks = {check["name"]: check["holds"] for check in metrics["grounding"]["checks"]}
    assert checks == {
        "enough_clips": False, "velocity_gain": True, "curvature_gain": True, "frozen": True, "wrong_clip": True,
        "mirror": True,
    }  # fmt: skip
    # frozen answers 0 m/s: errors 0, 8, 12, mean 20 / 3 beside 5 of the mean
    assert metrics["grounding"]["frozen"]["share_removed"]["value"] == pytest.approx((20 / 3) / 5)
    # nothing was wrong before, so the control is worse by all of its error
    assert metrics["controls"]["frozen"]["worse_by"]["velocity_mae_mps"]["value"] == pytest.approx(20 / 3)
    assert metrics["gate"]["holds"]
    assert metrics["gate"]["baseline"] == "train_mean"
    assert {path.name for path in (tmp_path / "results").iterdir()} >= {
        "predictions.jsonl", "control_predictions.jsonl", "metrics.json", "report.html", "skipped.jsonl",
    }  # fmt: skip
    assert not (tmp_path / "results" / "parts").exists()


def test_a_blind_model_that_answers_the_mean_passes_no_check(evaluate, small_dataset):
    metrics = evaluate(lambda name, text: small_dataset.format(5.0, 0.0))
    assert metrics["grounding"]["velocity_gain_percent"]["value"] == pytest.approx(0)
    assert metrics["grounding"]["frozen"]["share_removed"]["value"] is None
    assert metrics["grounding"]["mirror"]["share_flipped"]["value"] == 0
    assert not any(check["holds"] for check in metrics["grounding"]["checks"])


def test_a_model_that_never_answers_is_scored_as_the_mean_and_worse_with_its_failures_priced(evaluate):
    metrics = evaluate(lambda name, text: "As an AI model I <b>cannot</b> drive.")
    mean = metrics["baselines"]["train_mean"]["ade_m"]["value"]
    assert metrics["model"]["ade_m"]["value"] == pytest.approx(mean)
    assert metrics["model"]["ade_failures_at_p95_m"]["value"] > mean
    assert metrics["parsing"]["failed_rate"]["value"] == 1
    assert metrics["parsing"]["counts"] == {"strict": 0, "lenient": 0, "failed": 6, "cut": 0}


def test_metrics_are_strict_json_and_the_same_for_the_same_inputs(evaluate, tmp_path):
    evaluate(controls="all")
    first = (tmp_path / "results" / "metrics.json").read_bytes()
    report = (tmp_path / "results" / "report.html").read_bytes()
    assert strict(first)["format_version"] == 1
    evaluate(controls="all", rescore=True)
    assert (tmp_path / "results" / "metrics.json").read_bytes() == first
    assert (tmp_path / "results" / "report.html").read_bytes() == report
    again = evaluate(controls="all", overwrite_output=True)
    assert {**again, "speed": None, "message": None} == {**strict(first), "speed": None, "message": None}


def test_running_twice_asks_nothing_and_says_so(evaluate, seeing_engine):
    evaluate()
    engine = seeing_engine()
    assert evaluate(engine=engine)["message"].startswith("already complete: 6 answers of 3 clips, 0.00 m/s speed")
    assert engine.num_asked == 0


def test_scoring_again_reads_the_stored_answers(evaluate, seeing_engine, tmp_path):
    evaluate()
    (tmp_path / "results" / "report.html").unlink()
    engine = seeing_engine()
    metrics = evaluate(engine=engine, rescore=True, bootstrap=300)
    assert engine.num_asked == 0
    assert metrics["options"]["bootstrap"] == 300
    assert (tmp_path / "results" / "report.html").exists()


def test_scoring_again_without_a_finished_run_is_refused(evaluate):
    with pytest.raises(DrivingError, match="holds no finished run to score again"):
        evaluate(rescore=True)


def test_answers_that_were_edited_are_not_scored_again_and_not_thrown_away(evaluate, tmp_path):
    evaluate()
    path = tmp_path / "results/predictions.jsonl"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(LedgerError, match="predictions.jsonl is missing or of another size; put the answers back"):
        evaluate(rescore=True)
    assert path.exists() and (tmp_path / "results/metrics.json").exists()


def test_another_model_into_the_same_folder_is_refused(evaluate, small_dataset):
    evaluate()
    (small_dataset.model / "config.json").write_text("{}")
    with pytest.raises(LedgerError, match="was made with model_fingerprint = .* pass --overwrite-output"):
        evaluate()


def test_test_rows_of_recordings_that_were_trained_on_are_refused_unless_forced(evaluate, add_row):
    add_row("train1_9", "train1", "test", (4.0, 0.0))
    with pytest.raises(DrivingError, match=r"1 of 4 test recordings were trained on \(train1, ...\).*--force"):
        evaluate()
    metrics = evaluate(force=True)
    assert "LEAKAGE: 1 of 4 test recordings were trained on (--force)" in metrics["stamps"]


def test_one_recording_split_in_time_is_stamped(evaluate, small_dataset):
    small_dataset.write(one_recording=True)
    assert any(stamp.startswith("one recording: split in time") for stamp in evaluate()["stamps"])


def test_rows_of_one_clip_alone_go_without_wrong_clips_and_intervals_and_say_so(evaluate, small_dataset):
    small_dataset.rows = [row for row in small_dataset.rows if row.group not in ("stop", "right")]
    small_dataset.write()
    metrics = evaluate()
    assert "wrong_clip" not in metrics["controls"]
    assert metrics["model"]["ade_m"]["low"] is None
    assert any("there is no wrong clip to show" in stamp for stamp in metrics["stamps"])


def test_synthetic_data_and_a_tiny_model_are_said_plainly(evaluate, small_dataset, tmp_path):
    small_dataset.write(synthetic=True)
    stamp = evaluate()["stamps"][0]
    assert stamp.startswith("a tiny model (2.0 M parameters) on synthetic data: ")
    assert stamp in (tmp_path / "results" / "report.html").read_text()


def test_a_model_that_was_taught_another_format_is_refused(evaluate, small_dataset):
    taught = {**small_dataset.answer_format.to_json(), "num_pairs": 5}
    (small_dataset.model / "preprocessing.json").write_text(json.dumps({"answer_format": taught}))
    with pytest.raises(DrivingError, match="asks for num_pairs = 10, .* was taught 5"):
        evaluate()


def test_without_any_answer_format_nothing_is_scored(evaluate, small_dataset):
    (small_dataset.folder / "dataset.json").unlink()
    for name in ("preprocessing.json", "training_groups.json"):
        (small_dataset.model / name).unlink()
    with pytest.raises(DrivingError, match="says in which format answers are given"):
        evaluate()


def test_a_model_without_preprocessing_is_stamped(evaluate, small_dataset):
    for name in ("preprocessing.json", "training_groups.json"):
        (small_dataset.model / name).unlink()
    assert "no preprocessing stored with the model: the dataset's rate was used" in evaluate()["stamps"]


def test_missing_truth_stops_before_the_model_is_loaded(evaluate, small_dataset, seeing_engine):
    (small_dataset.folder / "truth.parquet").unlink()
    engine = seeing_engine()
    with pytest.raises(DrivingError, match="truth.parquet is not there"):
        evaluate(engine=engine)
    assert engine.num_asked == 0


def test_a_train_truth_of_another_length_stops_before_the_model_is_asked(evaluate, seeing_engine, tmp_path):
    row = {"id": "t", "group": "t", "split": "train", "targets": [[5.0, 0.0]] * 7, "observed": None,
           "future_pose": [[0.0, 0.0, 0.0]] * 8}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    engine = seeing_engine()
    with pytest.raises(DrivingError, match="have 7 samples, the rows to score"):
        evaluate(engine=engine, train_truth=tmp_path / "train.parquet")
    assert engine.num_asked == 0


def test_rows_without_truth_are_answered_and_not_scored(evaluate, small_dataset, tmp_path):
    records = json.loads(small_dataset.test_data.read_text())
    small_dataset.test_data.write_text(json.dumps([*records, {**records[0], "id": "left_1b"}]))
    small_dataset.rows.append(dataclasses.replace(small_dataset.rows[-1], id="left_1b", split="unlisted"))
    metrics = evaluate()
    assert metrics["rows"] | {"num_samples": 0} == {
        "num_scored": 6, "num_clips": 3, "num_samples": 0, "num_asked": 7, "num_skipped": 0, "num_unlabelled": 1,
    }  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "results" / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines if not line["is_scored"]] == ["left_1b"]
    assert len(lines) == 7


def test_a_clip_that_cannot_be_decoded_is_in_the_ledger_and_counted(evaluate, seeing_engine, tmp_path):
    engine = seeing_engine()
    engine.unreadable.add("right_0")
    metrics = evaluate(engine=engine, controls="mirror")
    assert metrics["rows"]["num_skipped"] == 1
    assert metrics["rows"]["num_scored"] == 5
    ledger = [json.loads(line) for line in (tmp_path / "results" / "skipped.jsonl").read_text().splitlines()]
    assert [entry["id"] for entry in ledger] == ["right_0"]


def test_too_many_bad_clips_fail_the_run(evaluate, seeing_engine):
    engine = seeing_engine()
    engine.unreadable |= {"right_0", "right_1", "left_0", "left_1"}
    with pytest.raises(LedgerError, match="4 of 6 samples are bad"):
        evaluate(engine=engine)


def test_fewer_rows_are_spread_over_the_clips(evaluate, tmp_path):
    metrics = evaluate(max_samples=3)
    assert (metrics["rows"]["num_scored"], metrics["rows"]["num_clips"]) == (3, 3)


def test_the_controls_may_look_at_fewer_rows_and_the_report_says_so(evaluate, tmp_path):
    metrics = evaluate(control_samples=3)
    assert "controls: 3 of 6 rows; the others: all of them" in (tmp_path / "results" / "report.html").read_text()
    assert metrics["controls"]["frozen"]["num_rows"] == 3
    assert metrics["rows"]["num_scored"] == 6


def test_an_id_twice_in_the_test_data_is_refused(evaluate, small_dataset):
    records = json.loads(small_dataset.test_data.read_text())
    small_dataset.test_data.write_text(json.dumps([*records, records[0]]))
    with pytest.raises(DrivingError, match="holds the id stop_0 twice"):
        evaluate()


def test_the_report_is_one_file_that_asks_nothing_of_the_network_and_runs_nothing(evaluate, tmp_path):
    evaluate(lambda name, text: "<script>alert(1)</script>" if name == "left_0" else text)
    page = (tmp_path / "results" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert re.findall(r"(?:src|href)=\"(?!data:)[^\"]*", page) == []
    assert "http://" not in page
    assert "https://" not in page


def test_html_in_an_id_is_escaped(evaluate, add_row, tmp_path):
    add_row("<i>evil</i>", "evil<img src=x>", "test", (30.0, 0.05))
    evaluate(lambda name, text: "no" if name.startswith("<i>") else text)
    page = (tmp_path / "results" / "report.html").read_text()
    assert "<i>" not in page
    assert "&lt;i&gt;evil&lt;/i&gt;" in page


def test_the_message_names_the_report(evaluate, tmp_path):
    message = evaluate()["message"]
    assert message.endswith(f"0 failed to parse, 0 skipped (see skipped.jsonl); {tmp_path / 'results' / 'report.html'}")


def test_a_reason_with_a_line_separator_stays_one_ledger_line(evaluate, seeing_engine, small_dataset):
    engine = seeing_engine()
    read = engine.read

    def fail(record):
        if record["id"] == "stop_0":
            raise DrivingError("odd\u2028name.mp4 is cut short")
        return read(record)

    engine.read = fail
    assert evaluate(engine=engine, controls="none")["rows"]["num_skipped"] == 1


@pytest.mark.parametrize("name", ["metrics.json", "report.html"])
def test_a_finished_run_that_lost_its_numbers_scores_its_answers_again(name, evaluate, seeing_engine, tmp_path, capsys):
    evaluate()
    before = (tmp_path / "results" / name).read_bytes()
    (tmp_path / "results" / name).unlink()
    engine = seeing_engine()
    assert evaluate(engine=engine)["message"].startswith("6 answers of 3 clips")
    assert f"results was complete, but {name} is missing or of another size; made again" in capsys.readouterr().out
    assert engine.num_asked == 0
    assert (tmp_path / "results" / name).read_bytes() == before


@pytest.mark.parametrize("name", ["predictions.jsonl", "control_predictions.jsonl", "run.json"])
def test_a_finished_run_that_lost_its_answers_asks_again(name, evaluate, seeing_engine, tmp_path):
    evaluate()
    before = (tmp_path / "results" / "predictions.jsonl").read_bytes()
    (tmp_path / "results" / name).unlink()
    engine = seeing_engine()
    evaluate(engine=engine)
    assert engine.num_asked > 0
    assert (tmp_path / "results" / "predictions.jsonl").read_bytes() == before
