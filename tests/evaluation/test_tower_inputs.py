"""What the vision tower is given: the same in training and in prediction, wherever the second's pixels come from.

The tensors are taken at the tower's first layer, on their way through a training step and through `generate`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from data_prep.segment_options import SegmentOptions  # noqa: E402
from data_prep.segments import run as cut_segments  # noqa: E402
from driving.answer_format import AnswerFormat  # noqa: E402
from driving.recording import VideoAddress  # noqa: E402
from evaluation.asking.engine import load_engine  # noqa: E402
from evaluation.video.model import load_model  # noqa: E402
from evaluation.video.seconds import build_records, plan_seconds  # noqa: E402
from evaluation.video.tool import PredictOptions  # noqa: E402
from evaluation.video.tool import run as predict_video  # noqa: E402
from qwenvl.data.collate import collate, to_step_inputs  # noqa: E402
from qwenvl.data.dataset import DrivingDataset  # noqa: E402
from qwenvl.data.prepared import PreparedCache  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.prepare_cache import PrepareCacheOptions  # noqa: E402
from qwenvl.prepare_cache import run as prepare_cache  # noqa: E402
from qwenvl.train.fast_vision import speed_up_vision  # noqa: E402
from qwenvl.train.forward import use_driving_forward  # noqa: E402
from qwenvl.train.loading import load_model as load_weights  # noqa: E402
from video_io.encode import write_video  # noqa: E402
from video_io.probe import probe_video  # noqa: E402

pytestmark = pytest.mark.needs_torch

FORMAT = AnswerFormat(num_pairs=2, fps=10.0)
ANSWER = "[(12.0, 0.0200), (14.0, 0.0200)]"
RULES = Preprocessing(video_fps=10.0, video_min_frames=4, video_frame_pixels=8192, answer_format=FORMAT.to_json())
SEGMENT = "road_seg_{0:02d}"


def draw_road(path):
    """Two seconds at 29.97 fps of 180x320 px: grey waves that move."""
    rows, columns = np.mgrid[:180, :320]
    waves = [np.sin(columns / 23 + index / 5) + np.cos(rows / 31 - index / 7) for index in range(60)]
    frames = [np.repeat((120 + 50 * wave).astype(np.uint8)[..., None], 3, axis=-1) for wave in waves]
    write_video(path, frames, 30000 / 1001)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    """A folder with a raw recording, its resized segments, a prepared cache of both, and a model with its papers."""
    folder = tmp_path_factory.mktemp("pixels")
    (folder / "raw").mkdir()
    draw_road(folder / "raw" / "road.mp4")
    options = {"fps": 10.0, "video_frame_pixels": RULES.video_frame_pixels, "workers": 1, "allow_one_recording": True}
    cut_segments(SegmentOptions(input_dir=folder / "raw", output_dir=folder / "cut", source="folder", **options))
    model = shutil.copytree(tiny_model, folder / "model")
    RULES.write(model)
    (folder / "train.json").write_text(json.dumps(list_records(folder)))
    rules = {name: getattr(RULES, name) for name in ("video_fps", "video_min_frames", "video_frame_pixels")}
    dataset = {"dataset_use": str(folder / "train.json"), "output_dir": folder / "prepared", "workers": 1}
    prepare_cache(PrepareCacheOptions(model_name_or_path=str(model), **dataset, **rules))
    return folder


def list_records(folder):
    """The first second as training rows: of its resized segment, and of the raw recording (`--cut index`)."""
    video = folder / "raw" / "road.mp4"
    seconds = plan_seconds(probe_video(VideoAddress(str(video))), 1.0, video.name)
    (raw, *_) = build_records(video, seconds, FORMAT, None)
    raw = {**raw, "conversations": [*raw["conversations"][:-1], {"from": "gpt", "value": ANSWER}]}
    cut = {"id": "cut", "video": str(folder / "cut/video_segments" / f"{SEGMENT.format(0)}.mp4")}
    return [{**cut, "conversations": raw["conversations"]}, {**raw, "id": "raw"}]


@pytest.fixture(scope="module")
def engine(place):
    loaded = load_engine(str(place / "model"), "cpu", [place])
    loaded.max_new_tokens = 1
    return loaded


@pytest.fixture(scope="module")
def learner(place):
    """The same model as a training run has it."""
    model = load_weights(place / "model", attention="auto", dtype=torch.float32)
    speed_up_vision(model)
    use_driving_forward(model)
    return model


@pytest.fixture
def tower(engine, learner):
    """What came to the first layer of either tower since the test began: a list of (P, D)."""
    seen = []
    hooks = [watch(model, seen) for model in (engine.model, learner)]
    yield seen
    for hook in hooks:
        hook.remove()


def watch(model, seen):
    patch_embed = model.model.visual.patch_embed
    return patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))


def train_on(learner, engine, place, record, prepared=False):
    """One training step's forward over one row; the engine lends its processor and preprocessing."""
    dataset = DrivingDataset([record], [(place,)], engine.processor, engine.preprocessing, 4096)
    if prepared:
        dataset.use_prepared(PreparedCache.read(place / "prepared"))
    batch = collate([dataset[0]], pad_token_id=0)
    with torch.inference_mode():
        learner(**to_step_inputs(batch, engine.processor, "cpu"))
    return dataset[0]


