"""Training JSON and truth.parquet: every row, in the shape that upstream reads, and whole after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from drawn_segments import make_row, make_rows, write_index
from killing import read_tree, run_killed_at_rename

from data_prep import hf_dataset
from data_prep.dataset_options import DatasetOptions
from data_prep.training_format import ConvertOptions, main, run
from driving.answer_format import AnswerFormat, parse_answer
from driving.errors import DrivingError, LedgerError
from driving.ledger import claim_output
from driving.records import check_record, messages_from_record


def make_dataset(folder: Path, rows: list[dict], **options) -> Path:
    write_index(folder / "segments", rows)
    given = {"segments_path": folder / "segments", "output_dir": folder / "dataset", "fps": 4.0} | options
    hf_dataset.run(DatasetOptions(**given))
    return folder / "dataset"


def convert(folder: Path, rows: list[dict], **options) -> Path:
    dataset_dir = make_dataset(folder, rows)
    run(ConvertOptions(dataset_dir=dataset_dir, output_dir=folder / "training", **options))
    return folder / "training"


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def training_dir(tmp_path_factory) -> Path:
    return convert(tmp_path_factory.mktemp("training"), make_rows(20))


# records


def test_all_rows_are_there_and_not_the_previews(training_dir):
    assert sum(len(read_json(training_dir / f"{side}.json")) for side in ("train", "val", "test")) == 100


def test_a_record_is_what_upstream_reads(training_dir):
    record = read_json(training_dir / "train.json")[0]
    question = AnswerFormat(num_pairs=4, fps=4.0).question
    assert record == {
        "id": record["id"],
        "group": record["id"][:7],
        "video": f"segments/video_segments/{record['id']}.mp4",
        "conversations": [
            {"from": "system", "value": AnswerFormat().system_prompt},
            {"from": "human", "value": f"<video>\n{question}"},
            {"from": "gpt", "value": "[(10.0, 0.0100), (10.0, 0.0100), (10.0, 0.0100), (10.0, 0.0100)]"},
        ],
    }


def test_without_a_system_turn_its_text_stands_in_front_of_the_question(tmp_path):
    (human, _) = read_json(convert(tmp_path, make_rows(4, 1), system=False) / "train.json")[0]["conversations"]
    wanted = AnswerFormat(num_pairs=4, fps=4.0)
    assert human == {"from": "human", "value": f"<video>\n{wanted.system_prompt}\n{wanted.question}"}


def test_every_record_is_well_formed_and_its_answer_parses_strictly(training_dir):
    answer_format = AnswerFormat(**read_json(training_dir / "dataset.json")["answer_format"])
    for record in read_json(training_dir / "train.json"):
        check_record(record)
        assert parse_answer(record["conversations"][-1]["value"], answer_format).parsing == "strict"


def test_a_record_becomes_the_datasets_messages_again(training_dir):
    from datasets import load_from_disk

    rows = load_from_disk(str(training_dir.parent / "dataset"))["val"]
    assert messages_from_record(read_json(training_dir / "val.json")[0]) == rows[0]["messages"]


def test_a_record_is_a_line(training_dir):
    lines = (training_dir / "test.json").read_text().splitlines()
    assert lines[0] == "[" and lines[-1] == "]"
    assert [json.loads(line.rstrip(",")) for line in lines[1:-1]] == read_json(training_dir / "test.json")


def test_rows_that_point_into_a_recording_go_to_files_of_their_own(tmp_path):
    where = {"video_start": 1.5, "video_end": 2.5, "member": "a.mp4", "frame_indices": [3, 4, 5, 6]}
    output = convert(tmp_path, make_rows(4, 1, **where))
    assert not (output / "train.json").exists()
    record = read_json(output / "train.index.json")[0]
    assert {key: record[key] for key in where} == where


def test_a_recording_that_is_no_archive_member_has_no_member_key(tmp_path):
    record = read_json(convert(tmp_path, make_rows(4, 1, video_start=0.0, video_end=1.0)) / "train.index.json")[0]
    assert record["video_start"] == 0.0 and "member" not in record and "frame_indices" not in record


def test_an_empty_side_makes_no_file(tmp_path):
    make_dataset(tmp_path, make_rows(4, 1), val_ratio=0.0)
    run(ConvertOptions(tmp_path / "dataset", tmp_path / "training"))
    assert not (tmp_path / "training" / "val.json").exists()
    assert (tmp_path / "training" / "test.json").exists()


# truth


def test_the_truth_holds_every_id_of_every_split(training_dir):
    truth = pq.read_table(training_dir / "truth.parquet").to_pylist()
    for side in ("train", "val", "test"):
        ids = [record["id"] for record in read_json(training_dir / f"{side}.json")]
        assert [row["id"] for row in truth if row["split"] == side] == ids


def test_a_row_of_truth_holds_the_numbers_and_their_times(training_dir):
    truth = pq.read_table(training_dir / "truth.parquet").to_pylist()
    row = next(row for row in truth if row["id"].endswith("_seg_02"))
    assert row["targets"] == [[12.0, 0.01]] * 4 and row["observed"] == [[11.0, 0.01]] * 4
    assert row["target_times_s"] == [0.125, 0.375, 0.625, 0.875]
    assert row["future_times_s"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert row["future_pose"] == [[2.5 * step, 0.0, 0.025 * step] for step in range(5)]
    assert row["speed_mps"] == 12.0
    assert (row["group"], row["clip_uuid"], row["start_second"]) == (row["id"][:7], row["id"][:7], 2.0)
    assert (row["source"], row["country"], row["hour"]) == ("physical_ai", "Germany", 13)


def test_the_speed_of_a_reversing_car_is_its_magnitude(tmp_path):
    rows = make_rows(4, 1, targets=[[-2.0, 0.0], [-2.0, 0.0], [-4.0, 0.0], [-4.0, 0.0]])
    assert pq.read_table(convert(tmp_path, rows) / "truth.parquet")["speed_mps"].to_pylist() == [3.0] * 4


def test_dataset_json_is_copied(training_dir):
    assert (training_dir / "dataset.json").read_bytes() == (
        training_dir.parent / "dataset" / "dataset.json"
    ).read_bytes()


# refusals


def test_a_missing_dataset_names_the_stage_before(tmp_path):
    with pytest.raises(DrivingError, match="no dataset at .*run prepare_huggingface_dataset.py"):
        run(ConvertOptions(tmp_path / "nothing", tmp_path / "training"))


def test_an_unfinished_dataset_is_refused(tmp_path):
    (make_dataset(tmp_path, make_rows(4, 1)) / "manifest.json").unlink()
    with pytest.raises(DrivingError, match="is not finished .manifest.json is missing.; run prepare_huggingface"):
        run(ConvertOptions(tmp_path / "dataset", tmp_path / "training"))


def test_a_question_that_holds_a_placeholder_is_refused_with_the_id(tmp_path):
    make_dataset(tmp_path, make_rows(4, 1), user_instruction="what is in <video>?")
    with pytest.raises(DrivingError, match="clip00._seg_00: 2 <video> in the questions, 1 video"):
        run(ConvertOptions(tmp_path / "dataset", tmp_path / "training"))


# running twice


def test_running_twice_leaves_complete_files_untouched(tmp_path):
    output = convert(tmp_path, make_rows(4, 1))
    before = {path: path.stat().st_mtime_ns for path in output.iterdir() if path.name != ".lock"}
    assert "already complete: " in run(ConvertOptions(tmp_path / "dataset", output))["message"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_plan_is_refused_and_overwrite_replaces(tmp_path):
    output = convert(tmp_path, make_rows(4, 1))
    with pytest.raises(LedgerError, match="was made with system = True, this run asks for False"):
        run(ConvertOptions(tmp_path / "dataset", output, system=False))
    run(ConvertOptions(tmp_path / "dataset", output, system=False, overwrite_output=True))
    assert len(read_json(output / "train.json")[0]["conversations"]) == 2


def test_a_second_writer_is_refused(tmp_path):
    make_dataset(tmp_path, make_rows(4, 1))
    with claim_output(tmp_path / "training", {}), pytest.raises(LedgerError, match="another run is writing"):
        run(ConvertOptions(tmp_path / "dataset", tmp_path / "training"))


def test_killed_at_every_rename_the_same_command_gives_the_same_bytes(tmp_path):
    whole = read_tree(convert(tmp_path, make_rows(6)))
    options = ConvertOptions(tmp_path / "dataset", tmp_path / "killed")
    num_kills = 0
    while run_killed_at_rename(lambda: run(options), num_kills):
        assert not (tmp_path / "killed" / "manifest.json").exists()
        num_kills += 1
    assert num_kills >= 5
    assert read_tree(tmp_path / "killed") == whole


def test_the_last_line_counts_the_records(tmp_path, capsys):
    make_dataset(tmp_path, [make_row(side, s, split=side) for side in ("train", "val", "test") for s in range(3)])
    assert main(["--dataset-dir", str(tmp_path / "dataset"), "--output_dir", str(tmp_path / "t")]) == 0
    assert capsys.readouterr().out == f"3 train, 3 val, 3 test records written to {tmp_path / 't'}\n"


def test_a_dataset_that_lost_a_split_is_refused_and_made_again(tmp_path, capsys):
    import shutil

    rows = make_rows(20)
    convert(tmp_path, rows)
    before = read_tree(tmp_path / "dataset")
    shutil.rmtree(tmp_path / "dataset" / "test")
    with pytest.raises(LedgerError, match="dataset is not whole: test/data.* and 2 more are .*; run prepare_huggingf"):
        run(ConvertOptions(dataset_dir=tmp_path / "dataset", output_dir=tmp_path / "training"))
    make_dataset(tmp_path, rows)
    assert "was complete, but test/data" in capsys.readouterr().out
    assert read_tree(tmp_path / "dataset") == before


def test_a_training_file_cut_short_is_written_again(tmp_path):
    folder = convert(tmp_path, make_rows(20))
    before = read_tree(folder)
    (folder / "val.json").write_text("[")
    assert "written to" in run(ConvertOptions(dataset_dir=tmp_path / "dataset", output_dir=folder))["message"]
    assert read_tree(folder) == before


def test_the_dataset_is_not_converted_into_itself(tmp_path):
    dataset_dir = make_dataset(tmp_path, make_rows(20))
    with pytest.raises(LedgerError, match="also what this run reads"):
        run(ConvertOptions(dataset_dir=dataset_dir, output_dir=dataset_dir, overwrite_output=True))
    assert (dataset_dir / "dataset.json").is_file()
