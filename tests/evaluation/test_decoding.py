"""Other ways of decoding through the whole evaluation: stored, scored beside the free answer, never in its place."""

from __future__ import annotations

import dataclasses
import json

import pytest

from evaluation.evaluate import EvaluateOptions, run
from evaluation.scoring.decoding import measure_speed


@pytest.fixture
def evaluate(small_dataset, seeing_engine, tmp_path):
    def call(answer=None, engine=None, folder="results", **changes):
        options = EvaluateOptions(
            model=str(small_dataset.model),
            test_data=small_dataset.test_data,
            output_dir=tmp_path / folder,
            bootstrap=100,
            batch_size=4,
            controls="none",
        )
        return run(
            dataclasses.replace(options, **changes), lambda planned, asked: (engine or seeing_engine(answer), {})
        )

    return call


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_constrained_answers_stand_among_the_controls_and_the_free_ones_stay_the_result(evaluate, tmp_path):
    metrics = evaluate(lambda name, text: "no" if name == "left_0" else text, constrained=True)
    lines = read_lines(tmp_path / "results" / "control_predictions.jsonl")
    assert [line["control"] for line in lines] == ["constrained"] * 6
    assert [line["text"] for line in read_lines(tmp_path / "results" / "predictions.jsonl")].count("no") == 1
    assert metrics["parsing"]["counts"]["failed"] == 1
    assert metrics["constrained"]["failed_rate"]["value"] == 0
    assert metrics["constrained"]["free"]["failed_rate"]["value"] == pytest.approx(1 / 6)
    assert metrics["controls"] == {}


def test_what_the_grammar_rescued_is_set_beside_the_fallback(evaluate):
    constrained = evaluate(lambda name, text: "no" if name == "left_0" else text, constrained=True)["constrained"]
    # the rescued answer is right; the fallback, the training mean of 5 m/s, is 3 m/s off
    assert constrained["rescued"]["num_rows"] == 1
    assert constrained["rescued"]["constrained"]["velocity_mae_mps"]["value"] == 0
    assert constrained["rescued"]["fallback"]["velocity_mae_mps"]["value"] == pytest.approx(3)
    assert constrained["free"]["velocity_mae_mps"]["value"] == pytest.approx(3 / 6)
    assert constrained["same_text_rate"]["value"] == pytest.approx(5 / 6)
    assert constrained["same_text_rate_of_strict"]["value"] == 1


def test_samples_are_stored_with_their_answer_and_scored_beside_it(evaluate, tmp_path):
    metrics = evaluate(num_samples=3)
    rows = read_lines(tmp_path / "results" / "predictions.jsonl")
    assert [len(row["samples"]) for row in rows] == [3] * 6
    assert [row["text"] for row in rows] == [row["samples"][0] for row in rows]
    samples = metrics["samples"]
    assert (samples["num_samples"], samples["temperature"], samples["top_p"]) == (3, 1.0, 1.0)
    assert samples["min_ade_m"]["value"] == pytest.approx(0, abs=1e-9)
    assert samples["mean_ade_m"]["value"] > 0.5
    assert samples["single"]["ade_m"]["value"] == pytest.approx(0, abs=1e-9)
    assert samples["blind"]["min_ade_m"]["value"] > 0
    assert samples["blind"]["gain"]["min_ade_m"]["value"] == pytest.approx(1)
    assert metrics["model"]["ade_m"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_sample_that_is_cut_is_counted_as_cut_and_failed(evaluate):
    samples = evaluate(num_samples=4)["samples"]
    assert samples["cut_rate"]["value"] == pytest.approx(1 / 4)
    assert samples["failed_rate"]["value"] == pytest.approx(1 / 4)


def test_without_being_asked_for_nothing_is_said_about_either(evaluate, tmp_path):
    metrics = evaluate()
    assert not {"constrained", "samples"} & set(metrics)
    plan = json.loads((tmp_path / "results" / "plan.json").read_text())
    assert not {"constrained", "num_samples", "temperature", "top_p"} & set(plan)


def test_the_last_line_counts_what_was_cut(evaluate, seeing_engine):
    engine = seeing_engine()
    whole = engine.generate
    engine.generate = lambda samples: [dataclasses.replace(answer, is_cut=True) for answer in whole(samples)]
    assert "0 failed to parse (6 cut at the token limit), 0 skipped" in evaluate(engine=engine)["message"]


def test_scoring_again_needs_no_model(evaluate, seeing_engine):
    first = evaluate(num_samples=2, constrained=True)
    engine = seeing_engine()
    again = evaluate(num_samples=2, constrained=True, rescore=True, engine=engine)
    assert engine.num_asked == 0
    assert {**first, "message": ""} == {**again, "message": ""}


def test_a_run_that_was_killed_keeps_its_samples(evaluate, seeing_engine, tmp_path):
    class Killed(Exception):
        pass

    def kill(name, text):
        if name == "right_1":
            raise Killed
        return text

    with pytest.raises(Killed):
        evaluate(kill, num_samples=2, constrained=True)
    engine = seeing_engine()
    evaluate(engine=engine, num_samples=2, constrained=True)
    assert engine.num_asked == 2
    evaluate(folder="whole", num_samples=2, constrained=True)
    for name in ("predictions.jsonl", "control_predictions.jsonl"):
        assert (tmp_path / "results" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_speed_is_counted_by_kind(evaluate):
    speed = evaluate(num_samples=2, constrained=True, controls="frozen")["speed"]
    assert {kind: speed[kind]["num_answers"] for kind in ("free", "samples", "constrained", "controls")} == {
        "free": 6, "samples": 12, "constrained": 6, "controls": 6,
    }  # fmt: skip
    assert (speed["num_workers"], speed["batch_size"]) == (1, 4)
    assert speed["free"]["tokens_per_s"] > 0


def test_one_device_named_is_asked_in_this_process(evaluate):
    assert evaluate(devices="cpu")["speed"]["num_workers"] == 1


def test_tokens_a_second_and_milliseconds_an_answer_by_hand():
    facts = {"num_workers": 2, "kinds": {"free": {"num_answers": 4, "num_tokens": 600, "seconds": 2.0}}}
    speed = measure_speed(facts, batch_size=8)["free"]
    assert (speed["tokens_per_s"], speed["ms_per_answer"]) == (300, 500)