def ask_about(engine, record):
    """One answer, as prediction asks for it."""
    sample = engine.prepare(record, engine.read(record))
    engine.generate([sample])
    return sample


@pytest.mark.parametrize("source", ["cut", "raw"])
def test_a_row_comes_to_the_tower_as_it_did_in_training(learner, engine, place, tower, source):
    record = next(row for row in list_records(place) if row["id"] == source)
    taught, asked = train_on(learner, engine, place, record), ask_about(engine, record)
    assert [tuple(patches.shape) for patches in tower] == [(5 * 4 * 8, 3 * 2 * 16 * 16)] * 2  # 10 frames of 64x128 px
    assert torch.equal(*tower)
    assert taught["input_ids"][: len(asked["input_ids"])].tolist() == asked["input_ids"].tolist()
    assert torch.equal(taught["position_ids"][:, : len(asked["input_ids"])], asked["position_ids"])


@pytest.mark.parametrize("source", ["cut", "raw"])
def test_the_prepared_cache_gives_the_same_pixels_in_training_and_in_prediction(learner, engine, place, tower, source):
    record = next(row for row in list_records(place) if row["id"] == source)
    train_on(learner, engine, place, record)
    train_on(learner, engine, place, record, prepared=True)
    engine.use_prepared(place / "prepared", [record])
    try:
        ask_about(engine, record)
    finally:
        engine.prepared = None
    assert len(tower) == 3 and torch.equal(tower[0], tower[1]) and torch.equal(tower[0], tower[2])


def test_predict_video_shows_the_tower_what_training_on_the_raw_recording_did(learner, engine, place, tower, tmp_path):
    train_on(learner, engine, place, list_records(place)[1])
    watched = []

    def build_engine(*planned):
        loaded = load_model(*planned)
        loaded.max_new_tokens = 1
        watch(loaded.model, watched)
        return loaded

    values = {"model": str(place / "model"), "out": tmp_path / "out.mp4", "device": "cpu", "batch_size": 2}
    predict_video(PredictOptions(video=place / "raw" / "road.mp4", **values), build_engine)
    (both,) = watched  # two seconds in one batch
    assert torch.equal(both[: len(both) // 2], tower[0])


def test_a_resized_segment_differs_from_the_raw_recording_by_its_compression_alone(engine, place, tower):
    cut, raw = list_records(place)
    samples = [ask_about(engine, record) for record in (cut, raw)]
    assert samples[0]["input_ids"].tolist() == samples[1]["input_ids"].tolist()
    grey_levels = [patches.double() * 127.5 for patches in tower]
    error = float(((grey_levels[0] - grey_levels[1]) ** 2).mean())
    assert 0 < error < 255**2 / 10**3.8  # 38 dB, which the segments promise of a road


def test_other_pixels_would_be_noticed(learner, engine, place, tower):
    record = list_records(place)[1]
    train_on(learner, engine, place, record)
    ask_about(engine, {**record, "video_start": record["video_start"] + 0.1, "video_end": record["video_end"] + 0.1})
    kept = engine.preprocessing
    engine.preprocessing = dataclasses.replace(kept, scaler="bilinear")
    try:
        ask_about(engine, record)
    finally:
        engine.preprocessing = kept
    assert not torch.equal(tower[0], tower[1]) and not torch.equal(tower[0], tower[2])
