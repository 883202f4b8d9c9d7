"""The second track from drawn recordings to its report: the same segments, asked with and without ego history."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")
from data_prep import hf_dataset, segment_options, synthetic, training_format  # noqa: E402
from driving.answer_format import AnswerFormat  # noqa: E402
from driving.ego_history import find_prompt, read_history  # noqa: E402
from driving.errors import DrivingError  # noqa: E402
from evaluation import evaluate  # noqa: E402
from qwenvl.train import train_qwen  # noqa: E402

pytestmark = [pytest.mark.needs_torch, pytest.mark.slow]

FPS = "10"


def read_json(path: str):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def make_training_json(name: str, *flags: str) -> None:
    dataset = ["--fps", FPS, "--answer-hz", "5", "--output-dir", f"{name}_dataset", *flags]
    assert hf_dataset.main(dataset) == 0
    assert training_format.main(["--dataset-dir", f"{name}_dataset", "--output-dir", name]) == 0


def ask(output: str, *flags: str) -> list[str]:
    """Flags of an evaluation of the trained model."""
    return ["--model", "model", "--output-dir", output, "--bootstrap", "50", "--device", "cpu", *flags]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    """A folder with training JSON of both tracks, and a model of two steps with history; we stand in it."""
    folder, before = tmp_path_factory.mktemp("history"), Path.cwd()
    os.chdir(folder)
    assert synthetic.main(["--clips", "6", "--seconds", "4", "--height", "64", "--width", "128", "--workers", "1"]) == 0
    assert segment_options.main(["--fps", FPS, "--video-frame-pixels", "8192", "--workers", "1"]) == 0
    make_training_json("told", "--ego-history")
    make_training_json("silent")
    flags = (
        "--lora_enable True --lora_r 4 --max_steps 2 --video_min_frames 4 --video_frame_pixels 8192 --report_to none "
        "--use_cpu True --per_device_train_batch_size 2 --disable_tqdm True --output_dir model "
        "--dataset_use told/train.json --eval_strategy steps --eval_steps 2 --eval_samples 1"
    )
    assert train_qwen.run(["--model_name_or_path", str(tiny_model), *flags.split(), "--video_fps", FPS]) == 0
    assert evaluate.main(ask("results", "--test-data", "told/test.json")) == 0
    yield folder
    os.chdir(before)


def test_every_prompt_tells_the_recorded_motion_of_its_own_input_second(folder):
    answer_format = AnswerFormat(**read_json("told/dataset.json")["answer_format"])
    truth = {row["id"]: row for row in pq.read_table("told/truth.parquet").to_pylist()}
    rows = [row for side in ("train", "val", "test") for row in read_json(f"told/{side}.json")]
    assert len(rows) == len(truth) > 10
    for row in rows:
        told = read_history(find_prompt(row), answer_format)
        observed = [v for v, _ in truth[row["id"]]["observed"]]
        # two samples of 10 Hz in each pair of 5 Hz, printed with one decimal
        means = [(first + second) / 2 for first, second in zip(observed[::2], observed[1::2], strict=True)]
        assert told.velocity_mps.tolist() == pytest.approx(means, abs=0.0501)


def test_the_two_tracks_ask_the_same_rows_and_differ_in_the_history_alone(folder):
    told, silent = read_json("told/test.json"), read_json("silent/test.json")
    assert [row["id"] for row in told] == [row["id"] for row in silent]
    for one, other in zip(told, silent, strict=True):
        head, line, rest = one["conversations"][1]["value"].split("\n", 2)
        assert line.startswith("Ego motion during this clip, 5 pairs of ")
        assert f"{head}\n{rest}" == other["conversations"][1]["value"]
        assert one["conversations"][2] == other["conversations"][2]


def test_the_checkpoint_knows_its_track(folder):
    assert read_json("model/preprocessing.json")["answer_format"]["history_pairs"] == 5


def test_the_plan_of_the_run_names_the_track_and_shows_the_history(folder):
    assert read_json("model/train_plan.json")["track"] == "video and ego history"
    example = read_json("model/preprocessing.json")["prompt_example"]
    assert "Ego motion during this clip" in json.dumps(example)


def test_the_scores_are_of_the_track_with_its_controls(folder):
    metrics = read_json("results/metrics.json")
    assert metrics["track"] == "video and ego history"
    assert metrics["fallback_of_failed_answers"] == "ctrv"
    assert set(metrics["controls"]) == {"frozen", "wrong_clip", "mirror", "no_history", "wrong_history"}
    lines = [json.loads(line) for line in Path("results/control_predictions.jsonl").read_text().splitlines()]
    tokens = {(line["id"], line["control"]): line["prompt_tokens"] for line in lines}
    for row in read_json("told/test.json"):
        assert tokens[row["id"], "no_history"] < tokens[row["id"], "frozen"]


def test_an_untrained_model_that_never_answers_is_scored_as_ctrv_of_what_it_was_told(folder):
    metrics = read_json("results/metrics.json")
    assert metrics["parsing"]["counts"]["failed"] == metrics["rows"]["num_scored"]
    told, exact = (part["velocity_mae_mps"]["value"] for part in (metrics["model"], metrics["baselines"]["ctrv"]))
    # the last pair of 5 Hz is the mean over CTRV's 0.2 s, printed with one decimal
    assert told == pytest.approx(exact, abs=0.0501)


def test_the_model_is_not_asked_without_what_it_was_taught_with(folder):
    with pytest.raises(DrivingError, match="model tells the ego motion .*silent/test.json does not"):
        evaluate.main(ask("other", "--test-data", "silent/test.json", "--force"))
    assert not Path("other").exists()


def test_training_on_both_tracks_at_once_is_refused(folder, tiny_model):
    flags = [
        "--model_name_or_path",
        str(tiny_model),
        "--output_dir",
        "both",
        "--use_cpu",
        "True",
        "--report_to",
        "none",
    ]
    with pytest.raises(DrivingError, match="these are two tracks; train one model on each"):
        train_qwen.run([*flags, "--dataset_use", "told/train.json,silent/train.json"])
