"""What a stream is made of: shards, their index, rows read one by one; what it refuses; and that it holds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch  # noqa: E402
from tar_shards import write_shards  # noqa: E402

from driving.errors import DrivingError, RecordError  # noqa: E402
from qwenvl.data import parse_dataset_use, stream_index  # noqa: E402
from qwenvl.data.dataset import BadSample, DrivingDataset, read_records  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.data.stream import StreamDataset, load_stream  # noqa: E402
from qwenvl.train.argument import parse_plan  # noqa: E402

pytestmark = pytest.mark.needs_torch
TURNS = [{"from": "human", "value": "Where to?"}, {"from": "gpt", "value": "Left."}]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def make_rows(num_rows: int, **more) -> list[dict]:
    return [{"id": f"r{i}", "group": f"g{i // 2}", "conversations": TURNS, **more} for i in range(num_rows)]


def stream(*paths: Path | str):
    return load_stream(parse_dataset_use(",".join(map(str, paths))))


def build(rows, processor, **settings) -> StreamDataset:
    return StreamDataset(rows, processor, Preprocessing(video_fps=10, video_min_frames=4, **settings), 4096)


# Rows


@pytest.fixture(scope="module")
def shards(training_json, tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), training_json, num_rows=4)


@pytest.mark.parametrize("form", ["json", "tar"])
def test_a_streamed_sample_is_the_one_that_rows_in_memory_give(form, training_json, shards, processor):
    rows = stream(training_json if form == "json" else shards)
    settings = Preprocessing(video_fps=10, video_min_frames=4)
    held = DrivingDataset(read_records(training_json), [(training_json.parent,)] * 10, processor, settings, 4096)
    streamed = build(rows, processor)
    assert len(streamed) == 10
    for index in (9, 0, 4, ~3):
        one, other = streamed[index], held[index]
        assert (one["id"], one["group"]) == (other["id"], other["group"])
        assert all(torch.equal(one[name], other[name]) for name in ("input_ids", "labels", "position_ids"))
        assert torch.equal(one["videos"][0], other["videos"][0])


def test_rows_are_numbered_through_all_datasets_and_shards(training_json, shards):
    rows = stream(shards, training_json)
    assert rows.shard_rows == [4, 4, 2, 10] and len(rows.records) == len(rows.folders) == 20
    assert rows.num_by_name == {str(shards): 10, str(training_json): 10}
    ids = [f"clip{index:02d}_seg_00" for index in range(10)]
    assert [record["id"] for record in rows.records] == ids * 2
    assert [record["id"] for record in rows.records[3:20:8]] == [ids[3], ids[1], ids[9]]
    assert rows.folders[10] == (Path(), training_json.parent, Path())
    assert [*dict.fromkeys(rows.groups)] == [f"clip{index:02d}" for index in range(5)]
    with pytest.raises(IndexError):
        rows.records[20]


def test_a_row_without_an_id_is_called_by_its_shard_and_number(tmp_path):
    rows = stream(write_rows(tmp_path / "a.json", [{"conversations": TURNS}] * 2))
    assert rows.records[1]["id"] == "a:1"
    assert list(rows.groups) == ["a:0", "a:1"]


def test_a_row_is_checked_when_it_is_read(tmp_path, processor):
    rows = make_rows(4)
    rows[1] |= {"video": "gone.mp4", "conversations": [{"from": "human", "value": "<video>\nWhere?"}, TURNS[1]]}
    rows[2] |= {"conversations": TURNS[:1]}
    dataset = build(stream(write_rows(tmp_path / "a.json", rows)), processor)
    found = [dataset[index] for index in range(4)]
    assert [isinstance(sample, BadSample) for sample in found] == [False, True, True, False]
    assert (found[1].id, found[1].row, found[1].stops_run) == ("r1", 1, False)
    assert "gone.mp4 is not there" in found[1].reason and "take turns" in found[2].reason
    dataset.skip_rows([3])
    assert dataset[3].reason == "skipped before"


def test_rows_that_must_not_tell_the_ego_motion_are_looked_at_one_by_one(tmp_path, processor):
    from driving.answer_format import AnswerFormat
    from driving.ego_history import format_history
    from driving.trajectory import Trajectory

    told = AnswerFormat(num_pairs=2, fps=2.0, history_pairs=2)
    line = format_history(told, Trajectory.from_pairs([[8.0, 0.01]] * 2))
    rows = make_rows(2)
    rows[1]["conversations"] = [{"from": "human", "value": line + "Where?"}, TURNS[1]]
    path = write_rows(tmp_path / "a.json", rows)
    (tmp_path / "dataset.json").write_text(json.dumps({"answer_format": AnswerFormat(num_pairs=2, fps=2.0).to_json()}))
    dataset = build(stream(path), processor)
    assert isinstance(dataset[0], dict) and "ego" in dataset[1].reason


# The index


def count_scans(monkeypatch) -> list[Path]:
    scanned, scan = [], stream_index.iter_rows
    monkeypatch.setattr(stream_index, "iter_rows", lambda path, digest: scanned.append(path) or scan(path, digest))
    return scanned


def test_a_shard_is_indexed_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "a.json", make_rows(4))
    scanned = count_scans(monkeypatch)
    before = [stream(path).digests[str(path)] for _ in range(2)]
    assert len(scanned) == 1 and before[0] == before[1]
    os.utime(path, ns=(1, 1))
    assert stream(path).digests[str(path)] == before[0] and len(scanned) == 2
    write_rows(path, make_rows(4, note="x"))
    assert stream(path).digests[str(path)] != before[0] and len(scanned) == 3
    kept = list(stream_index.index_folder(path).glob("*"))
    assert len(kept) == 3  # of the newest state alone


def test_new_shards_are_indexed_by_several_processes_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_index, "count_cores", lambda: 2)
    paths = [write_rows(tmp_path / f"{number}.json", make_rows(1 + number)) for number in range(5)]
    assert [shard.num_rows for shard in stream_index.load_shards(paths)] == [1, 2, 3, 4, 5]
    scanned = count_scans(monkeypatch)
    write_rows(paths[2], make_rows(9))
    assert [shard.num_rows for shard in stream_index.load_shards(paths)] == [1, 2, 9, 4, 5]
    assert scanned == [paths[2]]


def test_an_index_that_was_cut_short_is_made_again(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "a.json", make_rows(4))
    scanned = count_scans(monkeypatch)
    stream(path)
    (places,) = stream_index.index_folder(path).glob("*.places")
    places.write_bytes(places.read_bytes()[:20])
    assert len(stream(path).records) == 4 and len(scanned) == 2


def test_the_digest_of_shards_is_of_all_of_them_and_of_their_texts(training_json, tmp_path):
    name = str(tmp_path / "shards/train")

    def digest() -> str:
        return stream(write_shards(tmp_path / "shards", training_json, num_rows=4)).digests[name]

    first = digest()
    assert digest() == first
    tar = tmp_path / "shards/train-000001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"You drive.", b"You crawl."))
    assert stream(name).digests[name] != first
    digest()
    tar.unlink()
    assert stream(name).digests[name] != first


@pytest.mark.parametrize("form", ["json", "tar"])
def test_a_shard_that_changes_under_the_run_stops_it(form, training_json, tmp_path, processor):
    if form == "json":
        path = named = write_rows(tmp_path / "a.json", make_rows(4))
    else:
        named = write_shards(tmp_path, training_json, num_rows=4)
        path = tmp_path / "train-000000.tar"
    dataset = build(stream(named), processor)
    path.write_bytes(path.read_bytes() + b"\n")
    sample = dataset[2]
    assert sample.stops_run and "is not as it was when the run began (it holds" in sample.reason


def test_a_shard_that_is_gone_stops_the_run(tmp_path, processor):
    path = write_rows(tmp_path / "a.json", make_rows(4))
    dataset = build(stream(path), processor)
    path.unlink()
    assert dataset[0].stops_run and "a.json is not as it was" in dataset[0].reason


def test_an_index_that_is_gone_stops_the_run(tmp_path, processor):
    path = write_rows(tmp_path / "a.json", make_rows(4))
    dataset = build(stream(path), processor)
    for kept in stream_index.index_folder(path).glob("*"):
        kept.unlink()
    assert dataset[0].stops_run and "a.json is gone (" in dataset[0].reason


# What is refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.json", "gone.json does not exist; name a training JSON, or exported shards"),
        ("scaled.json", "scaled.json does not exist; there is .*scaled.index.json, name that"),
        ("shards/gone", r"there are no shards at .*gone \(gone-000000.tar and so on, or a folder of .tar\)"),
        ("empty.json", "empty.json holds no rows; there is nothing to train on"),
        (
            "rows.json%50",
            "rows.json%50 with --streaming True: a share is drawn from all rows at once; name",
        ),
        ("weighted.json", r"weighted.json: r0 carries a sampling weight \(--balance\), which --streaming True"),
    ],
)
def test_what_cannot_be_streamed_is_named(name, message, tmp_path):
    write_rows(tmp_path / "rows.json", make_rows(2))
    write_rows(tmp_path / "empty.json", [])
    write_rows(tmp_path / "scaled.index.json", make_rows(2))
    write_rows(tmp_path / "weighted.json", make_rows(2, sampling_weight=2.0))
    with pytest.raises(RecordError, match=message):
        stream(tmp_path / name)


def test_two_answer_formats_are_refused(tmp_path):
    for name, num_pairs in (("a", 2), ("b", 3)):
        write_rows(tmp_path / name / "train.json", make_rows(2))
        text = json.dumps({"answer_format": {"name": "signed", "num_pairs": num_pairs}})
        (tmp_path / name / "dataset.json").write_text(text)
    with pytest.raises(RecordError, match="a/train.json asks for answers as .*, .*b/train.json as .*; a model is"):
        stream(tmp_path / "a/train.json", tmp_path / "b/train.json")


def test_shards_without_streaming_are_refused(shards):
    with pytest.raises(RecordError, match=r"train names 3 shards \(.tar\), no training JSON; .*--streaming True"):
        read_records(shards)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("data_packing", "True", "bins are planned from the lengths of all rows; use --data_flatten True"),
        ("group_by_length", "True", "it sorts all rows by length; leave it out"),
        ("prepared_dir", "cache", "a prepared cache lists all rows, and is read as it is without --streaming"),
        ("cache_frames", "True", "it keeps all frames; drop it"),
    ],
)
def test_a_flag_that_needs_all_rows_is_refused_with_what_to_do(flag, value, message):
    base = ["--model_name_or_path", "m", "--use_cpu", "True", "--report_to", "none", "--streaming", "True"]
    with pytest.raises(DrivingError, match=f"--{flag} {value} cannot be had with --streaming True: {message}"):
        parse_plan([*base, f"--{flag}", value])


# Memory


def measure(path: Path, model: Path, *, streamed: bool) -> dict[str, int]:
    script = Path(__file__).with_name("streamed_memory.py")
    done = subprocess.run(
        [sys.executable, str(script), str(path), str(model), str(streamed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_fifty_thousand_rows_take_no_more_memory_than_a_thousand(tiny_model, tmp_path):
    text = "The road bends. " * 60
    turns = [TURNS[0], {"from": "gpt", "value": text}]
    found = {}
    for num_rows in (1_000, 50_000):
        rows = [{"id": f"r{i}", "group": f"g{i // 10}", "conversations": turns} for i in range(num_rows)]
        path = write_rows(tmp_path / f"{num_rows}.json", rows)
        found[num_rows] = measure(path, tiny_model, streamed=True)
    held = measure(tmp_path / "50000.json", tiny_model, streamed=False)
    print(found, held)
    few, many = found[1_000], found[50_000]
    assert many["peak"] < few["peak"] + 2**20
    assert many["resident"] < few["resident"] + 8 * 2**20
    assert held["peak"] > 50 * 2**20  # what rows in memory take: the measure would see it
