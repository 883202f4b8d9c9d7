import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cutting import FPS, SEGMENTS, cut, draw_recording, draw_recordings, read_rows, without_plan
from killing import read_tree

from driving.errors import DrivingError, LedgerError
from driving.ledger import read_ledger
from driving.recording import VideoAddress
from video_io import decode_frames, probe_video, read_clip

NO_LABELS = "; none with (velocity, curvature) labels"


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Three videos in rec/; the test runs beside them."""
    monkeypatch.chdir(tmp_path)
    return draw_recordings(tmp_path)


# What is written.


def test_the_last_line_counts_segments_recordings_and_skips(recordings):
    (recordings / "d.mp4").touch()
    assert cut().message == "9 segments from 3 recordings, 1 skipped (see skipped.jsonl)" + NO_LABELS


def test_rows_are_in_order_and_point_to_files_from_where_the_user_stands(recordings):
    cut("some/where")
    rows = read_rows("some/where")
    assert [row["segment_uuid"] for row in rows] == [f"{clip}_seg_{n:02d}" for clip in "abc" for n in range(SEGMENTS)]
    assert rows[4]["video_path"] == "some/where/video_segments/b_seg_01.mp4"
    assert all(Path(row["video_path"]).is_file() for row in rows)
    assert (rows[4]["start_second"], rows[4]["num_frames"], rows[4]["fps"]) == (1.0, FPS, float(FPS))
    assert (rows[4]["height"], rows[4]["width"], rows[4]["group"], rows[4]["source"]) == (32, 64, "b", "folder")
    assert (rows[4]["has_labels"], rows[4]["targets"]) == (False, None)


def test_a_segment_shows_the_frames_of_its_second(recordings):
    cut()
    frames = read_clip("out/video_segments/a_seg_02.mp4", fps=FPS, num_frames=FPS)
    assert np.round((frames.mean((1, 2, 3)) - 10) / 4).tolist() == list(range(20, 30))


def test_the_json_twin_has_the_keys_of_the_seed_first(recordings):
    cut()
    rows = json.loads(Path("out/metadata/segments.json").read_text())
    assert list(rows[1])[:8] == [
        "segment_uuid", "clip_uuid", "start_second", "video_path", "target_velocity", "target_curvature",
        "target_velocity_raw", "target_curvature_raw",
    ]  # fmt: skip
    assert (rows[1]["segment_uuid"], rows[1]["clip_uuid"], rows[1]["start_second"]) == ("a_seg_01", "a", 1)
    assert rows[1]["target_velocity"] is None  # a folder of videos has no motion


def test_an_index_row_reads_the_same_frames_from_the_recording(recordings):
    cut(cut="index")
    row = read_rows()[1]
    assert not Path("out/video_segments").exists()
    assert (row["video_path"], row["video_start"], row["video_end"]) == ("rec/a.mp4", 1.0, 2.0)
    frames = read_clip(row["video_path"], fps=FPS, num_frames=FPS, frame_indices=row["frame_indices"])
    assert np.array_equal(frames, decode_frames(VideoAddress("rec/a.mp4"), range(10, 20)))
    by_time = read_clip(row["video_path"], fps=FPS, num_frames=FPS, start_s=row["video_start"], stop_s=row["video_end"])
    assert np.array_equal(frames, by_time)


def test_a_copied_segment_is_the_recording_bit_for_bit(recordings):
    draw_recording(recordings / "a.mp4", key_interval=FPS)
    cut(cut="copy")
    copied = decode_frames(VideoAddress("out/video_segments/a_seg_01.mp4"), range(FPS))
    assert np.array_equal(copied, decode_frames(VideoAddress("rec/a.mp4"), range(FPS, 2 * FPS)))
    assert read_rows()[1]["frame_indices"] is None


def test_auto_takes_the_rate_that_most_recordings_give(recordings):
    draw_recording(recordings / "c.mp4", fps=5)
    cut(fps="auto", max_bad_fraction=0.5)
    assert {row["fps"] for row in read_rows()} == {10.0}
    (skip,) = read_ledger(Path("out/skipped.jsonl"))
    assert (skip.id, skip.stage) == ("c", "frames")
    assert "recorded at 5.00 frames a second, this run asks for 10; pass --fps 5" in skip.reason


def test_max_clips_takes_the_first_by_name(recordings):
    cut(max_clips=2)
    assert {row["clip_uuid"] for row in read_rows()} == {"a", "b"}


def test_one_recording_alone_is_warned_of_and_the_flag_silences_it(recordings, capsys):
    cut("one", max_clips=1, allow_one_recording=False)
    assert "all segments are of one recording" in capsys.readouterr().out
    cut("two", max_clips=1)
    assert "one recording" not in capsys.readouterr().out


# Running twice.


def test_a_complete_folder_is_left_untouched(recordings, capsys):
    first = cut()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    assert cut() == first
    assert "already complete" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


def test_two_runs_and_any_number_of_workers_give_the_same_bytes(recordings):
    (recordings / "bad.mp4").write_bytes(b"no video")
    cut("out")
    first = read_tree(Path("out"))
    os.rename("out", "first")
    cut("out", workers=2)
    assert read_tree(Path("out")) == first


def test_other_options_are_refused_by_name(recordings):
    cut()
    with pytest.raises(
        LedgerError, match=r"out was made with duration = 1\.0, this run asks for 0\.5; pass --overwrite"
    ):
        cut(duration=0.5)
    assert cut(duration=0.5, overwrite_output=True).num_segments == 3 * 7


def test_other_input_is_refused_once_complete(recordings):
    cut()
    draw_recording(recordings / "d.mp4")
    with pytest.raises(LedgerError, match="was made from other recordings than those that are in rec now"):
        cut()


def test_a_folder_of_somebody_else_is_refused(recordings):
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("chapter 1")
    with pytest.raises(LedgerError, match=r"holds files that this tool did not write \(thesis\.txt"):
        cut()
    assert Path("out/thesis.txt").read_text() == "chapter 1"


@pytest.mark.parametrize(
    "output, complaint",
    [("rec", "rec is also what this run reads"), ("rec/segments", "lie in one another"), (".", "lie in one another")],
)
def test_segments_among_the_recordings_are_refused(recordings, output, complaint):
    with pytest.raises(LedgerError, match=f"{complaint}.* choose another output folder"):
        cut(output, overwrite_output=True)
    assert (recordings / "a.mp4").is_file()


def test_a_second_writer_is_refused(recordings):
    Path("out").mkdir()
    with open("out/.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match="another run is writing out"):
            cut()


# Bad input and bad luck.


def test_corrupt_recordings_are_in_the_ledger_by_name_and_the_others_in_the_index(recordings):
    whole = (recordings / "a.mp4").read_bytes()
    (recordings / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (recordings / "empty.mp4").touch()
    (recordings / "text.mp4").write_text("sign in first")
    cut(max_bad_fraction=0.9)
    assert [skip.id for skip in read_ledger(Path("out/skipped.jsonl"))] == ["cut", "empty", "text"]
    assert {row["clip_uuid"] for row in read_rows()} == {"a", "b", "c"}


def blank(path, first, last, key_interval=1):
    """Zero a share of a video's frame data; its header stays whole."""
    draw_recording(path, key_interval=key_interval)
    data = bytearray(path.read_bytes())
    start, stop = data.index(b"mdat") + 4, data.index(b"moov") - 4
    here = slice(start + int(first * (stop - start)), start + int(last * (stop - start)))
    data[here] = bytes(here.stop - here.start)
    path.write_bytes(data)


