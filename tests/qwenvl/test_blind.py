"""--blind: the same model, rows and tokens, and not one pixel of the recording."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
from tiny_runs import list_flags, read_losses  # noqa: E402

from driving.errors import DrivingError, LedgerError  # noqa: E402
from evaluation.asking.engine import load_engine  # noqa: E402
from qwenvl.data.clips import read_clips, read_images  # noqa: E402
from qwenvl.data.dataset import read_records  # noqa: E402
from qwenvl.data.identity import identify_pixels  # noqa: E402
from qwenvl.data.prepared import PreparedCache  # noqa: E402
from qwenvl.data.preprocessing import FILE_NAME, GREY, Preprocessing  # noqa: E402
from qwenvl.train.argument import parse_plan  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch
SEEING = Preprocessing(video_fps=10.0, video_min_frames=2)
BLIND = dataclasses.replace(SEEING, blind=True)
FLAGS = ("--max_steps", "2", "--blind", "True")


def row(name: str) -> dict:
    turns = [{"from": "human", "value": "<video>\nWhere to?"}, {"from": "gpt", "value": "Left."}]
    return {"id": name, "video": name, "conversations": turns}


def test_a_blind_clip_is_grey_and_as_large_and_long_as_the_one_that_is_seen(draw, tmp_path):
    draw(tmp_path / "a.mp4", 4, 64, 96, shade=20)
    (seen,), (blind,) = (read_clips(row("a.mp4"), rules, [tmp_path]) for rules in (SEEING, BLIND))
    assert blind.frames.shape == seen.frames.shape == (4, 64, 96, 3)
    assert blind.frames.dtype == np.uint8 and blind.fps == seen.fps
    assert (blind.frames == GREY).all()
    assert not (seen.frames == GREY).all()


def test_blind_frames_are_written_where_the_reader_says(draw, tmp_path):
    draw(tmp_path / "a.mp4", 4, 64, 96, shade=20)
    kept = []

    def allocate(shape):
        kept.append(np.zeros(shape, np.uint8))
        return kept[-1]

    (clip,) = read_clips(row("a.mp4"), BLIND, [tmp_path], allocate=allocate)
    assert clip.frames is kept[0] and (kept[0] == GREY).all()


def test_a_blind_picture_is_grey(processor, tmp_path):
    from PIL import Image

    Image.new("RGB", (96, 64), (200, 10, 10)).save(tmp_path / "a.png")
    rules = dataclasses.replace(BLIND, factor_px=32, min_pixels=1024)
    (picture,) = read_images({"image": "a.png", "conversations": []}, rules, processor, [tmp_path])
    assert picture.shape == (1, 64, 96, 3)
    assert (picture == GREY).all()


def test_papers_of_a_model_that_sees_are_those_of_before(tmp_path):
    SEEING.write(tmp_path)
    assert "blind" not in json.loads((tmp_path / FILE_NAME).read_text())
    assert Preprocessing.read(tmp_path) == SEEING
    BLIND.write(tmp_path)
    assert Preprocessing.read(tmp_path) == BLIND


def test_a_prepared_cache_of_what_cameras_saw_is_refused_by_a_blind_model(tmp_path):
    cache = PreparedCache(tmp_path, identify_pixels(SEEING), [])
    cache.check_pixels(SEEING)
    with pytest.raises(DrivingError, match="was prepared with blind = None, this run has True"):
        cache.check_pixels(BLIND)


def test_a_blind_run_reads_no_prepared_frames():
    flags = ["--model_name_or_path", "m", "--use_cpu", "True", "--blind", "True", "--prepared_dir", "cache"]
    with pytest.raises(DrivingError, match="--blind True with --prepared_dir cache: a prepared cache holds what"):
        parse_plan(flags)


@pytest.mark.slow
def test_a_blind_run_learns_the_same_from_other_videos_and_its_model_is_asked_blindly(
    training_json, tiny_model, tmp_path, capsys
):
    """Two runs: the second one's videos are all the first row's."""
    folder = shutil.copytree(training_json.parent, tmp_path / "other")
    other = folder / training_json.name
    records = json.loads(other.read_text())
    other.write_text(json.dumps([{**record, "video": records[0]["video"]} for record in records]))
    assert run(list_flags(tiny_model, training_json, tmp_path / "a", *FLAGS)) == 0
    assert "every frame is plain grey" in capsys.readouterr().out
    assert run(list_flags(tiny_model, other, tmp_path / "b", *FLAGS)) == 0
    assert read_losses(tmp_path / "a") == read_losses(tmp_path / "b")
    assert json.loads((tmp_path / "a/train_plan.json").read_text())["blind"] is True

    engine = load_engine(str(tmp_path / "a"), "cpu", [training_json.parent])
    record = read_records(training_json)[3]
    (clip,) = engine.read(record)
    assert (clip.frames == GREY).all()
    assert (engine.prepare(record, [clip])["videos"][0] == GREY).all()

    with pytest.raises(LedgerError, match="blind"):
        run(list_flags(tiny_model, training_json, tmp_path / "a", "--max_steps", "4"))
