"""Lengths told by headers are the lengths of the samples; what cannot be read or does not fit is named."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from qwenvl.data import lengths  # noqa: E402
from qwenvl.data.dataset import BadSample, DrivingDataset  # noqa: E402
from qwenvl.data.lengths import measure_rows  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch

TEN_FPS = Preprocessing(video_fps=10.0, video_min_frames=4, max_pixels=128 * 128, min_pixels=1024)


def ask(name: str, question: str, answer: str = "[(1.0, 0.1)]", **media) -> dict:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, **media}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, draw):
    """Two videos, three pictures (one of them turned by EXIF), a folder of frames and a broken video."""
    folder = tmp_path_factory.mktemp("rows")
    draw(folder / "a.mp4", 20, 64, 96, shade=20)
    draw(folder / "wide.mp4", 10, 64, 224, shade=20)
    (folder / "broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:600])
    Image.new("RGB", (130, 90)).save(folder / "wide.png")
    Image.new("RGB", (96, 64)).save(folder / "plain.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (160, 64)).save(folder / "turned.jpg", exif=turned)
    Image.new("RGB", (160, 64)).save(folder / "turned.png", exif=turned)
    (folder / "frames").mkdir()
    for index in range(12):
        Image.new("RGB", (96, 64), (index, 0, 0)).save(folder / f"frames/{index:02d}.png")
    return folder


ROWS = {
    "one video": ask("one", "<video>\nQ", video="a.mp4"),
    "a window of a recording": ask("window", "<video>\nQ", video="a.mp4", video_start=0.5, video_end=1.5),
    "listed frames": ask(
        "listed", "<video>\nQ", video="a.mp4", video_start=0.0, video_end=0.5, frame_indices=[0, 1, 2, 4]
    ),
    "a folder of frames": ask(
        "folder", "<video>\nQ", video="frames", video_start=0.0, video_end=0.6, frame_indices=[*range(6)]
    ),
    "a picture": ask("picture", "<image>\nQ", image="wide.png"),
    "a picture turned by its header": ask("turned", "<image><image>\nQ", image=["turned.jpg", "turned.png"]),
    "videos and pictures mixed": ask(
        "mixed", "<image>\nFirst <video> then <image> and <video>?", "Both", video=["a.mp4", "wide.mp4"],
        image=["plain.jpg", "wide.png"],
    ),
    "text alone": ask("text", "Who are you?", "A car, and 3.14 more words."),
    "several turns": {
        "id": "turns",
        "video": "a.mp4",
        "conversations": [
            {"from": "system", "value": "You drive."},
            {"from": "human", "value": "<video>\nWhere?"},
            {"from": "gpt", "value": "Left."},
            {"from": "human", "value": "And then? <|im_end|> assistant"},
            {"from": "gpt", "value": "[(1.0, -0.0021), (2.0, 0.0)]"},
        ],
    },
}  # fmt: skip


def build_dataset(records, folder, processor, model_max_length=4096):
    return DrivingDataset(records, [(folder,)] * len(records), processor, TEN_FPS, model_max_length)


@pytest.mark.parametrize("kind", list(ROWS))
def test_a_row_is_as_long_as_its_sample(kind, folder, processor):
    dataset = build_dataset([ROWS[kind]], folder, processor)
    found, skips = measure_rows(dataset)
    sample = dataset[0]
    assert not isinstance(sample, BadSample), sample
    assert skips == []
    assert found.tokens.tolist() == [len(sample["input_ids"])]
    assert found.visual_tokens.tolist() == [int((sample["mm_token_type_ids"] > 0).sum())]
    assert found.supervised_tokens.tolist() == [int((sample["labels"] != -100).sum())]
    assert found.tokens.dtype == np.int64


def test_no_frame_is_decoded(folder, processor, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a frame was decoded")

    monkeypatch.setattr("video_io.decode.iter_decoded", refuse)
    monkeypatch.setattr("video_io.pictures.read_picture", refuse)
    found, skips = measure_rows(build_dataset(list(ROWS.values()), folder, processor))
    assert skips == [] and (found.tokens > 0).all()


def test_several_workers_count_the_same_in_the_same_order(folder, processor, monkeypatch):
    monkeypatch.setattr(lengths, "ROWS_A_JOB", 2)
    dataset = build_dataset(list(ROWS.values()), folder, processor)
    alone, _ = measure_rows(dataset)
    shared, _ = measure_rows(dataset, num_workers=2)
    assert alone.tokens.tolist() == shared.tokens.tolist()


def test_what_cannot_be_read_or_does_not_fit_has_length_0_and_a_line_in_the_ledger(folder, processor):
    records = [
        ask("broken", "<video>\nQ", video="broken.mp4"),
        ask("gone", "<video>\nQ", video="gone.mp4"),
        ask("beyond", "<video>\nQ", video="a.mp4", video_start=0.0, video_end=0.4, frame_indices=[17, 18, 19, 20]),
        ask("long", "<video>\nQ", "many words " * 200, video="a.mp4"),
        ask("good", "<video>\nQ", video="a.mp4"),
    ]
    dataset = build_dataset(records, folder, processor, model_max_length=600)
    found, skips = measure_rows(dataset)
    assert [length > 0 for length in found.tokens] == [False, False, False, False, True]
    assert [skip.id for skip in skips] == ["broken", "gone", "beyond", "long"]
    assert {skip.stage for skip in skips} == {"measure"}
    assert "broken.mp4 cannot be read as a video" in skips[0].reason
    assert "gone.mp4 is not there" in skips[1].reason
    assert "a.mp4 has 20 frames, frame 20 was asked for" in skips[2].reason
    assert [dataset[index].reason for index in range(4)] == [skip.reason for skip in skips]


def test_a_second_start_reads_no_header(folder, processor, tmp_path, monkeypatch):
    dataset = build_dataset(list(ROWS.values()), folder, processor)
    first, _ = measure_rows(dataset, kept_in=tmp_path / "lengths.npz")
    monkeypatch.setattr(lengths, "count_tokens", None)
    again, skips = measure_rows(dataset, kept_in=tmp_path / "lengths.npz")
    assert skips == []
    for name in ("tokens", "visual_tokens", "supervised_tokens"):
        assert getattr(again, name).tolist() == getattr(first, name).tolist()


def count_measured(monkeypatch, dataset, kept_in) -> int:
    measured = []
    monkeypatch.setattr(lengths, "count_tokens", lambda record, *rest: measured.append(record) or (7, 2, 3))
    measure_rows(dataset, kept_in=kept_in)
    return len(measured)


def test_only_rows_that_changed_are_read_again(draw, processor, tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        draw(tmp_path / name, 10, 64, 96, shade=20)
    records = [ask("a", "<video>\nQ", video="a.mp4"), ask("b", "<video>\nQ", video="b.mp4")]
    kept = tmp_path / "lengths.npz"
    measure_rows(build_dataset(records, tmp_path, processor), kept_in=kept)
    changed = [records[0], {**records[1], "conversations": ask("", "<video>\nWhy?")["conversations"]}]
    assert count_measured(monkeypatch, build_dataset(changed, tmp_path, processor), kept) == 1
    os.utime(tmp_path / "a.mp4", (1, 1))  # the file was written again
    assert count_measured(monkeypatch, build_dataset(changed, tmp_path, processor), kept) == 1
    other = DrivingDataset(changed, [(tmp_path,)] * 2, processor, Preprocessing(video_fps=5.0), 4096)
    assert count_measured(monkeypatch, other, kept) == 2


def test_a_damaged_file_of_lengths_is_made_again(folder, processor, tmp_path):
    (tmp_path / "lengths.npz").write_bytes(b"PK\x03\x04 half a file")
    dataset = build_dataset([ROWS["one video"]], folder, processor)
    found, _ = measure_rows(dataset, kept_in=tmp_path / "lengths.npz")
    assert found.tokens[0] > 0 and np.load(tmp_path / "lengths.npz")["counts"].shape == (1, 3)


def test_the_real_tokenizer_agrees_too(folder, real_processor):
    dataset = build_dataset(list(ROWS.values()), folder, real_processor)
    found, _ = measure_rows(dataset)
    assert found.tokens.tolist() == [len(dataset[index]["input_ids"]) for index in range(len(dataset))]
