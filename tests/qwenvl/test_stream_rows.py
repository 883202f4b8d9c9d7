"""Rows of a shard by their places: JSON in any layout, WebDataset tars, and what is no shard."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tar_shards import write_shards, write_tar

from driving.errors import RecordError, VideoError
from driving.recording import VideoAddress
from qwenvl.data import stream_rows
from qwenvl.data.stream_rows import find_shards, iter_rows, read_row
from video_io import check_crc, decode_frames, probe_video

ROWS = [
    {"id": f"r{i}", "conversations": [{"from": "gpt", "value": '}{]["\\" ü \u2028 中' * (i % 3)}]} for i in range(9)
]
ROW = b'{"id": "a", "conversations": []}'
LAYOUTS = {
    "one line": ("a.json", json.dumps(ROWS)),
    "a row a line": ("a.json", "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n]\n"),
    "indented": ("a.json", json.dumps(ROWS, indent=2, ensure_ascii=False)),
    "lines": ("a.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in ROWS)),
    "byte order mark": ("a.json", "\ufeff" + json.dumps(ROWS)),
}


def read_back(path: Path) -> list[dict]:
    return [read_row(path, row.start, row.size, path.stat().st_size) for row in iter_rows(path)]


@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
@pytest.mark.parametrize(("name", "text"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_json_gives_its_rows_in_any_layout(name, text, block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(stream_rows, "BLOCK_BYTES", block_bytes)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [row.record for row in iter_rows(tmp_path / name)] == ROWS
    assert read_back(tmp_path / name) == ROWS


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b'{"rows": []}', "a.json must hold a list of rows with video and conversations"),
        ("a.json", b"[" + ROW + b",", "a.json is cut short: its list has no end; run ./convert_to_training_format.py"),
        ("a.json", b"[" + ROW + b', {"id": "b', r"a.json is not JSON \(.*, in the row that begins at byte 35\)"),
        ("a.json", b"[" + ROW + b", 7]", "a.json, byte 35: '7]' is no row"),
        ("a.json", b"[" + ROW.replace(b"a", b"\xff") + b"]", r"a.json is not UTF-8 text \(invalid start byte\)"),
        ("a.jsonl", ROW + b"\n{'id'", "a.jsonl is not JSON"),
    ],
)
def test_what_is_no_list_of_rows_is_named_with_its_place(name, data, message, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RecordError, match=message):
        list(iter_rows(tmp_path / name))


def test_a_json_without_end_is_given_up_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_rows, "BLOCK_BYTES", 100)
    monkeypatch.setattr(stream_rows, "MAX_ROW_BYTES", 300)
    (tmp_path / "a.json").write_text('[{"id": "' + "x" * 5000)
    with pytest.raises(RecordError, match="a.json is not JSON"):
        list(iter_rows(tmp_path / "a.json"))


# WebDataset


@pytest.fixture(scope="module")
def shards(training_json, tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), training_json, num_rows=4)


def test_a_row_of_a_tar_holds_its_text_and_where_its_video_lies(shards, training_json):
    rows = json.loads(training_json.read_text())
    found = [record for path in find_shards(shards) for record in read_back(path)]
    assert [record["conversations"] for record in found] == [row["conversations"] for row in rows]
    for record, row in zip(found, rows, strict=True):
        start, size = record["byte_range"]
        expected = (training_json.parent / row["video"]).read_bytes()
        assert Path(record["video"]).read_bytes()[start : start + size] == expected
        assert record["member"].endswith(".mp4")


def test_reading_on_and_reading_one_row_give_the_same_record(shards):
    for path in find_shards(shards):
        assert [row.record for row in iter_rows(path)] == read_back(path)


def test_a_video_inside_a_tar_is_decoded_where_it_lies(shards, training_json):
    record = read_back(find_shards(shards)[1])[2]  # four rows a shard: row 6
    inside = VideoAddress(record["video"], record["member"], byte_range=tuple(record["byte_range"]))
    beside = VideoAddress(str(training_json.parent / "videos/06.mp4"))
    assert (decode_frames(inside, range(10)) == decode_frames(beside, range(10))).all()
    assert probe_video(inside).num_frames == 10
    check_crc(inside)  # a tar has no checksum of its members: silent


def test_a_byte_range_beyond_the_file_is_refused(shards):
    tar = find_shards(shards)[0]
    with pytest.raises(VideoError, match=r"a.mp4 should be 9 bytes from 999,999,999; copy the shard again"):
        probe_video(VideoAddress(str(tar), "a.mp4", byte_range=(999_999_999, 9)))


def test_long_names_folders_and_other_members_are_read(tmp_path):
    key = "folder.d/" + "k" * 150
    members = [(f"{key}.mp4", b"video"), (f"{key}.caption.txt", b"x" * 700), (f"{key}.json", ROW)]
    path = write_tar(tmp_path / "a-000000.tar", [*members, ("b.json", ROW)])
    first, second = read_back(path)
    start, size = first["byte_range"]
    assert path.read_bytes()[start : start + size] == b"video" and first["member"] == f"{key}.mp4"
    assert second == json.loads(ROW)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.mp4", b"v")], r"row a: 0 .json and 1 videos; a row is one .json with conversations and one video"),
        ([("a.0.mp4", b"v"), ("a.1.mp4", b"v"), ("a.json", ROW)], "row a: 1 .json and 2 videos"),
        ([("a.json", b"{")], "row a: a.json is not JSON"),
        ([("a.json", b"[]")], "row a: a.json holds no row; export the shards again"),
    ],
)
def test_a_row_that_is_not_of_its_shape_is_named(members, message, tmp_path):
    with pytest.raises(RecordError, match=message):
        list(iter_rows(write_tar(tmp_path / "a.tar", members)))


def cut_in_a_member(data: bytes) -> bytes:
    return data[:700]


def cut_before_the_end_mark(data: bytes) -> bytes:
    return data[:1024]


@pytest.mark.parametrize("damage", [cut_in_a_member, cut_before_the_end_mark, gzip.compress])
def test_a_tar_that_is_cut_or_compressed_is_refused(damage, tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.json", ROW)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordError, match="a.tar cannot be read as a shard .*: it is cut short, compressed or damaged"):
        list(iter_rows(path))


def damage_a_header(data: bytes) -> bytes:
    return data[:1024] + b"\xff" * 512 + data[1536:]  # of the second row; tarfile stops there without a word


def add_another_tar(data: bytes) -> bytes:
    return data + data


@pytest.mark.parametrize("damage", [damage_a_header, add_another_tar])
def test_rows_behind_what_looks_like_the_end_are_not_left_out_in_silence(damage, tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.json", ROW), ("b.json", ROW), ("c.json", ROW)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordError, match=r"a.tar cannot be read as a shard \(after byte [\d,]+ comes more that is no"):
        list(iter_rows(path))


def test_a_folder_is_no_shard_whatever_its_name(tmp_path):
    (tmp_path / "train-000001.tar").mkdir()
    write_tar(tmp_path / "train-000000.tar", [("a.json", ROW)])
    assert [path.name for path in find_shards(tmp_path)] == ["train-000000.tar"] == [
        path.name for path in find_shards(tmp_path / "train")
    ]  # fmt: skip


def test_shards_are_named_by_a_prefix_a_folder_or_themselves(tmp_path):
    names = ["train-000000.tar", "train-000001.tar", "train-extra-000000.tar", "val-000000.tar", "train-000002.txt"]
    for name in names:
        (tmp_path / name).touch()
    first, second = (tmp_path / name for name in names[:2])
    assert find_shards(tmp_path / "train") == [first, second]
    assert find_shards(second) == [second]
    with pytest.raises(RecordError, match="holds shards of train, train-extra, val; name one of them: .*/train"):
        find_shards(tmp_path)
    for name in names[2:4]:
        (tmp_path / name).unlink()
    assert find_shards(tmp_path) == [first, second]
    assert find_shards(tmp_path / "nothing") == find_shards(tmp_path / "gone/train") == []
    assert find_shards(tmp_path / "gone.tar") == []
