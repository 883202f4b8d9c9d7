"""Rows become samples: which frames, at which size, found where; and what cannot be used says why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from driving.answer_format import AnswerFormat  # noqa: E402
from driving.ego_history import build_question, remove_history  # noqa: E402
from driving.errors import RecordError, VideoError  # noqa: E402
from driving.trajectory import Trajectory  # noqa: E402
from qwenvl.data.dataset import BadSample, DrivingDataset, build_inputs, find_media, read_clips, read_records  # noqa: E402
from qwenvl.data.frame_cache import Clip, FrameCache  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.data.preview import describe_sample, format_sample, hash_prompt  # noqa: E402
from qwenvl.data.rows import load_rows, read_answer_format  # noqa: E402

from qwenvl.data import DatasetUse  # noqa: E402  # isort: skip

pytestmark = pytest.mark.needs_torch


def row(video: str, **more) -> dict:
    turns = [{"from": "human", "value": "<video>\nQ"}, {"from": "gpt", "value": "(1.0, 0.1)"}]
    return {"id": "a", "video": video, "conversations": turns, **more}


def shades_of(clip: Clip) -> list[int]:
    """Index of each frame, read back from its grey level, 20 + 10 i; the white bar is below half of it."""
    return [round((float(np.median(frame)) - 20) / 10) for frame in clip.frames]


def test_a_cut_segment_is_read_whole_and_in_order(draw, tmp_path):
    draw(tmp_path / "a.mp4", 10, 64, 96, shade=20)
    (clip,) = read_clips(row("a.mp4"), Preprocessing(video_fps=10.0), [tmp_path])
    assert clip.frames.shape == (10, 64, 96, 3) and clip.frames.dtype == np.uint8
    assert shades_of(clip) == list(range(10))
    assert clip.fps == 10.0


def test_a_row_that_points_into_a_recording_reads_its_second(draw, tmp_path):
    draw(tmp_path / "a.mp4", 20, 64, 96, shade=20)
    (clip,) = read_clips(
        row("a.mp4", video_start=1.0, video_end=2.0), Preprocessing(video_fps=10.0, video_min_frames=4), [tmp_path]
    )
    assert shades_of(clip) == list(range(10, 20))
    assert clip.fps == 10.0


def test_a_row_that_lists_its_frames_reads_exactly_those(draw, tmp_path):
    draw(tmp_path / "a.mp4", 20, 64, 96, shade=20)
    chosen = row("a.mp4", video_start=0.5, video_end=1.0, frame_indices=[5, 7, 8, 9, 11])
    (clip,) = read_clips(chosen, Preprocessing(video_fps=10.0, video_min_frames=4), [tmp_path])
    assert shades_of(clip) == [5, 7, 8, 9, 11]
    assert clip.fps == 10.0


def test_a_picture_folder_is_a_video_whose_row_lists_the_frames(tmp_path):
    from PIL import Image

    (tmp_path / "frames").mkdir()
    for index in range(6):
        Image.fromarray(np.full((64, 96, 3), 20 + 10 * index, np.uint8)).save(tmp_path / f"frames/{index:03d}.png")
    chosen = row("frames", video_start=0.0, video_end=0.4, frame_indices=[1, 2, 3, 4])
    (clip,) = read_clips(chosen, Preprocessing(video_fps=10.0, video_min_frames=2), [tmp_path])
    assert shades_of(clip) == [1, 2, 3, 4]


def test_a_window_that_ends_before_it_starts_is_refused(draw, tmp_path):
    draw(tmp_path / "a.mp4", 4, 64, 96, shade=20)
    with pytest.raises(VideoError, match="a: video_start 1.0 is not before video_end 0.5"):
        read_clips(row("a.mp4", video_start=1.0, video_end=0.5), Preprocessing(), [tmp_path])


def test_fewer_frames_are_spread_over_the_clip_and_the_rate_says_so(draw, tmp_path):
    draw(tmp_path / "a.mp4", 10, 64, 96, shade=20)
    few = Preprocessing(video_fps=10.0, video_max_frames=5, video_min_frames=2)
    (clip,) = read_clips(row("a.mp4"), few, [tmp_path])
    assert shades_of(clip) == [0, 2, 4, 6, 8]
    assert clip.fps == 5.0


def test_a_slow_camera_gives_what_it_has_and_its_own_rate(draw, tmp_path):
    draw(tmp_path / "a.mp4", 10, 64, 96, shade=20)  # 10 frames a second where 30 are asked for
    (clip,) = read_clips(row("a.mp4"), Preprocessing(), [tmp_path])
    assert len(clip.frames) == 10
    assert clip.fps == 10.0


def test_frames_come_at_the_size_of_the_budget(draw, tmp_path):
    draw(tmp_path / "a.mp4", 4, 256, 448, shade=20)
    small = Preprocessing(video_fps=10.0, video_frame_pixels=28_672)
    (clip,) = read_clips(row("a.mp4"), small, [tmp_path])
    assert clip.frames.shape[1:3] == (128, 224)


def test_folders_are_tried_in_order_and_then_the_working_directory(tmp_path, monkeypatch):
    for name in ("first", "second", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").touch()
    monkeypatch.chdir(tmp_path / "here")
    folders = [tmp_path / "first", tmp_path / "second"]
    assert find_media("a.mp4", folders) == tmp_path / "first" / "a.mp4"
    (tmp_path / "first" / "a.mp4").unlink()
    assert find_media("a.mp4", folders) == tmp_path / "second" / "a.mp4"
    (tmp_path / "second" / "a.mp4").unlink()
    assert find_media("a.mp4", folders) == Path("a.mp4")
    (tmp_path / "here" / "a.mp4").unlink()
    with pytest.raises(VideoError, match="a.mp4 is not there .*first.*second"):
        find_media("a.mp4", folders)


def test_altered_frames_can_be_given_in_place_of_the_files(processor, draw, tmp_path):
    draw(tmp_path / "a.mp4", 4, 64, 96, shade=20)
    preprocessing = Preprocessing(video_fps=10.0)
    (clip,) = read_clips(row("a.mp4"), preprocessing, [tmp_path])
    mirrored = clip._replace(frames=clip.frames[:, :, ::-1])
    sample = build_inputs(row("nowhere.mp4"), processor, preprocessing, with_answer=False, clips=[mirrored])
    assert np.array_equal(sample["videos"][0].numpy(), clip.frames[:, :, ::-1])
    assert set(sample["labels"].tolist()) == {-100}


def test_a_sample_reports_its_counts_and_shows_what_is_supervised(processor, draw, tmp_path):
    draw(tmp_path / "a.mp4", 4, 64, 96, shade=20)
    sample = build_inputs(row("a.mp4"), processor, Preprocessing(video_fps=10.0), with_answer=True, folders=[tmp_path])
    counts = describe_sample(sample)
    assert counts["videos"] == [[4, 64, 96]]
    assert counts["visual_tokens"] == 2 * 2 * 3  # frame pairs x rows x columns of 32 px
    assert counts["supervised_tokens"] == 10 + 1  # ( 1 . 0 ,  space 0 . 1 ) and the end token
    shown = format_sample(sample, processor.tokenizer)
    assert "[[(1.0, 0.1)<|im_end|>]]" in shown
    assert "(6 visual tokens)" in shown


def test_the_prompts_hash_is_the_same_with_and_without_answer_and_changes_with_the_frames(processor, draw, tmp_path):
    draw(tmp_path / "a.mp4", 4, 64, 96, shade=20)
    ten_fps = Preprocessing(video_fps=10.0)
    (clip,) = read_clips(row("a.mp4"), ten_fps, [tmp_path])

    def hash_of(clip, with_answer):
        sample = build_inputs(row("a.mp4"), processor, ten_fps, with_answer=with_answer, clips=[clip])
        return hash_prompt(sample, processor.tokenizer)

    assert hash_of(clip, True) == hash_of(clip, False)
    assert hash_of(clip, True) != hash_of(clip._replace(frames=clip.frames[:2]), True)
    assert hash_of(clip, True) != hash_of(clip._replace(fps=30.0), True)


def test_a_still_image_is_shown_at_the_processors_size(processor, tmp_path):
    from PIL import Image

    Image.fromarray(np.full((90, 130, 3), 77, np.uint8)).save(tmp_path / "a.png")
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A car"}]
    record = {"id": "a", "image": "a.png", "conversations": turns}
    bounds = Preprocessing(max_pixels=64 * 96, min_pixels=1024)
    sample = build_inputs(record, processor, bounds, with_answer=True, folders=[tmp_path])
    assert [tuple(image.shape) for image in sample["images"]] == [(1, 64, 64, 3)]
    assert int((sample["mm_token_type_ids"] == 1).sum()) == 4


def test_a_bad_row_is_a_bad_sample_and_a_fault_of_ours_is_raised(processor, tmp_path, monkeypatch):
    dataset = DrivingDataset([row("gone.mp4")], [(tmp_path,)], processor, Preprocessing(), 4096)
    found = dataset[0]
    assert isinstance(found, BadSample) and found.id == "a" and "gone.mp4 is not there" in found.reason

    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("qwenvl.data.dataset.read_clips", broken)
    with pytest.raises(ZeroDivisionError):
        dataset[0]


def test_the_cache_gives_back_what_was_written_and_nothing_else():
    cache = FrameCache(3, (2, 4, 4, 3))
    frames = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    cache.write(1, Clip(frames, 10.0))
    assert cache.read(0) is None and cache.read(2) is None
    assert np.array_equal(cache.read(1).frames, frames) and cache.read(1).fps == 10.0
    cache.write(2, Clip(frames[:1], 10.0))
    assert cache.read(2) is None
    assert FrameCache.count_bytes(1900, (30, 128, 224, 3)) == 4_902_912_000


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is not JSON"), ("{}", "must hold a list of rows"), ("[1]", "must hold a list"), ("[]", "holds no rows")],
)
def test_a_training_json_that_is_none_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(RecordError, match=f"train.json {message}"):
        read_records(tmp_path / "train.json")


def test_a_missing_training_json_says_what_writes_it(tmp_path):
    with pytest.raises(RecordError, match="does not exist; ./convert_to_training_format.py writes it"):
        read_records(tmp_path / "train.json")


def test_json_lines_are_read_too_and_rows_without_id_get_one(tmp_path):
    without_id = {key: value for key, value in row("a.mp4").items() if key != "id"}
    (tmp_path / "t.jsonl").write_text(json.dumps(without_id) + "\n\n" + json.dumps(row("b.mp4")) + "\n")
    assert [record["id"] for record in read_records(tmp_path / "t.jsonl")] == ["t:0", "a"]


def test_a_line_separator_inside_a_row_is_no_new_line(tmp_path):
    text = json.dumps({"id": "a", "conversations": "before\u2028after"}, ensure_ascii=False)
    (tmp_path / "rows.jsonl").write_text(text + "\n", encoding="utf-8")
    assert [row["conversations"] for row in read_records(tmp_path / "rows.jsonl")] == ["before\u2028after"]


def test_rows_are_judged_before_the_first_step(training_json):
    rows = json.loads(training_json.read_text())
    assert len(rows) == 10
    use = DatasetUse(str(training_json), training_json, Path(""), 200.0)
    loaded = load_rows([use], seed=1)
    assert len(loaded.records) == 20 and loaded.skips == []
    assert loaded.groups == [f"clip0{index}" for index in range(5)]


def test_no_usable_row_at_all_is_an_error_with_the_first_reason(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps([row("gone.mp4")]))
    with pytest.raises(RecordError, match="none of 1 rows can be used; the first: a: gone.mp4 is not there"):
        load_rows([DatasetUse("x", tmp_path / "train.json", Path(""))], seed=1)


def test_the_answer_format_is_read_from_beside_the_training_json(tmp_path):
    assert read_answer_format(tmp_path) is None
    (tmp_path / "dataset.json").write_text('{"answer_format": {"name": "signed", "num_pairs": 10}}')
    assert read_answer_format(tmp_path) == {"name": "signed", "num_pairs": 10}
    (tmp_path / "dataset.json").write_text("[")
    with pytest.raises(RecordError, match="dataset.json is not a JSON object"):
        read_answer_format(tmp_path)


def test_a_byte_order_mark_in_front_of_a_training_json_is_no_fault(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps([row("a.mp4")]), encoding="utf-8-sig")
    assert read_records(tmp_path / "train.json") == [row("a.mp4")]


def test_a_folder_in_place_of_a_training_json_is_named(tmp_path):
    with pytest.raises(RecordError, match=f"{tmp_path} is a folder; give the training JSON in it"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"frame_indices": []}, r"a: frame_indices \[\] must be a list of frame numbers, at least one"),
        ({"frame_indices": [-1]}, r"a: frame_indices \[-1\] must be"),
        ({"video_start": "x", "video_end": 2.0}, "a: video_start 'x' is not a number of seconds"),
        ({"video_start": float("nan"), "video_end": 2.0}, "a: video_start 'nan' is not a number of seconds"),
        ({"video": "v" * 5000}, "v{120}... cannot be looked for: File name too long .5,000 characters"),
    ],
)
def test_a_row_that_cannot_choose_its_frames_is_in_the_ledger(draw, tmp_path, more, reason):
    draw(tmp_path / "a.mp4", 10, 64, 96, shade=20)
    good, bad = {**row("a.mp4"), "id": "good"}, {**row("a.mp4"), **more}
    (tmp_path / "train.json").write_text(json.dumps([good, bad]))
    rows = load_rows([DatasetUse("mine", tmp_path / "train.json", tmp_path)], 42)
    assert [record["id"] for record in rows.records] == ["good"]
    (skip,) = rows.skips
    assert re.match(reason, skip.reason)


def test_a_training_json_of_an_index_cut_is_named_where_the_plain_one_is_asked_for(tmp_path):
    (tmp_path / "train.index.json").write_text("[]")
    with pytest.raises(RecordError, match=r"train.json does not exist; there is .*train.index.json, name that"):
        read_records(tmp_path / "train.json")


def test_datasets_of_two_answer_formats_are_refused_by_name(draw, tmp_path):
    uses = []
    for name, num_pairs in (("ten", 10), ("thirty", 30)):
        draw(tmp_path / name / "a.mp4", 4, 64, 96, shade=20)
        (tmp_path / name / "train.json").write_text(json.dumps([row("a.mp4")]))
        (tmp_path / name / "dataset.json").write_text(json.dumps({"answer_format": {"num_pairs": num_pairs}}))
        uses.append(DatasetUse(name, tmp_path / name / "train.json", Path("")))
    with pytest.raises(RecordError, match=r"ten asks for answers as .*10.*, thirty as .*30"):
        load_rows(uses, seed=1)
    assert load_rows([uses[0], uses[0]], seed=1).answer_format == {"num_pairs": 10}


@pytest.fixture
def two_tracks(draw, tmp_path) -> dict[str, DatasetUse]:
    """The same clip asked about with and without its ego history."""
    uses = {}
    for name, pairs in (("silent", 0), ("told", 1)):
        draw(tmp_path / name / "a.mp4", 4, 64, 96, shade=20)
        answer_format = AnswerFormat(num_pairs=1, fps=10.0, history_pairs=pairs)
        question = build_question(answer_format, Trajectory.from_pairs([[8.0, 0.01]]))
        turns = [{"from": "human", "value": f"<video>\n{question}"}, {"from": "gpt", "value": "[(8.1, 0.0100)]"}]
        (tmp_path / name / "train.json").write_text(json.dumps([{**row("a.mp4"), "conversations": turns}]))
        (tmp_path / name / "dataset.json").write_text(json.dumps({"answer_format": answer_format.to_json()}))
        uses[name] = DatasetUse(name, tmp_path / name / "train.json", Path(""))
    return uses


def test_datasets_of_two_tracks_are_not_trained_on_together(two_tracks):
    with pytest.raises(RecordError, match="told tells the ego motion .*, silent does not: these are two tracks; train"):
        load_rows(list(two_tracks.values()), seed=1)


def test_a_run_knows_its_track_by_the_answer_format(two_tracks):
    assert load_rows([two_tracks["told"]], seed=1).answer_format["history_pairs"] == 1
    assert "history_pairs" not in load_rows([two_tracks["silent"]], seed=1).answer_format


def test_a_row_of_the_other_track_is_not_trained_on(two_tracks):
    path = two_tracks["told"].annotation_path
    (good,) = json.loads(path.read_text())
    stray = {**remove_history(good), "id": "stray"}
    path.write_text(json.dumps([good, stray]))
    rows = load_rows([two_tracks["told"]], seed=1)
    assert len(rows.records) == 1
    assert [skip.id for skip in rows.skips] == ["stray"]
    assert "its prompt does not tell the ego motion" in rows.skips[0].reason


def test_an_answer_format_that_is_no_object_is_refused(two_tracks):
    path = two_tracks["told"].annotation_path.parent / "dataset.json"
    path.write_text('{"answer_format": "signed"}')
    with pytest.raises(RecordError, match="answer_format in .*dataset.json is not a JSON object"):
        load_rows([two_tracks["told"]], seed=1)


def test_two_rows_under_one_id_are_told_apart_and_a_row_used_twice_is_not(training_json, tmp_path):
    rows = json.loads(training_json.read_text())[:3]
    rows[2]["id"] = rows[0]["id"]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(rows))
    loaded = load_rows([DatasetUse("mine", path, training_json.parent, 200.0)], seed=1)
    first, second = rows[0]["id"], rows[1]["id"]
    third = f"{first} ({path}, row 2)"
    assert [row["id"] for row in loaded.records] == [first, first, second, second, third, third]
