"""check_dataset.py: what it shows, what it counts, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from driving.ledger import Skip  # noqa: E402
from qwenvl.check_dataset import main  # noqa: E402
from qwenvl.data.inspection_report import describe_inspection, format_histogram, group_by_reason, summarise  # noqa: E402
from qwenvl.data.shared_groups import is_held_out  # noqa: E402

pytestmark = pytest.mark.needs_torch
QUESTION = "<video>\nWhere does the car go?"


@pytest.fixture
def check(tiny_model, tmp_path, capsys):
    """check(*flags): (exit code, standard output, the JSON report, standard error)."""

    def run(*flags: str) -> tuple[int, str, dict, str]:
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        flags = ("--model", str(tiny_model), "--workers", "0", "--json", str(report), "--video-fps", "10", *flags)
        code = main(flags)
        out, err = capsys.readouterr()
        return code, out, json.loads(report.read_text()) if report.exists() else {}, err

    return run


@pytest.fixture
def folder(training_json, tmp_path) -> Path:
    """A folder of its own with the ten clips of the session, and the rows that a test writes."""
    shutil.copytree(training_json.parent, tmp_path / "data")
    return tmp_path / "data"


def write_rows(folder: Path, *changes: dict, name: str = "train.json") -> Path:
    """The first rows of the session's train.json, each changed."""
    rows = json.loads((folder / "train.json").read_text())
    path = folder / name
    path.write_text(json.dumps([{**row, **change} for row, change in zip(rows, changes, strict=False)]))
    return path


def answer(text: str, question: str = QUESTION) -> list[dict]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": text}]


def test_a_sound_dataset_can_be_trained_on(check, training_json):
    code, out, report, err = check("--dataset-use", str(training_json))
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"{training_json} can be trained on: 10 rows, 0 skipped"
    assert (report["rows"], report["usable_rows"], report["groups"], report["refusals"]) == (10, 10, 5, [])
    assert report["clips"] == [{"recorded": [64, 96], "frames": 10, "shown": [64, 96], "clips": 10}]
    # 5 pairs of frames of 64 x 96 px, in squares of 32 px
    assert report["visual_tokens"] == {"min": 30, "median": 30, "p95": 30, "max": 30, "total": 300}


def test_tokens_are_those_of_the_samples(check, training_json, processor):
    from qwenvl.data.dataset import DrivingDataset
    from qwenvl.data.labels import IGNORED
    from qwenvl.data.preprocessing import Preprocessing

    rows = json.loads(training_json.read_text())
    dataset = DrivingDataset(rows, [[training_json.parent]] * 10, processor, Preprocessing(video_fps=10.0), 4096)
    samples = [dataset[index] for index in range(10)]
    _, _, report, _ = check("--dataset-use", str(training_json), "--samples", "0")
    lengths = sorted(len(sample["input_ids"]) for sample in samples)
    assert report["tokens"] == {
        "min": lengths[0], "median": lengths[4], "p95": lengths[9], "max": lengths[9], "total": sum(lengths),
    }  # fmt: skip
    taught = sum(int((sample["labels"] != IGNORED).sum()) for sample in samples)
    assert report["supervised_tokens"]["total"] == taught
    assert report["supervised_share"] == pytest.approx(taught / sum(lengths), abs=1e-6)


def test_a_piped_sample_marks_what_is_supervised_with_its_end_token(check, training_json):
    _, out, _, _ = check("--dataset-use", str(training_json), "--samples", "2")
    assert "-- row 0: clip00_seg_00 (group clip00), 10 frames of 64x96 px, " in out
    assert "-- row 9: clip09_seg_00 (group clip04)" in out
    assert "[[[(0.0, -0.0000)]<|im_end|>]]" in out and "(6 visual tokens)" in out
    assert "\x1b" not in out


def test_a_terminal_is_shown_colours(check, training_json, monkeypatch):
    import sys

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    _, out, _, _ = check("--dataset-use", str(training_json), "--samples", "1")
    assert "\x1b[1;32m[(0.0, -0.0000)]<|im_end|>\x1b[0m" in out
    monkeypatch.setenv("NO_COLOR", "1")
    _, out, _, _ = check("--dataset-use", str(training_json), "--samples", "1")
    assert "\x1b" not in out


def test_a_text_cannot_steer_the_terminal(check, folder):
    path = write_rows(folder, {"conversations": answer("\x1b[2J\x07gone")})
    _, out, _, _ = check("--dataset-use", str(path))
    assert "\x1b" not in out and "[[\\x1b[2J\\x07gone<|im_end|>]]" in out