def test_a_recording_that_breaks_while_it_is_cut_loses_the_segments_over_the_break(recordings):
    blank(recordings / "b.mp4", 0.5, 0.52)  # of 40 frames, the 21st
    cut()
    (skip,) = read_ledger(Path("out/skipped.jsonl"))
    assert (skip.stage, "cannot be decoded at frame" in skip.reason) == ("cut", True)
    others = sorted({f"{clip}_seg_{n:02d}" for clip in "abc" for n in range(SEGMENTS)} - {skip.id})
    assert skip.id in ("b_seg_01", "b_seg_02")
    assert sorted(path.stem for path in Path("out/video_segments").iterdir()) == others
    assert [row["segment_uuid"] for row in read_rows()] == others


def test_what_is_decoded_after_a_break_is_not_believed_before_the_next_key_frame(recordings):
    blank(recordings / "b.mp4", 0.5, 0.52, key_interval=40)
    cut()
    kept = [row["segment_uuid"] for row in read_rows() if row["clip_uuid"] == "b"]
    assert kept in ([], ["b_seg_00"], ["b_seg_00", "b_seg_01"])


def test_a_recording_that_breaks_everywhere_leaves_no_segments(recordings):
    blank(recordings / "b.mp4", 0, 1)
    cut()
    (skip,) = read_ledger(Path("out/skipped.jsonl"))
    assert (skip.id, skip.stage) == ("b", "cut")
    assert sorted(path.name[0] for path in Path("out/video_segments").iterdir()) == ["a"] * 3 + ["c"] * 3


