"""A whole evaluation of a model that is served: the same rows, frames, prompts and scores."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from adapters import write_preprocessing  # noqa: E402
from recorded_server import NAME, Recorded, completion, error  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from evaluation.evaluate import EvaluateOptions, run  # noqa: E402

pytestmark = pytest.mark.needs_torch


@pytest.fixture
def options(small_dataset, tiny_model, tmp_path, recorded):
    """Of a run over the small dataset with drawn clips, on a checkpoint's papers."""
    from qwenvl.train.loading import load_processor
    from video_io import write_video

    shutil.copytree(tiny_model, small_dataset.model, dirs_exist_ok=True)
    write_preprocessing(
        small_dataset.model,
        load_processor(tiny_model),
        prompt_example=None,
        answer_format=small_dataset.answer_format.to_json(),
    )
    for index, row in enumerate(small_dataset.test_rows):
        frames = np.random.default_rng(index).integers(0, 255, (10, 64, 96, 3)).astype(np.uint8)
        write_video(small_dataset.folder / "videos" / f"{row.id}.mp4", frames, 10.0)
    return EvaluateOptions(
        model=str(small_dataset.model),
        test_data=small_dataset.test_data,
        output_dir=tmp_path / "results",
        controls="none",
        bootstrap=20,
        server=recorded.url,
    )


def answer_without_ids(text: str) -> dict:
    """As a server that tells neither token ids nor counts: its prompt cannot be checked."""
    answer = completion(text)
    del answer["prompt_token_ids"], answer["usage"]
    return answer


def test_a_served_model_is_scored_on_the_same_rows(options, small_dataset, recorded):
    recorded.play(answer_without_ids(small_dataset.format(8.0, 0.02)))
    metrics = run(dataclasses.replace(options, force=True))
    lines = [json.loads(line) for line in (options.output_dir / "predictions.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {row.id for row in small_dataset.test_rows}
    assert len(recorded.bodies) == len(small_dataset.test_rows)
    assert {body["model"] for body in recorded.bodies} == {NAME}
    # three clips of (0, 0), (8, 0.02) and (12, -0.02), two rows each, all answered by (8, 0.02)
    assert metrics["model"]["velocity_mae_mps"]["value"] == pytest.approx((8 + 0 + 4) / 3)


def test_a_server_that_fails_on_the_way_is_asked_only_for_the_rest(options, small_dataset, recorded):
    good = Recorded(answer_without_ids(small_dataset.format(8.0, 0.02)))
    recorded.play(*[good] * 4, Recorded(error("overloaded", 503), status=503))
    options = dataclasses.replace(options, force=True, batch_size=2)
    with pytest.raises(DrivingError, match="^right_[01]: .*answered 503: overloaded; the server is not ready"):
        run(options)
    before = [json.dumps(body) for body in recorded.bodies]
    recorded.play(good)
    run(options)
    # Of six rows in three batches, two were done. The other row of the third may be on its way a last time.
    after = {json.dumps(body) for body in recorded.bodies[len(before) :]}
    assert len(after) == 2 and after.isdisjoint(before[:4])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_stumbles_once_is_asked_again(options, small_dataset, recorded, status):
    good = Recorded(answer_without_ids(small_dataset.format(8.0, 0.02)))
    recorded.play(good, Recorded(error("stumbled", status), status=status), good)
    metrics = run(dataclasses.replace(options, force=True))
    assert metrics["rows"]["num_scored"] == len(small_dataset.test_rows)
    assert len(recorded.bodies) == len(small_dataset.test_rows) + 1


def test_a_server_that_says_what_is_wrong_with_the_question_is_not_asked_again(options, recorded):
    recorded.play(Recorded(error("no such picture", 400), status=400))
    with pytest.raises(DrivingError, match="answered 400: no such picture"):
        run(dataclasses.replace(options, force=True, max_samples=1))
    assert len(recorded.bodies) == 1


def test_half_a_character_in_an_answer_is_stored_as_one_that_a_file_can_hold(options, recorded):
    recorded.play(answer_without_ids("cut \ud83d"))
    run(dataclasses.replace(options, force=True))
    lines = [json.loads(line) for line in (options.output_dir / "predictions.jsonl").read_text().splitlines()]
    assert {line["text"] for line in lines} == {"cut \ufffd"}


def test_a_prompt_that_cannot_be_checked_is_refused(options, small_dataset, recorded):
    recorded.play(answer_without_ids(small_dataset.format(8.0, 0.02)))
    with pytest.raises(DrivingError, match="the server counts 0 tokens in its prompt, training had"):
        run(options)


def test_what_only_weights_can_do_is_refused_by_flag(options):
    with pytest.raises(DrivingError, match="single free answer.*; leave out --constrained and --num-samples"):
        run(dataclasses.replace(options, constrained=True, num_samples=3))
    with pytest.raises(DrivingError, match="leave out --prepared-dir"):
        run(dataclasses.replace(options, prepared_dir=options.output_dir))
