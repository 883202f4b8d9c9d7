"""BDD100K through the door: segments with facts, none with labels, and what is said about it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from phone_log import draw_mov, fixes, write_log

from data_prep import hf_dataset, segment_options
from driving.errors import DrivingError
from driving.ledger import read_ledger
from video_io import read_clip

A, B = "0000f77c-6257be58", "b1c66a42-6f7d68ca"


def cut(folder, *flags):
    """Run the door on `folder`/bdd100k; the index."""
    argv = ["--input_dir", str(folder / "bdd100k"), "--output_dir", str(folder / "out"), "--fps", "10"]
    argv += ["--video-frame-pixels", "4096", "--workers", "1", "--allow-one-recording"]
    assert segment_options.main([*argv, *flags]) == 0
    return pd.read_parquet(folder / "out" / "metadata" / "segments.parquet")


def write(folder, name=A, split="train", video=None, **log):
    draw_mov(folder / f"bdd100k/videos/{split}/{name}.mov", **(video or {}))
    write_log(folder / f"bdd100k/info/100k/{split}/{name}.json", **log)


def last_line(capsys):
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_the_source_is_detected_and_the_last_line_says_that_there_are_no_labels(tmp_path, capsys):
    write(tmp_path)
    draw_mov(tmp_path / f"bdd100k/videos/test/{B}.mov", seconds=4)  # its log is withheld
    rows = cut(tmp_path)
    assert last_line(capsys) == (
        "12 segments from 2 recordings, 0 skipped (see skipped.jsonl); none with (velocity, curvature) labels, "
        "9 with motion facts"
    )
    assert set(rows["source"]) == {"bdd100k"} and not rows["has_labels"].any() and rows["targets"].isna().all()
    assert dict(zip(rows["clip_uuid"], rows["split"], strict=True)) == {A: "train", B: "test"}
    assert set(rows["group"]) == {"0000f77c", "b1c66a42"}


def test_each_segment_tells_its_second_the_next_and_the_whole_recording(tmp_path):
    # 8 m/s, brakes to a stop from 2 s to 4 s, stands until 7 s, drives off to the right.
    speeds = [8, 8, 8, 4, 0, 0, 0, 0, 4, 8, 8]
    course = [10, 10, 10, 10, -1, -1, -1, -1, 30, 70, 90]
    write(tmp_path, locations=fixes(lambda t: speeds[t], lambda t: course[t]))
    rows = cut(tmp_path)
    assert [list(facts) for facts in rows["observed_facts"]] == [
        ["drives", "straight"], ["drives", "straight"],
        ["brakes", "drives", "straight"], ["brakes", "stops", "drives", "turn_unknown"],
        ["stops"], ["stops"], ["stops"],
        ["accelerates", "starts", "drives", "turn_unknown"], ["accelerates", "drives", "turns_right"],
    ]  # fmt: skip
    assert list(map(list, rows["target_facts"][:-1])) == list(map(list, rows["observed_facts"][1:]))
    assert {tuple(facts) for facts in rows["clip_facts"]} == {
        ("accelerates", "brakes", "stops", "starts", "turns_right")
    }
    (note,) = read_ledger(tmp_path / "out" / "skipped.jsonl")
    assert note.values == {"num_unknown": 2}  # the turn is before the stop or after it


def test_what_is_not_known_is_a_note_in_the_ledger_and_the_segments_are_there(tmp_path, capsys):
    write(tmp_path, locations=fixes(lambda t: -1 if 3 <= t <= 5 else 10))
    rows = cut(tmp_path)
    assert len(rows) == 9
    assert [list(facts) for facts in rows["observed_facts"][1:4]] == [
        ["drives", "straight"], ["speed_unknown", "turn_unknown"], ["speed_unknown", "turn_unknown"],
    ]  # fmt: skip
    assert rows["clip_facts"].isna().all()
    (note,) = read_ledger(tmp_path / "out" / "skipped.jsonl")
    assert (note.id, note.stage, note.values) == (A, "facts", {"num_unknown": 4})
    assert note.reason == (
        "8 of 11 fixes of locations tell a speed (3 speed -1); motion facts of 4 of 9 segments are not known"
    )
    assert "9 segments from 1 recordings, 0 skipped" in last_line(capsys)


def test_fixes_that_do_not_reach_the_ends_are_said(tmp_path):
    write(tmp_path, locations=fixes(lambda t: 10, seconds=[t + 0.5 for t in range(10)]))
    assert list(cut(tmp_path)["observed_facts"][0]) == ["speed_unknown", "turn_unknown"]
    (note,) = read_ledger(tmp_path / "out" / "skipped.jsonl")
    assert note.reason == (
        "fixes do not reach its ends, or lie too far apart; motion facts of 1 of 9 segments are not known"
    )


def test_a_log_of_another_length_than_its_video_is_not_believed(tmp_path):
    write(tmp_path, video={"seconds": 5})
    assert list(cut(tmp_path)["observed_facts"][1]) == ["speed_unknown", "turn_unknown"]
    (note,) = read_ledger(tmp_path / "out" / "skipped.jsonl")
    assert note.reason.startswith("the video lasts 5.0 s, its log says 10.0 s, so nothing tells which part of it")


def test_a_run_that_was_stopped_keeps_the_recordings_whose_facts_are_not_known(tmp_path, monkeypatch, capsys):
    for name in (A, B):
        draw_mov(tmp_path / f"bdd100k/videos/test/{name}.mov", seconds=4)
    monkeypatch.setattr("data_prep.segments.write_index", lambda *_: 1 / 0)  # stopped when both are cut
    with pytest.raises(ZeroDivisionError):
        cut(tmp_path)
    monkeypatch.undo()
    assert len(cut(tmp_path)) == 6
    assert "continuing: 2 of 2 recordings are done" in capsys.readouterr().out


def test_facts_are_read_by_the_container_s_times_not_by_counting_frames(tmp_path):
    # 5 frames a second for 4 s, then 20; the container starts at 7 s. Brakes from 5 s to 6 s.
    times = [*np.arange(20) / 5, *(4 + np.arange(120) / 20)]
    write(
        tmp_path,
        video={"times_s": times, "first_s": 7.0},
        locations=fixes(lambda t: 12 if t <= 5 else 9),
    )
    rows = cut(tmp_path, "--fps", "5")
    assert [list(facts)[0] for facts in rows["observed_facts"]] == ["drives"] * 5 + ["brakes"] + ["drives"] * 3
    frames = read_clip(rows["video_path"][5], fps=5, num_frames=5)
    # 5.0 s is frame 40, then every fourth; grey is 10 + i
    assert np.abs(frames.mean((1, 2, 3)) - 10 - [40, 44, 48, 52, 56]).max() < 1.5


def test_a_phone_that_was_turned_gives_upright_segments(tmp_path):
    write(tmp_path, video={"rotation": 90})
    rows = cut(tmp_path, "--cut", "index")
    assert set(zip(rows["height"], rows["width"], strict=True)) == {(64, 48)}


def test_a_broken_video_is_in_the_ledger_with_its_name(tmp_path):
    write(tmp_path)
    (tmp_path / f"bdd100k/videos/val/{B}.mov").parent.mkdir()
    (tmp_path / f"bdd100k/videos/val/{B}.mov").write_bytes(b"no video")
    assert len(cut(tmp_path)) == 9
    (skip,) = read_ledger(tmp_path / "out" / "skipped.jsonl")
    assert skip.id == B and "cannot be read as a video" in skip.reason


def test_the_dataset_of_pairs_refuses_them(tmp_path):
    write(tmp_path)
    cut(tmp_path)
    argv = ["--segments-path", str(tmp_path / "out"), "--output-dir", str(tmp_path / "set"), "--fps", "10"]
    with pytest.raises(DrivingError, match=r"none of the 9 segments has labels \(source: bdd100k\)"):
        hf_dataset.main(argv)


def test_ego_motion_below_five_times_a_second_gives_facts_and_no_labels(tmp_path):
    from data_prep.segment_plan import SegmentRules, plan_recording
    from driving.ego_motion import EgoMotion
    from driving.recording import Recording, RecordingRef, VideoAddress

    def plan(hz):
        times_us = np.arange(0, 10_000_001, 1_000_000 // hz)
        position = np.stack([times_us * 1e-6 * 8, 0 * times_us, 0 * times_us], axis=1)
        motion = EgoMotion(times_us, position, np.tile([0.0, 0, 0, 1], (len(times_us), 1)))
        ref = RecordingRef("a", "kitti", "a")
        recording = Recording(ref, VideoAddress("a.mp4"), None, None, motion)
        return plan_recording(recording, np.arange(100) * 100_000, SegmentRules(10, 1, 0.75, 1.0, "pose"))

    segments, (note,) = plan(2)
    assert segments[3].labels is None and segments[3].facts.observed == ["drives", "straight"]
    assert "ego motion comes 2.0 times a second, labels need 5: facts only" in note.reason
    segments, skips = plan(5)
    assert segments[3].labels is not None and (segments[3].facts, skips) == (None, [])
