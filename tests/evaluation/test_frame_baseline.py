"""--frame-baseline: which clips are read, how often, and where its answers stand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import qwenvl.data.dataset  # noqa: F401, it takes `read_clips` as it finds it: before one is put in its place
from driving.errors import DrivingError, VideoError
from evaluation.evaluate import EvaluateOptions, run
from evaluation.frame_baseline import CACHE_NAME, ClipReader, find_train_json, read_features
from qwenvl.data.frame_cache import Clip
from qwenvl.data.preprocessing import Preprocessing
from video_io.encode import write_video

FPS = 10.0


def draw_clip(velocity_mps: float, curvature_per_m: float) -> Clip:
    """Waves that go down by the speed and right by the curvature, a few tenths of a px a frame."""
    rows, columns = np.mgrid[:32, :64].astype(np.float64)
    frames = []
    for index in range(6):
        y, x = rows - index * velocity_mps / 20, columns - index * curvature_per_m * 20
        frames.append(128 + 50 * np.sin(x / 3) + 50 * np.cos(y / 3))
    return Clip(np.repeat(np.round(frames).astype(np.uint8)[..., None], 3, axis=-1), FPS)


class Decoder:
    """Stands in for `read_clips`: draws a row's clip from its motion, and counts."""

    def __init__(self, rows):
        self.motions = {row.id: row.motion for row in rows}
        self.read: list[str] = []
        self.broken: set[str] = set()
        self.preprocessing = None

    def __call__(self, record, preprocessing, folders):
        self.read.append(record["id"])
        self.preprocessing = preprocessing
        if record["id"] in self.broken:
            raise VideoError(f"{record['video']} is cut short")
        return [draw_clip(*self.motions[record["id"]])]


@pytest.fixture
def decoder(small_dataset, monkeypatch) -> Decoder:
    """150 more training rows of 30 recordings and their train.json, whose clips are drawn."""
    rng = np.random.default_rng(5)
    for index in range(150):
        motion = (float(rng.uniform(0, 14)), float(rng.uniform(-0.03, 0.03)))
        row = dataclasses.replace(
            small_dataset.rows[0], id=f"more{index}", group=f"drive{index // 5}", motion=motion, answer=""
        )
        small_dataset.rows.append(row)
    small_dataset.write()
    records = [
        {"id": row.id, "group": row.group, "video": f"videos/{row.id}.mp4", "conversations": []}
        for row in small_dataset.rows
        if row.split == "train"
    ]
    (small_dataset.folder / "train.json").write_text(json.dumps(records))
    found = Decoder(small_dataset.rows)
    monkeypatch.setattr("qwenvl.data.clips.read_clips", found)
    return found


@pytest.fixture
def evaluate(evaluate_options, seeing_engine):
    def call(**changes):
        options = dataclasses.replace(evaluate_options, frame_baseline=True)
        facts = {"model": {"num_parameters": 2_000_000, "model_type": "fake"}, "max_new_tokens": 99}
        return run(dataclasses.replace(options, **changes), lambda planned, asked: (seeing_engine(), facts))

    return call


def test_it_learns_the_motion_from_training_clips_and_stands_beside_the_model(evaluate, decoder, tmp_path):
    metrics = evaluate(require_beat="frame_motion")
    found = metrics["baselines"]["frame_motion"]
    assert found["knows"] == "the frames and training rows"
    # the training mean is wrong by 6 m/s here; the clips show the speed
    assert found["velocity_mae_mps"]["value"] < 0.3 * metrics["baselines"]["train_mean"]["velocity_mae_mps"]["value"]
    assert metrics["frame_motion"]["num_train_rows"] == 154
    assert metrics["frame_motion"]["num_unreadable"] == {"train": 0, "test": 0}
    assert metrics["best_baseline"]["ade_m"]["fair"] == "frame_motion"
    assert metrics["gate"]["baseline"] == "frame_motion"
    assert "frame motion" in (tmp_path / "results/report.html").read_text()


