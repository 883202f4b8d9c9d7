"""Exports, read back by the libraries they are for: what they take of a row is what the dataset holds.

These four conflict with our lock; webdataset and `datasets` are in test_export_shards.py and test_export_json.py.
"""

from __future__ import annotations

import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from environments import make_environment, run_reader
from exporting import HEIGHT, NUM_CLIPS, NUM_SEGMENTS, WIDTH, export, make_datasets, read_training

from driving.recording import VideoAddress
from video_io import decode_frames

pytestmark = pytest.mark.slow

SPLITS = ("train", "val", "test")
TRL = ["trl==1.16.0", "transformers==5.23.0", "datasets==5.2.0", "torchvision", "av"]
LLAMAFACTORY = ["llamafactory==0.9.5"]
SWIFT = ["ms-swift==4.6.0", "transformers==5.19.0", "torchvision", "qwen-vl-utils", "decord"]
LEROBOT = ["lerobot==0.4.4"]
VISION = re.compile(r"(?:<\|(?:vision_start|video_pad|vision_end)\|>|<[\d.]+ seconds>)+\n?")
STAMP = re.compile(r"<([\d.]+) seconds>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_datasets(tmp_path_factory.mktemp("export"))


@pytest.fixture(autouse=True)
def stay(monkeypatch, folder):
    monkeypatch.chdir(folder)


@pytest.fixture
def environment(tmp_path):
    """Where a test's environment is made; it is some gigabytes where uv cannot link to its cache, so it goes again."""
    yield tmp_path / "environment"
    shutil.rmtree(tmp_path / "environment", ignore_errors=True)


def format_chat(record) -> str:
    """A conversation in Qwen's own tokens, with <video> for all that stands for the frames."""
    roles = {"system": "system", "human": "user", "gpt": "assistant"}
    turns = (f"<|im_start|>{roles[turn['from']]}\n{turn['value']}<|im_end|>\n" for turn in record["conversations"])
    return "".join(turns).replace("<video>\n", "<video>")


def read_greys(record) -> np.ndarray:
    """The mean of each frame of a row's segment, (4,), by our own decoder."""
    return decode_frames(VideoAddress(record["video"]), range(4)).reshape(4, -1).mean(axis=1)


def check_chats(folder, seen) -> None:
    """Each row has its whole text, all frames of its own video in order, and the middle of each pair of frames."""
    assert list(seen) == list(SPLITS)
    for split in SPLITS:
        records = read_training(folder, split)
        assert len(seen[split]) == len(records) > 0
        for told, record in zip(seen[split], records, strict=True):
            assert VISION.sub("<video>", told["text"]) == format_chat(record)
            np.testing.assert_allclose(told["greys"], read_greys(record), atol=0.1)  # the next segment's differ by 1
            assert STAMP.findall(told["text"]) == ["0.1", "0.6"]  # 0.125 s and 0.625 s


def check_answers_are_supervised(folder, seen) -> None:
    for split in SPLITS:
        answers = [record["conversations"][-1]["value"] + "<|im_end|>\n" for record in read_training(folder, split)]
        assert [told["supervised"] for told in seen[split]] == answers


def test_trl_reads_every_turn_and_every_frame(folder, tiny_model, environment):
    python = make_environment(environment, TRL)
    output = export(folder, "trl", media="copy")
    seen = run_reader(python, "trl_reader.py", output, tiny_model)
    check_chats(folder, seen)
    told = [told for rows in seen.values() for told in rows]
    assert all(row["supervised"] == row["text"] for row in told)  # as TRL does where it is told nothing


@pytest.mark.parametrize(("form", "requirements"), [("llamafactory", LLAMAFACTORY), ("swift", SWIFT)])
def test_trainers_read_every_turn_and_every_frame_and_learn_the_answers(
    folder, tiny_model, environment, form, requirements
):
    python = make_environment(environment, requirements)
    seen = run_reader(python, f"{form}_reader.py", export(folder, form, media="copy"), tiny_model)
    check_chats(folder, seen)
    check_answers_are_supervised(folder, seen)


def test_lerobot_reads_labels_frames_and_splits(folder, environment):
    python = make_environment(environment, LEROBOT)
    seen = run_reader(python, "lerobot_reader.py", export(folder, "lerobot", shard_rows=4))
    records = [(record, split) for split in SPLITS for record in read_training(folder, split)]
    assert len(seen["episodes"]) == len(records) == NUM_CLIPS * NUM_SEGMENTS
    ((task, number),) = seen["tasks"].items()
    assert number == 0
    assert seen["episodes"] == [
        {"segment_uuid": record["id"], "split": split, "group": record["group"], "tasks": [task], "length": 4}
        for record, split in records
    ]
    ends = np.cumsum([len(read_training(folder, split)) for split in SPLITS]).tolist()
    assert seen["splits"] == {s: f"{a}:{b}" for s, a, b in zip(SPLITS, [0, *ends], ends, strict=False)}
    truth = {row["id"]: row for row in pq.read_table(folder / "training" / "truth.parquet").to_pylist()}
    assert len(seen["rows"]) == 4 * len(records)
    for episode, (record, _) in enumerate(records):
        rows, known = seen["rows"][4 * episode : 4 * episode + 4], truth[record["id"]]
        np.testing.assert_allclose([row["observation.state"] for row in rows], known["observed"], rtol=1e-6)
        np.testing.assert_allclose([row["action"] for row in rows], known["targets"], rtol=1e-6)
        assert [row["timestamp"] for row in rows] == [0.0, 0.25, 0.5, 0.75]
        assert {(row["episode_index"], row["task"]) for row in rows} == {(episode, task)}
        assert {tuple(row["shape"]) for row in rows} == {(3, HEIGHT, WIDTH)}
        np.testing.assert_allclose([255 * row["grey"] for row in rows], read_greys(record), atol=0.1)
    actions = np.array([pair for record, _ in records for pair in truth[record["id"]]["targets"]])
    for name, expected in {"mean": actions.mean(0), "std": actions.std(0), "max": actions.max(0)}.items():
        np.testing.assert_allclose(seen["stats"]["action"][name], expected, atol=1e-6)
    assert seen["chosen"] == [1, 5]


def test_what_cannot_be_installed_is_skipped_with_uvs_reason(environment):
    with pytest.raises(pytest.skip.Exception, match="any.whl cannot be installed here: .*[nN]ot found"):
        make_environment(environment, ["./absent-1.0-py3-none-any.whl"])