def test_no_sample_is_shown_where_none_is_asked_for(check, training_json):
    _, out, _, _ = check("--dataset-use", str(training_json), "--samples", "0")
    assert out.startswith("rows  ")


def test_rows_that_cannot_train_are_counted_by_reason_and_few_are_allowed(check, folder):
    path = write_rows(
        folder,
        {"video": "gone/1.mp4"},
        {"video": "gone/2.mp4"},
        {"conversations": [{"from": "human", "value": "Q"}]},
        *[{}] * 7,
    )
    code, out, report, _ = check("--dataset-use", str(path))
    assert code == 0 and (report["usable_rows"], report["skipped"]) == (7, 3)
    assert [(group["rows"], group["first"]) for group in report["skipped_by_reason"]] == [
        (2, ["clip00_seg_00", "clip01_seg_00"]), (1, ["clip02_seg_00"]),
    ]  # fmt: skip
    assert re.search(r"unusable +2 rows: \.\.\. is not there \(looked in", out)
    assert out.splitlines()[-1] == f"{path} can be trained on: 7 rows, 3 skipped"


def test_too_many_rows_that_cannot_train_are_refused_after_the_report(check, folder):
    path = write_rows(folder, *[{"video": f"gone/{index}.mp4"} for index in range(4)], *[{}] * 6)
    code, out, report, err = check("--dataset-use", str(path))
    assert code == 1 and "unusable     4 rows" in out
    assert err == f"error: {path} cannot be trained on: 4 of 10 rows cannot train (at most 2.0% may)\n"
    assert report["refusals"] == ["4 of 10 rows cannot train (at most 2.0% may)"]


def test_more_bad_rows_may_be_allowed(check, folder):
    path = write_rows(folder, *[{"video": f"gone/{index}.mp4"} for index in range(4)], *[{}] * 6)
    assert check("--dataset-use", str(path), "--max-bad-fraction", "0.4")[0] == 0


def test_rows_that_are_too_long_are_counted_and_refused(check, training_json):
    code, out, report, err = check("--dataset-use", str(training_json), "--model-max-length", "60")
    assert code == 1 and report["too_long"] == 10 and report["too_long_share"] == 1.0
    assert "none of 10 rows can be used; 10 of 10 rows cannot train" in err
    assert report["longest_tokens"] > 60 and "10 rows (100.0%) over --model_max_length 60" in out


def test_a_file_that_is_no_video_is_found_by_its_headers(check, folder):
    (folder / "videos/00.mp4").write_bytes(b"no video")
    _, out, report, _ = check("--dataset-use", str(folder / "train.json"))
    assert report["skipped"] == 1 and "videos/00.mp4" in out
    assert "-- row 0: clip00_seg_00 cannot be used: " in out


def damage_middle(path: Path) -> None:
    """Spoil the coded pictures after the first, and leave the headers as they are."""
    import av

    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in places[1:]:
        data[place + 4 : place + size] = b"\xff" * (size - 4)
    path.write_bytes(bytes(data))


def test_pictures_that_cannot_be_decoded_are_found_only_by_decoding(check, folder):
    damage_middle(folder / "videos/03.mp4")
    _, _, report, _ = check("--dataset-use", str(folder / "train.json"), "--samples", "0")
    assert (report["skipped"], report["decoded_rows"]) == (0, 0)
    code, out, report, _ = check("--dataset-use", str(folder / "train.json"), "--samples", "0", "--decode", "0")
    assert (code, report["skipped"], report["decoded_rows"], report["usable_rows"]) == (0, 1, 10, 9)
    assert "clip03_seg_00: " in out and "decoded      10 rows to the last frame" in out


def test_some_rows_are_drawn_for_decoding(check, training_json):
    _, out, report, _ = check("--dataset-use", str(training_json), "--samples", "0", "--decode", "4", "--workers", "2")
    assert report["decoded_rows"] == 4 and "decoded      4 rows to the last frame" in out


@pytest.fixture
def with_format(folder) -> Path:
    """A dataset whose answers are two signed pairs."""
    (folder / "dataset.json").write_text(
        json.dumps({"answer_format": {"name": "signed", "num_pairs": 2, "fps": 10.0, "duration_s": 1.0}})
    )
    return folder