def test_a_rescore_decodes_nothing_again(evaluate, decoder):
    first = evaluate()
    assert sorted(decoder.read) == sorted(decoder.motions)
    decoder.read.clear()
    again = evaluate(rescore=True)
    assert decoder.read == []
    assert again["baselines"]["frame_motion"] == first["baselines"]["frame_motion"]


def test_a_damaged_store_of_features_is_made_again(evaluate, decoder, tmp_path):
    evaluate()
    decoder.read.clear()
    (tmp_path / "results" / CACHE_NAME).write_bytes(b"PK\x03\x04 half")
    evaluate(rescore=True)
    assert sorted(decoder.read) == sorted(decoder.motions)


def test_clips_that_cannot_be_read_are_counted_and_tried_again(evaluate, decoder):
    decoder.broken = {"more0", "more1", "left_0"}
    assert evaluate()["frame_motion"]["num_unreadable"] == {"train": 2, "test": 1}
    decoder.read.clear()
    decoder.broken.clear()
    assert evaluate(rescore=True)["frame_motion"]["num_unreadable"] == {"train": 0, "test": 0}
    assert sorted(decoder.read) == ["left_0", "more0", "more1"]


def test_with_too_few_training_clips_the_run_goes_on_without_it(evaluate, decoder):
    decoder.broken = {f"more{index}" for index in range(100)}
    metrics = evaluate(require_beat="frame_motion")
    assert "frame_motion" not in metrics["baselines"]
    assert metrics["frame_motion"]["reason"] == "54 training clips could be read, 100 are needed"
    assert metrics["gate"]["sentence"] == "not shown to beat frame_motion: it could not be computed on these rows"


def test_the_frames_of_a_blind_models_baseline_are_not_grey(evaluate, decoder, small_dataset):
    path = small_dataset.model / "preprocessing.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "blind": True}))
    stamps = evaluate()["stamps"]
    assert decoder.preprocessing.blind is False
    assert any(stamp.startswith("BLIND: trained without pixels") for stamp in stamps)


def test_no_training_rows_are_said_before_the_model_is_asked(evaluate):
    with pytest.raises(
        DrivingError, match="--frame-baseline learns from the clips of .*train.json, which is not there"
    ):
        evaluate()


def test_training_rows_that_point_into_recordings_are_found_by_their_name(small_dataset):
    (small_dataset.folder / "train.index.json").write_text("[]")
    options = EvaluateOptions(test_data=small_dataset.folder / "test.index.json")
    assert find_train_json(options).name == "train.index.json"


def test_the_gate_needs_the_flag(evaluate, decoder):
    with pytest.raises(DrivingError, match="--require-beat frame_motion needs --frame-baseline"):
        evaluate(frame_baseline=False, require_beat="frame_motion")


def test_a_finished_run_without_it_is_scored_again_only_when_asked(evaluate, decoder):
    evaluate(frame_baseline=False)
    with pytest.raises(DrivingError, match="was finished without --frame-baseline; add --rescore"):
        evaluate()
    assert "frame_motion" in evaluate(rescore=True)["baselines"]


def test_a_video_that_changed_is_measured_again_and_one_that_is_gone_is_remembered(tmp_path):
    reader = ClipReader(Preprocessing(video_fps=FPS, video_min_frames=2), [tmp_path])
    record, path = {"id": "a", "video": "a.mp4"}, tmp_path / "a.mp4"
    write_video(path, list(draw_clip(10.0, 0.0).frames), FPS)
    first = read_features([record], reader, tmp_path / CACHE_NAME)
    write_video(path, list(draw_clip(2.0, 0.02).frames), FPS)
    second = read_features([record], reader, tmp_path / CACHE_NAME)
    assert not np.allclose(first, second)
    path.unlink()
    assert (read_features([record], reader, tmp_path / CACHE_NAME) == second).all()


def test_where_no_clip_can_be_read_every_row_says_so(evaluate, decoder):
    decoder.broken = set(decoder.motions)
    metrics = evaluate()
    assert metrics["frame_motion"]["num_unreadable"] == {"train": 154, "test": 6}
    assert metrics["frame_motion"]["reason"] == "0 training clips could be read, 100 are needed"
