"""A prepared cache gives the samples that decoding gives; it is refused where it would not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from driving.errors import DrivingError, LedgerError  # noqa: E402
from qwenvl.data import prepared_writer  # noqa: E402
from qwenvl.data.collate import collate, to_step_inputs  # noqa: E402
from qwenvl.data.dataset import BadSample, DrivingDataset, read_records  # noqa: E402
from qwenvl.data.lengths import measure_rows  # noqa: E402
from qwenvl.data.prepared import PreparedCache  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.prepare_cache import PrepareCacheOptions, run  # noqa: E402

pytestmark = pytest.mark.needs_torch

RULES = {"video_fps": 10.0, "video_min_frames": 4}
ASKED = Preprocessing(**RULES)


def ask(name: str, question: str, answer: str, **media) -> dict:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, **media}


ROWS = [
    ask("one", "<video>\nQ", "[(1.0, 0.1)]", video="a.mp4"),
    ask("other question", "<video>\nWhy?", "It turns.", video="a.mp4"),
    ask("window", "<video>\nQ", "[(2.0, 0.1)]", video="a.mp4", video_start=0.5, video_end=1.5),
    ask("picture", "<image>\nQ", "A car", image="wide.png"),
    ask("mixed", "<image> and <video> and <video>?", "All", image="wide.png", video=["b.mp4", "a.mp4"]),
    ask("text", "Who are you?", "A car."),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory, draw):
    """A training JSON of six rows, one of them of text alone."""
    folder = tmp_path_factory.mktemp("source")
    draw(folder / "a.mp4", 20, 64, 96, shade=20)
    draw(folder / "b.mp4", 10, 96, 160, shade=40)
    Image.effect_noise((130, 90), 50).convert("RGB").save(folder / "wide.png")
    (folder / "train.json").write_text(json.dumps(ROWS))
    return folder


@pytest.fixture
def data(source, tmp_path):
    """A copy of it that a test may spoil; files keep their time of change."""
    return Path(shutil.copytree(source, tmp_path / "data"))


def prepare(data: Path, folder: Path, model: Path, **more) -> str:
    options = {"workers": 1, **RULES, "dataset_use": str(data / "train.json"), **more}
    return run(PrepareCacheOptions(model_name_or_path=str(model), output_dir=folder, **options))


@pytest.fixture(scope="module")
def cache(source, tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("cache") / "prepared"
    prepare(source, folder, tiny_model)
    return folder


def build_dataset(data, processor, rows=None, preprocessing=ASKED, model_max_length=4096) -> DrivingDataset:
    records = read_records(data / "train.json") if rows is None else rows
    return DrivingDataset(records, [(data,)] * len(records), processor, preprocessing, model_max_length)


def build_prepared(data, processor, folder, **more) -> DrivingDataset:
    dataset = build_dataset(data, processor, **more)
    dataset.use_prepared(PreparedCache.read(folder))
    return dataset


@pytest.mark.parametrize("index", range(len(ROWS)), ids=[row["id"] for row in ROWS])
def test_a_prepared_sample_is_the_decoded_one(index, source, cache, processor):
    decoded = build_dataset(source, processor)[index]
    read = build_prepared(source, processor, cache)[index]
    assert decoded.keys() == read.keys()
    for key, value in decoded.items():
        if key in ("videos", "images"):
            assert [frames.shape for frames in read[key]] == [frames.shape for frames in value]
            assert all(torch.equal(a, b) for a, b in zip(read[key], value, strict=True))
        elif isinstance(value, torch.Tensor):
            assert torch.equal(read[key], value) and read[key].dtype == value.dtype
        else:
            assert read[key] == value


@pytest.mark.parametrize("index, kind", [(1, "videos"), (3, "images")], ids=["clip", "picture"])
def test_a_mirrored_row_is_the_same_from_the_cache(index, kind, source, cache, processor):
    prepared = build_prepared(source, processor, cache)
    decoded, read = build_dataset(source, processor)[~index], prepared[~index]
    assert torch.equal(read[kind][0], decoded[kind][0])
    assert torch.equal(read[kind][0], prepared[index][kind][0].flip(2))
    assert torch.equal(read["input_ids"], decoded["input_ids"])


def test_the_tower_is_given_the_same_tensors_and_nothing_is_decoded(source, cache, processor, monkeypatch):
    def batch_of(dataset):
        batch = collate([dataset[index] for index in range(len(dataset))], pad_token_id=0)
        return to_step_inputs(batch, processor, "cpu")

    decoded = batch_of(build_dataset(source, processor))
    prepared = build_prepared(source, processor, cache)

    def refuse(*args, **kwargs):
        raise AssertionError("decoded or tokenized")

    monkeypatch.setattr("video_io.decode.iter_decoded", refuse)
    monkeypatch.setattr("video_io.pictures.read_picture", refuse)
    monkeypatch.setattr("qwenvl.data.dataset.tokenize_conversation", refuse)
    read = batch_of(prepared)
    assert torch.equal(decoded["patches"], read["patches"]) and decoded["grids"] == read["grids"]
    assert torch.equal(decoded["input_ids"], read["input_ids"])


def test_frames_of_one_clip_are_held_once(source, cache):
    entries = {entry.row: entry for entry in PreparedCache.read(cache).entries}
    assert len(entries) == len(ROWS)
    places = [one.offset for entry in entries.values() for one in entry.media if one.shape == (20, 64, 96)]
    assert len(places) == 3 and len(set(places)) == 2  # "one" and "other question" share theirs, "mixed" does not


def test_the_files_are_few(cache):
    names = sorted(path.name for path in cache.iterdir() if path.name[0] != ".")
    assert names == ["manifest.json", "plan.json", "shard-00000.bin", "shard-00000.json", "skipped.jsonl"]


def test_running_twice_changes_nothing(data, tmp_path, tiny_model):
    folder = tmp_path / "prepared"
    first = prepare(data, folder, tiny_model)
    states = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert first.startswith("6 rows in ") and first.endswith("0 skipped (see skipped.jsonl)")
    assert prepare(data, folder, tiny_model) == f"already complete: {first}"
    assert states == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_rows_that_came_later_are_added_and_the_rest_is_kept(data, tmp_path, tiny_model, processor, draw):
    folder = tmp_path / "prepared"
    prepare(data, folder, tiny_model)
    before = (folder / "shard-00000.bin").stat().st_mtime_ns
    draw(data / "c.mp4", 10, 64, 96, shade=90)
    rows = [*ROWS, ask("late", "<video>\nQ", "[(1.0, 0.1)]", video="c.mp4")]
    (data / "train.json").write_text(json.dumps(rows))
    with pytest.raises(DrivingError, match="prepared does not hold 1 of 7 rows: late is new; run scripts"):
        build_prepared(data, processor, folder)
    assert prepare(data, folder, tiny_model).startswith("7 rows")
    assert (folder / "shard-00000.bin").stat().st_mtime_ns == before
    late = build_prepared(data, processor, folder)[6]
    assert torch.equal(late["videos"][0], build_dataset(data, processor)[6]["videos"][0])


def test_an_interrupted_run_writes_the_shards_that_are_missing(data, tmp_path, tiny_model, processor, monkeypatch):
    monkeypatch.setattr(prepared_writer, "MIN_SHARD_BYTES", 1)
    monkeypatch.setattr(prepared_writer, "SHARDS_A_WORKER", 100)  # a shard a row
    folder = tmp_path / "prepared"
    written = []
    real = prepared_writer.write_shard

    def killed(folder, name, *rest):
        if len(written) == 2:
            (folder / f"{name}.bin").write_bytes(b"half")  # its description was not written
            (folder / f".{name}.bin.abc.part").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(name)
        real(folder, name, *rest)

    monkeypatch.setattr(prepared_writer, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(data, folder, tiny_model)
    with pytest.raises(DrivingError, match="prepared was not finished; run scripts/prepare_cache.py with the same"):
        PreparedCache.read(folder)
    kept = {name: (folder / f"{name}.bin").stat().st_mtime_ns for name in written}
    monkeypatch.setattr(prepared_writer, "write_shard", real)
    prepare(data, folder, tiny_model)
    assert kept == {name: (folder / f"{name}.bin").stat().st_mtime_ns for name in written}
    assert not list(folder.glob(".*.part"))
    prepared = build_prepared(data, processor, folder)
    assert all(isinstance(prepared[index], dict) for index in range(len(ROWS)))


def test_several_workers_write_the_same_samples(source, cache, tmp_path, tiny_model, processor, monkeypatch):
    monkeypatch.setattr(prepared_writer, "MIN_SHARD_BYTES", 1)
    prepare(source, tmp_path / "prepared", tiny_model, workers=2)
    assert len(list((tmp_path / "prepared").glob("shard-*.bin"))) > 2
    alone, shared = (build_prepared(source, processor, folder) for folder in (cache, tmp_path / "prepared"))
    for index in range(len(ROWS)):
        assert torch.equal(alone[index]["input_ids"], shared[index]["input_ids"])
        assert all(torch.equal(a, b) for a, b in zip(alone[index]["videos"], shared[index]["videos"], strict=True))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"video_fps": 5.0}, "prepared with video_fps = 10.0, this run has 5.0"),
        ({"video_frame_pixels": 4096}, "prepared with video_frame_pixels = None, this run has 4096"),
        ({"scaler": "bicubic"}, "prepared with scaler = area, this run has bicubic"),
    ],
)
def test_other_pixels_are_refused_by_name(changed, words, source, cache, processor):
    with pytest.raises(DrivingError, match=f"{words}; prepare another folder"):
        build_prepared(source, processor, cache, preprocessing=Preprocessing(**{**RULES, **changed}))


def test_another_tokenizer_is_refused_by_name(source, cache, real_processor):
    with pytest.raises(DrivingError, match="prepared with tokenizer = "):
        build_prepared(source, real_processor, cache)


def test_another_answer_is_another_row(source, cache, processor):
    changed = {**ROWS[0], "conversations": ask("", "<video>\nQ", "[(9.9, 0.1)]")["conversations"]}
    with pytest.raises(DrivingError, match="does not hold 1 of 2 rows: one is new"):
        build_prepared(source, processor, cache, rows=[changed, ROWS[1]])


def test_a_video_that_was_replaced_is_refused_by_name(data, cache, processor, draw):
    before = (data / "a.mp4").stat().st_size
    draw(data / "a.mp4", 20, 64, 96, shade=60)
    now = (data / "a.mp4").stat().st_size
    words = rf"a.mp4 has changed \({before:,} bytes then, {now:,} now\); run scripts/prepare_cache.py again"
    with pytest.raises(DrivingError, match=words):
        build_prepared(data, processor, cache)


def test_a_replaced_video_is_prepared_again(data, tmp_path, tiny_model, processor, draw):
    prepare(data, tmp_path / "prepared", tiny_model)
    draw(data / "a.mp4", 20, 64, 96, shade=60)
    prepare(data, tmp_path / "prepared", tiny_model)
    read = build_prepared(data, processor, tmp_path / "prepared")[0]
    assert torch.equal(read["videos"][0], build_dataset(data, processor)[0]["videos"][0])


def test_a_copy_with_another_date_is_the_same_video(data, cache, processor):
    os.utime(data / "a.mp4", (1, 1))
    assert isinstance(build_prepared(data, processor, cache)[0], dict)


def test_a_cache_can_be_read_where_the_videos_are_not(data, cache, processor):
    whole = build_prepared(data, processor, cache)[0]
    for path in [*data.glob("*.mp4"), *data.glob("*.png")]:
        path.unlink()
    assert torch.equal(build_prepared(data, processor, cache)[0]["videos"][0], whole["videos"][0])


def test_a_row_that_cannot_be_decoded_is_in_the_ledger_and_a_bad_sample(data, tmp_path, tiny_model, processor):
    (data / "broken.mp4").write_bytes((data / "a.mp4").read_bytes()[:600])
    rows = [
        *ROWS,
        ask("broken", "<video>\nQ", "A", video="broken.mp4"),
        ask("gone", "<video>\nQ", "A", video="gone.mp4"),
    ]
    (data / "train.json").write_text(json.dumps(rows))
    folder = tmp_path / "prepared"
    assert prepare(data, folder, tiny_model).endswith("2 skipped (see skipped.jsonl)")
    lines = [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]
    assert {(line["id"], line["stage"]) for line in lines} == {("broken", "decode"), ("gone", "check")}
    assert prepare(data, folder, tiny_model).startswith("already complete")  # it is not tried for ever
    prepared = build_prepared(data, processor, folder)
    for index, words in ((6, "broken.mp4 cannot be read as a video"), (7, "gone.mp4 is not there")):
        assert isinstance(prepared[index], BadSample) and words in prepared[index].reason


def test_too_many_bad_rows_stop_it(data, tmp_path, tiny_model):
    (data / "broken.mp4").write_bytes(b"no video")
    rows = [ask(f"broken {index}", "<video>\nQ", "A", video="broken.mp4") for index in range(4)]
    (data / "train.json").write_text(json.dumps([*ROWS, *rows]))
    with pytest.raises(LedgerError, match="4 of 10 samples are bad"):
        prepare(data, tmp_path / "prepared", tiny_model)


def test_a_disk_that_is_too_small_is_refused_before_it_is_written_to(data, tmp_path, tiny_model, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(prepared_writer.shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    with pytest.raises(DrivingError, match=r"has 1.0 GB free, 0.0 GB and 1 GB to spare are needed; choose another"):
        prepare(data, tmp_path / "prepared", tiny_model)
    assert "6 rows to prepare: 0.00 GB, 1.0 GB are free" in capsys.readouterr().out
    assert not list((tmp_path / "prepared").glob("shard-*"))


def test_the_need_is_known_before_to_a_page_a_clip(source, cache, processor):
    dataset = build_dataset(source, processor)
    planned = sum(num_bytes for _, num_bytes in prepared_writer._plan_groups(dataset, range(len(ROWS)), 1))
    actual = (cache / "shard-00000.bin").stat().st_size
    assert actual <= planned <= actual + 4096 * 2 * len(ROWS)


def test_lengths_are_read_from_the_cache(source, cache, processor):
    decoded, _ = measure_rows(build_dataset(source, processor))
    read, skips = measure_rows(build_prepared(source, processor, cache))
    assert skips == []
    for name in ("tokens", "visual_tokens", "supervised_tokens"):
        assert np.array_equal(getattr(decoded, name), getattr(read, name))


def test_a_sample_that_is_too_long_is_bad_as_ever(source, cache, processor):
    decoded = build_dataset(source, processor, model_max_length=40)
    read = build_prepared(source, processor, cache, model_max_length=40)
    assert isinstance(read[0], BadSample) and read[0] == decoded[0]
    assert measure_rows(decoded)[1] == measure_rows(read)[1]


def test_a_folder_that_is_no_prepared_cache_is_named(tmp_path, cache):
    with pytest.raises(DrivingError, match="empty is no prepared cache; scripts/prepare_cache.py makes one"):
        PreparedCache.read(tmp_path / "empty")
    other = Path(shutil.copytree(cache, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["plan"]["tool"] = "train"
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DrivingError, match="other is no prepared cache but the output of train"):
        PreparedCache.read(other)


def test_a_cache_that_lost_a_file_is_refused_and_made_whole(tmp_path, cache, source, tiny_model, processor):
    folder = Path(shutil.copytree(cache, tmp_path / "prepared"))
    with (folder / "shard-00000.bin").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(LedgerError, match="prepared is not whole: shard-00000.bin is missing or of another size; run"):
        PreparedCache.read(folder)
    prepare(source, folder, tiny_model)
    assert isinstance(build_prepared(source, processor, folder)[0], dict)
    assert len(list(folder.glob("shard-*"))) == 2


def test_a_damaged_description_is_named(tmp_path, cache):
    folder = Path(shutil.copytree(cache, tmp_path / "prepared"))
    path = folder / "shard-00000.json"
    path.write_text("x" * path.stat().st_size)
    with pytest.raises(LedgerError, match="shard-00000.json is damaged .*remove it, run scripts/prepare_cache.py"):
        PreparedCache.read(folder)


def test_a_shard_that_was_overwritten_stops_the_run_and_names_the_folder(tmp_path, cache, source, processor):
    folder = tmp_path / "prepared"
    shutil.copytree(cache, folder)
    dataset = build_dataset(source, processor)
    dataset.use_prepared(PreparedCache.read(folder))
    for shard in folder.glob("*.bin"):
        shard.write_bytes(bytes(shard.stat().st_size))
    found = dataset[0]
    assert found.stops_run
    assert re.match(rf"{folder} is damaged \(.*\); delete it and run scripts/prepare_cache.py again", found.reason)