def test_answers_in_another_format_than_the_datasets_are_refused(check, with_format):
    good = {"conversations": answer("[(1.0, 0.0001), (2.0, -0.0001)]")}
    loose = {"conversations": answer("[(1.0,0.0001), (2.0, -0.0001)]")}
    short = {"conversations": answer("[(1.0, 0.0001)]")}
    path = write_rows(with_format, loose, short, short, short, *[good] * 6)
    code, out, report, err = check("--dataset-use", str(path))
    assert code == 1 and report["answers_not_in_format"] == 4
    assert "4 of 10 answers are malformed (at most 2.0% may)" in err
    assert "clip00_seg_00: the answer is not written as [(xx.x, 0.xxxx), ...]: '[(1.0,0.0001), (2.0, -0.0001)]'" in out
    assert "clip01_seg_00: the answer holds 1 (velocity, curvature) pairs, the prompt asked for 2" in out


def test_answers_in_the_datasets_format_are_fine(check, with_format):
    path = write_rows(with_format, *[{"conversations": answer("[(1.0, 0.0001), (2.0, -0.0001)]")}] * 10)
    code, out, report, _ = check("--dataset-use", str(path))
    assert code == 0 and report["answers_not_in_format"] == 0 and "answers      all in the dataset's format" in out


def test_the_track_of_the_rows_is_said(check, with_format):
    path = write_rows(with_format, *[{"conversations": answer("[(1.0, 0.0001), (2.0, -0.0001)]")}] * 10)
    _, out, report, _ = check("--dataset-use", str(path), "--samples", "0")
    assert report["track"] == "video only" and "track        video only\n" in out


def test_ego_motion_in_the_prompt_that_the_format_cannot_read_is_refused(check, with_format):
    (with_format / "dataset.json").write_text(
        json.dumps({"answer_format": {"name": "signed", "num_pairs": 2, "fps": 10.0, "history_pairs": 2}})
    )
    told = "<video>\nEgo motion during this clip, 2 pairs, oldest first: [(1.0, 0.0001), (1.0, {})]\nWhere to?"
    text = "[(1.0, 0.0001), (2.0, -0.0001)]"
    good = {"conversations": answer(text, told.format("0.0001"))}
    short = {"conversations": answer(text, told.format("0.1"))}
    path = write_rows(with_format, *[short] * 4, *[good] * 6)
    code, out, report, err = check("--dataset-use", str(path))
    assert code == 1 and report["answers_not_in_format"] == 4 and report["track"] == "video and ego history"
    assert "clip00_seg_00: the ego motion in the prompt cannot be read: the ego motion in the prompt is not" in out


def test_a_dataset_without_format_is_said_to_have_none(check, training_json):
    _, out, report, _ = check("--dataset-use", str(training_json))
    assert report["answers_not_in_format"] is None and "answers      the dataset names no answer format" in out


def test_an_answer_format_of_another_version_is_said(check, folder):
    (folder / "dataset.json").write_text(json.dumps({"answer_format": {"colour": "red"}}))
    code, _, _, err = check("--dataset-use", str(folder / "train.json"))
    assert code == 1 and "the dataset's answer_format is of another version" in err and "'colour'" in err


def test_an_id_that_two_rows_carry_is_named(check, folder):
    path = write_rows(folder, {"id": "same"}, {}, {"id": "same"}, *[{}] * 7)
    code, out, report, _ = check("--dataset-use", str(path))
    assert code == 0 and report["repeated_ids"] == ["same"]
    assert "ids          1 carried by several rows: same" in out


def test_a_row_that_is_used_twice_is_no_repeated_id(check, training_json):
    _, _, report, _ = check("--dataset-use", f"{training_json}%200", "--decode", "0", "--samples", "0")
    assert (report["rows"], report["usable_rows"], report["repeated_ids"], report["decoded_rows"]) == (20, 20, [], 10)
    assert report["clips"][0]["clips"] == 20


def test_a_recording_in_train_and_val_is_refused(check, folder):
    rows = json.loads((folder / "train.json").read_text())
    (folder / "val.json").write_text(json.dumps([{**row, "id": f"v{row['id']}"} for row in rows[8:]]))
    (folder / "train.json").write_text(json.dumps(rows[:9]))
    use = f"{folder}/train.json,{folder}/val.json"
    code, out, report, err = check("--dataset-use", use)
    pair = f"{folder}/train.json and {folder}/val.json"
    assert code == 1 and report["shared_groups"] == {pair: ["clip04"]}
    assert f"error: {use} cannot be trained on: {pair} share 1 recordings, clip04 among them\n" == err
    assert f"leak         {pair} share 1 recordings: clip04" in out


@pytest.mark.parametrize("ending", ["json", "index.json"])
def test_a_val_json_beside_the_training_json_is_looked_at_unasked(check, folder, ending):
    train, val = folder / f"train.{ending}", folder / f"val.{ending}"
    rows = json.loads((folder / "train.json").read_text())
    train.write_text(json.dumps(rows))
    val.write_text(json.dumps(rows[:1]))
    code, _, report, err = check("--dataset-use", str(train))
    assert code == 1 and f"{val} share 1 recordings, clip00 among them" in err
    assert report["rows"] == 10
    val.write_text(json.dumps([{**rows[0], "group": "another"}]))
    assert check("--dataset-use", str(train))[0] == 0


