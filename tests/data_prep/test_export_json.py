"""Exports as JSON and as messages: what each reader takes, and nothing of a row lost on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exporting import export, make_datasets, read_training
from killing import read_tree

from driving.records import messages_from_record

SOURCES = ["training", "dataset"]
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_datasets(tmp_path_factory.mktemp("export"))


@pytest.fixture(autouse=True)
def stay(monkeypatch, folder):
    monkeypatch.chdir(folder)  # and back again afterwards


def turns(record: dict) -> dict[str, str]:
    return {turn["from"]: turn["value"] for turn in record["conversations"]}


@pytest.mark.parametrize("form", ["upstream", "llamafactory", "swift", "trl", "webdataset", "lerobot"])
def test_both_forms_of_a_dataset_give_the_same_export(folder, form):
    of_training, of_dataset = (read_tree(export(folder, form, source)) for source in SOURCES)
    papers = {"plan.json", "manifest.json", "README.md"}  # which name the dataset that was read
    assert of_training.keys() == of_dataset.keys()
    assert [name for name in of_training if of_training[name] != of_dataset[name] and name not in papers] == []


@pytest.mark.parametrize("split", SPLITS)
def test_upstreams_conversations_have_no_system_turn_and_lose_no_text(folder, split):
    rows = json.loads((export(folder, "upstream") / f"{split}.json").read_text())
    assert len(rows) == len(read_training(folder, split)) > 0
    for row, record in zip(rows, read_training(folder, split), strict=True):
        said = turns(record)
        question = said["human"].removeprefix("<video>\n")
        assert row == {**record, "conversations": row["conversations"]}
        assert row["conversations"] == [
            {"from": "human", "value": f"<video>\n{said['system']}\n{question}"},
            {"from": "gpt", "value": said["gpt"]},
        ]


@pytest.mark.parametrize("split", SPLITS)
def test_llamafactorys_rows_are_the_records(folder, split):
    output = export(folder, "llamafactory")
    entry = json.loads((output / "dataset_info.json").read_text())[f"driving_{split}"]
    assert entry["formatting"] == "sharegpt"
    names = entry["columns"]
    rows = json.loads((output / entry["file_name"]).read_text())
    for row, record in zip(rows, read_training(folder, split), strict=True):
        assert row[names["videos"]] == [record["video"]]
        assert row[names["system"]] == turns(record)["system"]
        assert row[names["messages"]] == record["conversations"][1:]


def test_a_record_without_a_system_turn_has_an_empty_one(tmp_path):
    from data_prep.training_format import ConvertOptions, run

    make_datasets(tmp_path)
    run(ConvertOptions(tmp_path / "dataset", tmp_path / "folded", system=False))
    row = json.loads((export(tmp_path, "llamafactory", "folded") / "driving_train.json").read_text())[0]
    assert row["system"] == "" and [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]
    upstream = export(tmp_path, "upstream", "folded") / "train.json"
    assert json.loads(upstream.read_text()) == json.loads((tmp_path / "folded" / "train.json").read_text())


@pytest.mark.parametrize("split", SPLITS)
def test_swifts_messages_read_back_are_the_records(folder, split):
    from datasets import load_dataset

    path = export(folder, "swift") / f"{split}.jsonl"
    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache")).to_list()
    speakers = {"system": "system", "user": "human", "assistant": "gpt"}
    for row, record in zip(rows, read_training(folder, split), strict=True):
        said = [{"from": speakers[turn["role"]], "value": turn["content"]} for turn in row["messages"]]
        assert said == record["conversations"] and row["videos"] == [record["video"]]


@pytest.mark.parametrize("split", SPLITS)
def test_trls_messages_read_back_by_datasets_are_the_datasets_own(folder, split):
    from datasets import load_dataset, load_from_disk

    path = export(folder, "trl") / f"{split}.parquet"
    rows = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    assert rows["messages"] == load_from_disk(str(folder / "dataset"))[split]["messages"]
    assert rows["id"] == [record["id"] for record in read_training(folder, split)]


def test_no_key_of_a_trl_block_is_made_up(folder):
    from datasets import load_dataset

    path = export(folder, "trl") / "train.parquet"
    row = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(folder / "cache"))[0]
    assert row["messages"] == messages_from_record(read_training(folder, "train")[0])
    assert [list(block) for block in row["messages"][1]["content"]] == [["type", "video"], ["type", "text"]]


@pytest.mark.parametrize("form, name", [("upstream", "train.json"), ("llamafactory", "driving_train.json")])
def test_copied_videos_are_the_segments_own_bytes(folder, form, name):
    output = export(folder, form, output=f"copied_{form}", media="copy")
    for row, record in zip(json.loads((output / name).read_text()), read_training(folder, "train"), strict=True):
        video = row.get("video") or row["videos"][0]
        assert video == f"videos/train/{record['id']}.mp4"
        assert (output / video).read_bytes() == (folder / record["video"]).read_bytes()


def test_absolute_paths_lead_to_the_segments(folder):
    rows = json.loads((export(folder, "upstream", output="absolute", media="absolute") / "train.json").read_text())
    records = read_training(folder, "train")
    assert [row["video"] for row in rows] == [str((folder / record["video"]).resolve()) for record in records]
