"""The Hugging Face dataset: what a row holds, what is refused, and that it survives being killed."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from datasets import load_from_disk
from drawn_segments import NUM_FRAMES, make_row, make_rows, options_for, prepare, write_index

from data_prep.hf_dataset import main, run
from data_prep.label_statistics import LabelStatistics
from driving.answer_format import AnswerFormat
from driving.errors import DrivingError, LedgerError, SourceError
from driving.ledger import claim_output, read_ledger


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("hf"), make_rows(20))


# rows


def test_the_three_splits_load_and_hold_every_row(dataset_dir):
    dataset = load_from_disk(str(dataset_dir))
    assert list(dataset) == ["train", "val", "test"]
    assert sum(map(len, dataset.values())) == 100


def test_a_row_holds_what_the_contract_names(dataset_dir):
    row = load_from_disk(str(dataset_dir))["train"][0]
    assert list(row)[:12] == [
        "messages", "videos", "segment_uuid", "clip_uuid", "start_second", "video_fps", "video_num_frames",
        "targets_text", "targets", "group", "observed", "future_pose",
    ]  # fmt: skip
    assert row["videos"] == [f"segments/video_segments/{row['segment_uuid']}.mp4"]
    assert (row["video_fps"], row["video_num_frames"], row["start_second"]) == (4.0, 4, 0.0)
    assert row["targets"] == [[10.0, 0.01]] * 4 and row["observed"] == [[9.0, 0.01]] * 4
    assert row["future_pose"][4] == [10.0, 0.0, 0.1]
    assert (row["source"], row["country"], row["hour"], row["height"], row["width"]) == (
        "physical_ai", "Germany", 13, 64, 96,
    )  # fmt: skip


def test_the_answer_is_the_labels_as_text(dataset_dir):
    row = load_from_disk(str(dataset_dir))["train"][2]
    assert row["targets_text"] == "[(12.0, 0.0100), (12.0, 0.0100), (12.0, 0.0100), (12.0, 0.0100)]"
    assert row["messages"][2]["content"] == [{"type": "text", "text": row["targets_text"]}]


def test_a_reloaded_block_holds_exactly_its_own_keys(dataset_dir):
    row = load_from_disk(str(dataset_dir))["train"][0]
    question = AnswerFormat(num_pairs=4, fps=4.0).question
    assert row["messages"][1] == {
        "role": "user",
        "content": [{"type": "video", "video": row["videos"][0]}, {"type": "text", "text": question}],
    }


def test_the_real_template_shows_one_video_and_the_question(dataset_dir, shared_data):
    rendering = pytest.importorskip("transformers.utils.chat_template_utils")
    template = json.loads((shared_data / "qwen3vl_processor" / "chat_template.json").read_text())["chat_template"]
    row = load_from_disk(str(dataset_dir))["train"][0]
    texts, _ = rendering.render_jinja_template(conversations=[row["messages"]], chat_template=template)
    question = AnswerFormat(num_pairs=4, fps=4.0).question
    assert texts[0].count("<|video_pad|>") == 1
    assert f"<|vision_end|>{question}<|im_end|>" in texts[0]
    assert f"<|im_start|>assistant\n{row['targets_text']}<|im_end|>" in texts[0]


def test_a_group_is_on_one_side_only(dataset_dir):
    dataset = load_from_disk(str(dataset_dir))
    groups = [set(split["group"]) for split in dataset.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_the_previews_hold_the_first_five_rows_as_they_are_read_back(dataset_dir):
    examples = json.loads((dataset_dir / "test_examples.json").read_text())
    assert examples == load_from_disk(str(dataset_dir))["test"].select(range(5)).to_list()


def test_the_official_split_is_used(tmp_path):
    rows = [
        make_row(f"{side}{c}", s, split=side) for side in ("train", "val", "test") for c in range(2) for s in (0, 1)
    ]
    dataset = load_from_disk(str(prepare(tmp_path, rows)))
    assert {side: sorted(set(split["group"])) for side, split in dataset.items()} == {
        "train": ["train0", "train1"], "val": ["val0", "val1"], "test": ["test0", "test1"],
    }  # fmt: skip


def test_rows_that_point_into_a_recording_keep_their_range(tmp_path):
    changes = {"video_start": 1.5, "video_end": 2.5, "member": "a.mp4", "frame_indices": [3, 4, 5, 6]}
    row = load_from_disk(str(prepare(tmp_path, make_rows(4, 2, **changes))))["train"][0]
    assert {key: row[key] for key in changes} == changes


def test_no_system_prompt_makes_no_system_turn(tmp_path):
    row = load_from_disk(str(prepare(tmp_path, make_rows(4, 1), system_prompt="")))["train"][0]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


def test_a_users_own_question_is_asked(tmp_path):
    dataset = load_from_disk(str(prepare(tmp_path, make_rows(4, 1), user_instruction="Give {num_pairs} pairs.")))
    assert dataset["train"][0]["messages"][1]["content"][1]["text"] == "Give 4 pairs."


def test_fewer_pairs_a_second(tmp_path):
    rows = make_rows(4, 1, targets=[[1.0, 0.1], [3.0, 0.02], [5.0, 0.0], [7.0, 0.0]])
    dataset = load_from_disk(str(prepare(tmp_path, rows, answer_hz=2.0)))
    # way-weighted curvature of the first half: (1 * 0.1 + 3 * 0.02) / 4 = 0.04
    assert dataset["train"][0]["targets_text"] == "[(2.0, 0.0400), (6.0, 0.0000)]"
    assert len(dataset["train"][0]["targets"]) == 4


def test_the_index_as_json_gives_the_same_rows(tmp_path):
    rows = make_rows(6)
    prepare(tmp_path, rows)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "segments.json").write_text(json.dumps(rows))
    run(options_for(tmp_path, segments_path=tmp_path / "metadata" / "segments.json", output_dir=tmp_path / "json"))
    read = [load_from_disk(str(tmp_path / name))["train"].to_list() for name in ("dataset", "json")]
    assert [{k: v for k, v in row.items() if k in read[1][0]} for row in read[0]] == read[1]


# dataset.json


def describe(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text())


def test_the_description_rebuilds_the_answer_format(dataset_dir):
    assert AnswerFormat(**describe(dataset_dir)["answer_format"]) == AnswerFormat("signed", 4, 4.0)


def test_the_description_counts(dataset_dir):
    found = describe(dataset_dir)
    assert sum(found["splits"].values()) == 100 and found["num_recordings"] == 20
    assert found["frame_sizes"] == {"64x96": 100} and found["sources"] == {"physical_ai": 100}
    assert (found["fps"], found["num_frames"], found["one_recording"], found["synthetic"]) == (4.0, 4, False, False)


def test_the_label_statistics_agree_with_arithmetic(dataset_dir):
    labels = describe(dataset_dir)["labels"]["all"]
    # seconds 0..4 at 10 + s m/s: mean 12, population standard deviation sqrt(2)
    assert labels["velocity_mean_mps"] == 12.0 and labels["velocity_std_mps"] == pytest.approx(math.sqrt(2), abs=1e-6)
    assert labels["num_segments"] == {"left": 100, "right": 0, "straight": 0, "standing": 0, "reversing": 0}


def test_drawn_recordings_are_called_synthetic(tmp_path):
    assert describe(prepare(tmp_path, make_rows(4, 1, platform="synthetic")))["synthetic"] is True


def test_the_description_tells_how_the_segments_were_made(tmp_path):
    with claim_output(tmp_path / "segments", {"tool": "prepare_video_segments", "fps": 4}) as output:
        write_index(tmp_path / "segments", make_rows(4, 1))
        output.finish({})
    run(options_for(tmp_path))
    assert describe(tmp_path / "dataset")["provenance"]["segments_plan"]["fps"] == 4


# statistics and warnings


def test_straight_rows_only_are_warned_about(tmp_path, capsys):
    write_index(tmp_path / "segments", make_rows(4, 1, targets=[[10.0, 0.0019]] * NUM_FRAMES))
    main(["--segments-path", str(tmp_path / "segments"), "--output-dir", str(tmp_path / "d"), "--fps", "4"])
    assert "WARNING: all 4 rows are straight (no |curvature| above 0.002 1/m)" in capsys.readouterr().out
    assert "straight" in describe(tmp_path / "d")["warnings"][0]


def test_standing_rows_only_are_warned_about(tmp_path):
    output = prepare(tmp_path, make_rows(4, 1, targets=[[0.1, 0.0]] * NUM_FRAMES))
    assert "all 4 rows stand still" in describe(output)["warnings"][0]


def test_the_seeds_format_is_warned_about(tmp_path):
    warnings = describe(prepare(tmp_path, make_rows(4, 1), answer_format="seed"))["warnings"]
    assert len(warnings) == 1 and "left and right turns become the same label" in warnings[0]


def test_curves_are_not_warned_about(dataset_dir):
    assert describe(dataset_dir)["warnings"] == []


def test_merged_statistics_are_those_of_all_rows():
    import numpy as np

    rows = np.arange(24.0).reshape(3, 4, 2) / 10
    parts = [LabelStatistics(), LabelStatistics(), LabelStatistics()]
    parts[0].add(rows[:1])
    parts[1].add(rows[1:])
    whole = LabelStatistics()
    whole.add(rows)
    assert LabelStatistics.merge(parts).to_json() == whole.to_json()
    assert LabelStatistics().to_json() == {"num_rows": 0}


# what cannot be used


def test_a_row_without_labels_goes_to_the_ledger(tmp_path):
    bare = {"has_labels": False, "targets": None, "observed": None, "future_pose": None, "source": "folder"}
    output = prepare(tmp_path, [*make_rows(4, 2), make_row("dashcam", 0, **bare)])
    skips = read_ledger(output / "skipped.jsonl")
    assert [(skip.id, skip.stage) for skip in skips] == [("dashcam_seg_00", "label")]
    assert "no ego motion (source folder)" in skips[0].reason
    assert sum(describe(output)["splits"].values()) == 8


def test_no_labels_at_all_is_an_error(tmp_path):
    bare = {"has_labels": False, "targets": None, "observed": None, "future_pose": None, "source": "folder"}
    with pytest.raises(DrivingError, match=r"none of the 8 segments has labels \(source: folder\).* no tool that"):
        prepare(tmp_path, make_rows(4, 2, **bare))


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"targets": [[1.0, 0.0]] * 3}, "targets holds 3 rows, 4 were expected"),
        ({"targets": [[1.0, float("nan")]] + [[1.0, 0.0]] * 3}, "targets holds a value that is not finite at row 0"),
        ({"observed": None}, "observed is missing"),
        ({"future_pose": [[0.0, 0.0, 0.0]] * 4}, "future_pose holds 4 rows, 5 were expected"),
        ({"future_pose": [[0.0, 0.0]] * 5}, "future_pose holds rows that are not 3 numbers"),
    ],
)
def test_a_bad_row_goes_to_the_ledger_and_the_others_stay(tmp_path, changes, reason):
    output = prepare(tmp_path, [*make_rows(10, 2), make_row("clip000", 7, **changes)])
    assert [(skip.id, skip.reason) for skip in read_ledger(output / "skipped.jsonl")] == [("clip000_seg_07", reason)]
    assert sum(describe(output)["splits"].values()) == 20


def test_too_many_bad_rows_stop_the_stage_and_a_higher_limit_lets_it_go_on(tmp_path):
    rows = [*make_rows(10, 2), *[make_row("clip000", second, observed=None) for second in (4, 5, 6, 7)]]
    with pytest.raises(LedgerError, match="4 of 24 samples are bad"):
        prepare(tmp_path, rows)
    assert len(read_ledger(tmp_path / "dataset" / "skipped.jsonl")) == 4
    summary = run(options_for(tmp_path, max_bad_fraction=0.5))
    assert summary["num_skipped"] == 4


def test_a_side_whose_rows_are_all_bad_is_an_error(tmp_path):
    rows = [
        make_row(f"c{side}", 0, split=side, **({"observed": None} if side == "val" else {}))
        for side in ("train", "val", "test")
    ]
    with pytest.raises(DrivingError, match="no row of val could be used"):
        prepare(tmp_path, rows)


def test_one_recording_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(DrivingError, match="one recording .*--allow-one-recording"):
        prepare(tmp_path, make_rows(1, 20))
    assert not (tmp_path / "dataset").exists()


def test_one_recording_with_leave_is_stamped_and_its_gap_is_in_the_ledger(tmp_path):
    output = prepare(tmp_path, make_rows(1, 20), allow_one_recording=True)
    found = describe(output)
    assert found["one_recording"] is True and found["splits"] == {"train": 15, "val": 1, "test": 2}
    assert [skip.id for skip in read_ledger(output / "skipped.jsonl")] == ["clip000_seg_15", "clip000_seg_17"]
    assert "same recording, split in time" in found["warnings"][0]


def test_one_short_recording_goes_without_val_and_says_so(tmp_path):
    output = prepare(tmp_path, make_rows(1, 4), allow_one_recording=True)
    assert list(load_from_disk(str(output))) == ["train", "test"]
    assert "clip000: too few segments for three sides; there is no val" in describe(output)["warnings"]


# options against the segments


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"fps": 30.0}, "cut at 4 fps, this run asks for --fps 30; pass --fps 4"),
        ({"duration": 2.0}, r"are 1 s long \(4 frames at 4 fps\), this run asks for --duration 2"),
        ({"answer_hz": 3.0}, "--answer-hz 3 gives 3 pairs, which do not divide the 4 samples .* choose one of 1, 2, 4"),
        ({"test_ratio": 0.7, "val_ratio": 0.4}, "must leave something to train on"),
    ],
)
def test_an_option_that_does_not_fit_the_segments_is_refused_before_anything_is_written(tmp_path, options, complaint):
    with pytest.raises(DrivingError, match=complaint):
        prepare(tmp_path, make_rows(4, 1), **options)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--max-samples", "-5"], "'-5' is not a whole number of 0 or more"),
        (["--examples-preview", "few"], "'few' is not a whole number"),
        (["--duration", "0"], "'0' is not a number above zero"),
        (["--fps", "fast"], "'fast' is neither a frame rate in Hz nor auto"),
    ],
)
def test_a_number_that_cannot_be_meant_is_a_usage_mistake(words, complaint, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert complaint in capsys.readouterr().err


def test_auto_takes_the_rate_of_the_segments(tmp_path):
    assert describe(prepare(tmp_path, make_rows(4, 1), fps="auto"))["fps"] == 4.0


def test_segments_of_two_rates_are_refused(tmp_path):
    with pytest.raises(DrivingError, match="differ in rate or length .4 frames at 4 fps, 4 frames at 5 fps"):
        prepare(tmp_path, [*make_rows(3, 1), make_row("other", 0, fps=5.0)])


def test_max_samples_takes_from_every_recording(tmp_path):
    dataset = load_from_disk(str(prepare(tmp_path, make_rows(10, 5), max_samples=12)))
    clips = [clip for split in dataset.values() for clip in split["clip_uuid"]]
    assert sorted(Counter(clips).values()) == [1] * 8 + [2] * 2


def test_a_duplicated_segment_fails_the_build(tmp_path):
    with pytest.raises(DrivingError, match="segment clip000_seg_00 is listed twice"):
        prepare(tmp_path, [*make_rows(4, 1), make_row("clip000", 0)])


# the index


def test_a_missing_index_names_the_stage_before(tmp_path):
    with pytest.raises(SourceError, match="no index of segments at .*run prepare_video_segments.py"):
        run(options_for(tmp_path))


def test_unfinished_segments_are_refused(tmp_path):
    with claim_output(tmp_path / "segments", {"tool": "cut"}):
        pass
    with pytest.raises(SourceError, match="segments in .* are not finished"):
        run(options_for(tmp_path))


def test_an_empty_index_points_to_the_ledger(tmp_path):
    with pytest.raises(SourceError, match="lists no segment; see skipped.jsonl"):
        prepare(tmp_path, [])


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("segments.json", '[{"segment_uuid": "a"}]', "has no column clip_uuid, start_second"),
        ("segments.json", "{", "is not JSON"),
        ("segments.json", '{"a": 1}', "is not a list of segments"),
        ("segments.json", "[]", "lists no segment"),
        ("segments.parquet", "text", "cannot be read as parquet"),
    ],
)
def test_an_index_of_another_kind_is_refused(tmp_path, name, content, complaint):
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=complaint):
        run(options_for(tmp_path, segments_path=tmp_path / name))


def test_the_last_line_counts_rows_recordings_and_skips(tmp_path, capsys):
    bare = {"has_labels": False, "targets": None, "observed": None, "future_pose": None}
    rows = [
        make_row(f"{side}{c}", s, split=side)
        for side, n in (("train", 20), ("val", 1), ("test", 2))
        for c in range(n)
        for s in range(60)
    ]
    write_index(tmp_path / "segments", [*rows, make_row("bare", 0, **bare)])
    assert (
        main(["--segments_path", str(tmp_path / "segments"), "--output_dir", str(tmp_path / "d"), "--fps", "auto"]) == 0
    )
    assert capsys.readouterr().out.splitlines()[-1] == (
        "1,200 train, 60 val, 120 test rows from 23 recordings, 1 skipped (see skipped.jsonl)"
    )