def test_too_much_bad_input_fails_at_the_end_and_what_was_cut_is_kept(recordings, capsys):
    for name in ("w", "x", "y", "z"):
        (recordings / f"{name}.mp4").touch()
    with pytest.raises(LedgerError, match=r"4 of 7 samples are bad .* see out/skipped\.jsonl, mend the input or raise"):
        cut()
    assert not Path("out/metadata/segments.parquet").exists()
    assert cut(max_bad_fraction=0.6).num_segments == 9
    assert "continuing: 3 of 7 recordings are done" in capsys.readouterr().out


def test_a_mended_recording_is_cut_when_the_run_goes_on(recordings):
    for name in ("w", "x", "y", "z"):
        (recordings / f"{name}.mp4").touch()
    with pytest.raises(LedgerError):
        cut()
    for place, name in enumerate(("w", "x", "y", "z")):
        draw_recording(recordings / f"{name}.mp4", first_grey=12 + place)
    assert cut().message == "21 segments from 7 recordings, 0 skipped (see skipped.jsonl)" + NO_LABELS


def test_nothing_usable_names_the_first_reason_and_frees_the_folder(recordings):
    with pytest.raises(
        DrivingError, match=r"no segment came out of 3 recordings .* reason: a: .*10\.00 frames a second"
    ):
        cut(fps=30.0)
    assert cut(fps=10.0).num_segments == 9


def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(recordings):
    cut("whole")
    real_fsync, calls = os.fsync, iter(range(1000))

    def fail_at_the_sixth(handle):
        if next(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail_at_the_sixth)
        with pytest.raises(LedgerError, match=r"the disk is full while writing out/.*; make room and run the same"):
            cut()
    cut()
    assert without_plan(read_tree(Path("out"))).keys() == without_plan(read_tree(Path("whole"))).keys()
    assert (
        Path("out/video_segments/b_seg_01.mp4").read_bytes() == Path("whole/video_segments/b_seg_01.mp4").read_bytes()
    )


def test_help_names_every_flag_with_dashes_and_underscores(repository):
    command = [sys.executable, str(repository / "prepare_video_segments.py"), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for flag in ("--input_dir", "--output-dir", "--max_clips", "--fps", "--cut", "--source", "--camera", "--workers"):
        assert flag in text


@pytest.mark.parametrize("fps", ["0", "-3", "fast", "nan"])
def test_a_rate_that_is_none_is_a_usage_mistake(repository, fps):
    command = [sys.executable, str(repository / "prepare_video_segments.py"), f"--fps={fps}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "is neither a frame rate in Hz nor auto" in result.stderr


def test_probing_a_segment_tells_what_the_row_says(recordings):
    cut()
    row = read_rows()[0]
    info = probe_video(VideoAddress(row["video_path"]))
    assert (info.num_frames, info.height, info.width) == (row["num_frames"], row["height"], row["width"])


def test_a_segment_that_is_gone_is_cut_again(recordings, capsys):
    cut()
    before = read_tree(Path("out"))
    Path("out/video_segments/b_seg_01.mp4").unlink()
    Path("out/video_segments/c_seg_00.mp4").write_bytes(b"")
    assert cut().num_segments == 9
    assert "video_segments/b_seg_01.mp4 and 1 more are missing or of another size" in capsys.readouterr().out
    assert read_tree(Path("out")) == before
