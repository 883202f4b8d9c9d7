"""Video only, and video and ego history: what each is given, judged by and compared with, and that they never mix."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driving.answer_format import EGO_HISTORY, VIDEO_ONLY, AnswerFormat
from driving.ego_history import find_prompt, read_history
from driving.errors import DrivingError
from evaluation.asking.controls import parse_controls
from evaluation.evaluate import EvaluateOptions, run
from evaluation.scoring.grounding import check_grounding
from evaluation.scoring.tracks import FALLBACKS, GATES, build_fallback, read_told
from qwenvl.train.generation import Generated

TOLD = AnswerFormat(num_pairs=10, fps=10.0, history_pairs=10)


class HearingEngine:
    """Does not look: says that the car goes on as it is told, faster by a factor; untold, straight at 5 m/s."""

    def __init__(self, dataset, factor: float = 1.0) -> None:
        self.dataset, self.factor = dataset, factor
        self.asked: list[tuple[str, str]] = []

    def read(self, record):
        clip = type("Clip", (), {"frames": np.zeros((10, 4, 4, 3), np.uint8), "fps": 10.0})()
        clip._replace = lambda frames: clip
        return [clip]

    def prepare(self, record, clips):
        return record

    def generate(self, samples):
        return [Generated(self.answer(record), 1, False, 1) for record in samples]

    def answer(self, record) -> str:
        self.asked.append((record["id"], find_prompt(record)))
        told = read_history(find_prompt(record), TOLD)
        if told is None:
            return self.dataset.format(5.0, 0.0)
        return self.dataset.format(told.velocity_mps[-1] * self.factor, told.curvature_per_m[-1])


@pytest.fixture
def told_dataset(small_dataset):
    """The small dataset of the other track; in every clip the car drove half as fast as it does after it."""
    small_dataset.answer_format = TOLD
    for row in small_dataset.rows:
        row.observed = (row.motion[0] / 2, row.motion[1])
    small_dataset.write()
    return small_dataset


@pytest.fixture
def evaluate(small_dataset, tmp_path):
    def call(engine, **changes):
        options = EvaluateOptions(
            model=str(small_dataset.model),
            test_data=small_dataset.test_data,
            output_dir=tmp_path / "results",
            bootstrap=100,
            batch_size=4,
        )
        return run(dataclasses.replace(options, **changes), lambda planned, asked: (engine, {"max_new_tokens": 99}))

    return call


# what is asked


def test_each_track_has_its_controls():
    assert parse_controls("auto", VIDEO_ONLY) == ("frozen", "wrong_clip", "mirror")
    assert parse_controls("auto", EGO_HISTORY) == ("frozen", "wrong_clip", "mirror", "no_history", "wrong_history")
    assert parse_controls("all", EGO_HISTORY)[-2:] == ("no_history", "wrong_history")
    assert "no_history" not in parse_controls("all", VIDEO_ONLY)


def test_a_control_of_the_history_is_refused_where_there_is_none():
    with pytest.raises(DrivingError, match="control no_history changes the ego motion in the prompts, and these tell"):
        parse_controls("frozen,no-history", VIDEO_ONLY)


def test_the_report_and_the_numbers_say_the_track(evaluate, told_dataset, tmp_path):
    metrics = evaluate(HearingEngine(told_dataset))
    assert metrics["track"] == "video and ego history"
    page = (tmp_path / "results" / "report.html").read_text()
    assert "video and ego history" in page
    assert "This model saw video only" not in page
    assert "claims about looking and listening" in page
    assert "Does it look, or only listen?" in page
    assert "scored as CTRV over the ego history as it was told" in page


def test_a_model_with_history_stands_beside_ctrv_everywhere(evaluate, told_dataset, tmp_path):
    metrics = evaluate(HearingEngine(told_dataset))
    assert metrics["reference"] == "ctrv"
    assert set(metrics["strata"]["speed"]["macro"]) == {"model", "ctrv"}
    assert "3.33 m/s speed (CTRV 3.33)" in metrics["message"]
    page = (tmp_path / "results" / "report.html").read_text()
    assert "ochre CTRV on the same rows" in page
    assert metrics["gate"]["baseline"] == "ctra"


def test_a_model_that_only_hears_is_told_so_by_the_controls(evaluate, told_dataset, tmp_path):
    metrics = evaluate(HearingEngine(told_dataset, factor=2.0))
    # Twice what it was told is right: no error, where 5 m/s is off by 5, 3 and 7 m/s and CTRV by 0, 4 and 6 m/s.
    assert metrics["model"]["velocity_mae_mps"]["value"] == 0
    assert metrics["baselines"]["ctrv"]["velocity_mae_mps"]["value"] == pytest.approx(10 / 3)
    ground = metrics["grounding"]
    assert ground["reference"] == "ctrv"
    assert ground["velocity_gain_percent"]["value"] == pytest.approx(100)
    # Broken video takes nothing of the gain over CTRV away; no history takes all of the gain over the training mean.
    assert ground["frozen"]["share_removed"]["value"] == pytest.approx(0)
    assert ground["wrong_clip"]["share_removed"]["value"] == pytest.approx(0)
    assert metrics["controls"]["no_history"]["velocity_mae_mps"]["value"] == pytest.approx(5)
    assert ground["no_history"]["share_removed"]["value"] == pytest.approx(1)
    checks = {check["name"]: check["holds"] for check in ground["checks"]}
    assert checks["no_history"] is True
    assert (checks["frozen"], checks["wrong_clip"]) == (False, False)
    page = (tmp_path / "results" / "report.html").read_text()
    assert "Without the ego history, 100 % of the speed gain over the training mean is gone: it answers what it" in page
    assert "of the speed gain over CTRV is gone" in page


def test_without_history_the_question_is_asked_and_with_wrong_history_that_of_another_clip(evaluate, told_dataset):
    engine = HearingEngine(told_dataset)
    evaluate(engine, controls="no_history,wrong_history")
    own = {row.id: row.observed for row in told_dataset.test_rows}
    clip = {row.id: row.group for row in told_dataset.test_rows}
    of_clip = {row.observed[0]: row.group for row in told_dataset.test_rows}
    for name in own:
        plain, without, wrong = (read_history(prompt, TOLD) for row, prompt in engine.asked if row == name)
        assert without is None
        assert plain.velocity_mps[0] == own[name][0]
        assert of_clip[wrong.velocity_mps[0]] != clip[name]


def test_a_mirrored_video_comes_with_a_mirrored_history(evaluate, told_dataset, tmp_path):
    engine = HearingEngine(told_dataset)
    metrics = evaluate(engine, controls="mirror")
    assert metrics["grounding"]["mirror"]["share_flipped"]["value"] == 1
    page = (tmp_path / "results" / "report.html").read_text()
    assert "Video and ego history mirrored, 100 % of the 4 rows in a curve" in page
    sides = [read_history(prompt, TOLD).curvature_per_m[0] for row, prompt in engine.asked if row == "left_0"]
    assert sides == [0.02, -0.02]


def test_rows_of_one_clip_have_no_other_clips_history(evaluate, told_dataset):
    told_dataset.rows = [row for row in told_dataset.rows if row.group not in ("stop", "right")]
    told_dataset.write()
    metrics = evaluate(HearingEngine(told_dataset))
    assert set(metrics["controls"]) == {"frozen", "mirror", "no_history"}


# what failures cost


def test_failed_answers_are_scored_as_ctrv_where_the_model_was_told_the_motion(evaluate, told_dataset):
    engine = HearingEngine(told_dataset)
    engine.answer = lambda record: "I cannot see the road."
    metrics = evaluate(engine, controls="none")
    assert metrics["fallback_of_failed_answers"] == "ctrv"
    # CTRV goes on at half the speed: off by 0, 4 and 6 m/s
    assert metrics["model"]["velocity_mae_mps"]["value"] == pytest.approx(10 / 3)
    assert metrics["parsing"]["counts"]["failed"] == 6


def test_a_control_that_takes_the_history_away_takes_it_from_the_fallback_too(evaluate, told_dataset):
    engine = HearingEngine(told_dataset)
    engine.answer = lambda record: "I cannot see the road."
    metrics = evaluate(engine)
    # the training mean goes 5 m/s: |0 - 5|, |8 - 5|, |12 - 5|; CTRV, which the other controls leave, half the speed
    assert metrics["controls"]["no_history"]["velocity_mae_mps"]["value"] == pytest.approx(5)
    assert metrics["controls"]["frozen"]["velocity_mae_mps"]["value"] == pytest.approx(10 / 3)
    assert metrics["controls"]["wrong_history"]["velocity_mae_mps"]["value"] > 5


def test_a_failed_answer_under_a_mirror_is_scored_as_the_mirrored_history(evaluate, told_dataset):
    engine = HearingEngine(told_dataset)
    engine.answer = lambda record: "I cannot see the road."
    metrics = evaluate(engine, controls="mirror")
    # clips of 0, 0.02 and -0.02 1/m; the standing one is not judged
    assert metrics["controls"]["mirror"]["curvature_mae_per_m"]["value"] == pytest.approx(0.04)


def test_the_fallback_knows_the_motion_only_as_it_was_told(drive):
    truth = drive([(8.04, 0.00123)])
    assert read_told(truth, TOLD)[0, 0].tolist() == [8.0, 0.0012]
    fallback = build_fallback(truth, {}, TOLD)
    assert (fallback[0][0, 0], fallback[1][0, 0]) == pytest.approx((8.0, 0.0012))


def test_the_fallback_of_a_coarse_history_is_the_mean_that_was_told(drive):
    truth = drive([(8.0, 0.0)])
    truth.observed[0, :, 0] = np.arange(10)
    # one pair for the whole second: (0 + ... + 9) / 10
    assert build_fallback(truth, {}, AnswerFormat(num_pairs=1, fps=10.0, history_pairs=1))[0].tolist() == [[4.5] * 10]


def test_video_only_falls_back_on_the_training_mean(drive):
    mean = (np.full((1, 10), 5.0), np.zeros((1, 10)))
    assert build_fallback(drive([(8.0, 0.0)]), {"train_mean": mean}, AnswerFormat(num_pairs=10)) is mean


def test_truth_without_observed_motion_cannot_stand_behind_prompts_that_tell_it(evaluate, told_dataset):
    path = told_dataset.folder / "truth.parquet"
    table = pq.read_table(path).to_pydict()
    table["observed"][-1] = None
    pq.write_table(pa.table(table), path)
    with pytest.raises(DrivingError, match="a row of truth.parquet has no observed motion"):
        evaluate(HearingEngine(told_dataset))


def test_every_track_has_a_fallback_and_a_gate_of_its_own():
    assert FALLBACKS == {VIDEO_ONLY: "train_mean", EGO_HISTORY: "ctrv"}
    assert GATES == {VIDEO_ONLY: "train_mean", EGO_HISTORY: "ctra"}


# claims


def test_a_model_that_is_told_the_motion_must_beat_ctrv_and_show_that_it_uses_what_it_is_told():
    def estimate(value, low, high):
        return {"value": value, "low": low, "high": high}

    values = {
        "velocity_gain_percent": estimate(4, 1, 7),
        "curvature_gain_percent": estimate(2, -1, 5),
        "no_history": {"share_removed": estimate(0.2, 0.1, 0.3)},
        "wrong_history": {"share_removed": estimate(0.2, -0.1, 0.3)},
    }
    checks = {check["name"]: check for check in check_grounding(values, 25, EGO_HISTORY)}
    assert checks["velocity_gain"]["label"] == "speed error below CTRV's [%]"
    assert checks["frozen"]["label"] == "share of the speed gain over CTRV that the frozen control removes"
    assert checks["mirror"]["label"].endswith("when video and ego history are mirrored (no proof of seeing)")
    assert {name: check["holds"] for name, check in checks.items()} == {
        "enough_clips": True, "velocity_gain": True, "curvature_gain": False, "frozen": None, "wrong_clip": None,
        "no_history": True, "wrong_history": False, "mirror": None,
    }  # fmt: skip


# never mixed


@pytest.mark.parametrize("force", [False, True])
def test_a_model_of_video_only_is_not_asked_with_history_not_even_by_force(evaluate, told_dataset, force):
    taught = AnswerFormat(num_pairs=10, fps=10.0).to_json()
    (told_dataset.model / "preprocessing.json").write_text(json.dumps({"video_fps": 10.0, "answer_format": taught}))
    with pytest.raises(
        DrivingError, match=r"test.json tells the ego motion .*, .*model does not: these are two tracks"
    ):
        evaluate(HearingEngine(told_dataset), force=force)


def test_a_model_that_was_told_the_motion_is_not_asked_without(evaluate, small_dataset):
    (small_dataset.model / "preprocessing.json").write_text(json.dumps({"answer_format": TOLD.to_json()}))
    with pytest.raises(DrivingError, match=r"model tells the ego motion .* whose scores are never mixed"):
        evaluate(HearingEngine(small_dataset), force=True)


def test_a_row_of_the_other_track_stops_the_run_before_the_model_is_asked(evaluate, told_dataset):
    records = json.loads(told_dataset.test_data.read_text())
    human = records[1]["conversations"][0]
    human["value"] = f"<video>\n{TOLD.instruction}"
    told_dataset.test_data.write_text(json.dumps(records))
    engine = HearingEngine(told_dataset)
    with pytest.raises(DrivingError, match=f"{records[1]['id']}: its prompt does not tell the ego motion"):
        evaluate(engine)
    assert engine.asked == []