def test_two_training_sets_may_share_recordings(check, folder):
    rows = json.loads((folder / "train.json").read_text())
    (folder / "questions.json").write_text(json.dumps([{**row, "id": f"q{row['id']}"} for row in rows]))
    code, _, report, _ = check("--dataset-use", f"{folder}/train.json,{folder}/questions.json")
    assert code == 0 and report["shared_groups"] == {}
    assert report["rows_by_dataset"] == {f"{folder}/train.json": 10, f"{folder}/questions.json": 10}


@pytest.mark.parametrize(
    ("name", "held_out"),
    [
        ("a/val.json", True),
        ("nuscenes-test", True),
        ("my_val.jsonl", True),
        ("test.index.json", True),
        ("train.json", False),
        ("contest", False),
    ],
)
def test_held_out_sets_are_told_by_their_name(name, held_out):
    assert is_held_out(name) is held_out


def test_pixel_flags_move_the_frame_size(check, training_json):
    _, _, report, _ = check("--dataset-use", str(training_json), "--video-frame-pixels", "2*32*32", "--samples", "0")
    assert report["clips"][0]["shown"] == [32, 64]


def test_contradicting_flags_are_refused(check, training_json):
    code, _, _, err = check("--dataset-use", str(training_json), "--video-min-frames", "64")
    assert code == 1 and err == "error: --video_min_frames 64 is above --video_max_frames 32\n"


def test_a_pixel_count_that_is_none_is_a_usage_mistake(check, training_json, capsys):
    with pytest.raises(SystemExit) as end:
        check("--dataset-use", str(training_json), "--max-pixels", "lots")
    assert end.value.code == 2 and "'lots' is not a number of pixels, such as 114688" in capsys.readouterr().err


def test_the_page_holds_frames_and_colours_and_escapes_what_it_shows(check, folder, tmp_path):
    path = write_rows(folder, {"conversations": answer("<script>alert(1)</script>", QUESTION + "<b>")})
    page = tmp_path / "page.html"
    assert check("--dataset-use", str(path), "--html", str(page))[0] == 0
    text = page.read_text()
    assert "<mark>&lt;script&gt;alert(1)&lt;/script&gt;&lt;|im_end|&gt;</mark>" in text
    assert "<script" not in text and "<b>" not in text
    assert text.count('src="data:image/png;base64,') == 4
    assert not re.search(r'(?:src|href)="(?!data:)', text)


def test_images_are_counted_by_size(check, tmp_path):
    from PIL import Image

    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")
    row = {"id": "a", "image": "a.png", "conversations": answer("A", "<image>Q")}
    (tmp_path / "train.json").write_text(json.dumps([row]))
    _, out, report, _ = check(
        "--dataset-use", str(tmp_path / "train.json"), "--min-pixels", "1", "--max-pixels", "64*96"
    )
    assert report["images"] == [{"shown": [64, 96], "number": 1}]
    assert "images       64x96 px: 1" in out and "an image of 64x96 px, " in out


def test_reasons_that_differ_in_ids_paths_and_numbers_are_one():
    skips = [Skip(f"r{i}", "x", f"r{i}: a/{i}.mp4 ends at {i}.5 s, not 'b{i}'") for i in range(3)]
    assert [(reason, len(same)) for reason, same in group_by_reason([*skips, Skip("r9", "x", "other")])] == [
        ("...: ... ends at N s, not ...", 3), ("other", 1),
    ]  # fmt: skip


def test_percentiles_are_values_that_some_row_has():
    assert summarise([5, 1, 2, 100]) == {"min": 1, "median": 2, "p95": 100, "max": 100, "total": 108}
    assert summarise([]) == {}


def test_a_histogram_counts_every_row_once():
    assert format_histogram([1, 1, 3, 10]) == [
        " 1 -  1  ######################################## 2",
        " 2 -  2                                           0",
        " 3 -  3  ####################                     1",
        *[f" {i} -  {i}                                           0" for i in range(4, 10)],
        "10 - 10  ####################                     1",
    ]
    assert format_histogram([7]) == ["7 - 7  ######################################## 1"]


def test_the_report_of_nothing_divides_by_nothing():
    from qwenvl.data.inspection import Inspection

    assert describe_inspection(Inspection({}, 0, 10))["supervised_share"] == 0.0
