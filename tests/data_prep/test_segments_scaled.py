"""`--cut scaled` from recordings to archives: what is written, and what a kill, a full disk or damage leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cutting import FPS, SEGMENTS, cut, draw_recording, draw_recordings, read_rows
from killing import read_tree, run_killed_at_rename

from data_prep import chunks, scaled_video, segment_index
from data_prep.chunk_videos import is_packed
from data_prep.segment_table import open_segments
from data_prep.synthetic import constant_motion, write_dataset
from driving.errors import LedgerError, VideoError
from driving.recording import VideoAddress
from video_io import VideoEncoder, check_crc, decode_frames, read_clip

NAMES = "abcde"


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Five videos in rec/, two to a chunk; the test runs beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunks, "RECORDINGS_PER_CHUNK", 2)
    return draw_recordings(tmp_path, "abcde")


def cut_scaled(output="out", **options):
    return cut(output, **{"cut": "scaled"} | options)


def stop_before_the_index():
    """A run in which every chunk is finished, and that does not come to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.segments.write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cut_scaled()


def read_greys(row):
    frames = read_clip(
        row["video_path"], fps=FPS, num_frames=FPS, member=row["member"], frame_indices=row["frame_indices"]
    )
    return frames.mean((1, 2, 3))


def list_members(path):
    with zipfile.ZipFile(path) as archive:
        return archive.infolist()


def test_a_chunk_is_one_archive_of_stored_sorted_undated_members(recordings):
    cut_scaled()
    assert sorted(path.name for path in Path("out/videos").iterdir()) == [f"batch_0000{n}.zip" for n in range(3)]
    members = [member for n in range(3) for member in list_members(f"out/videos/batch_0000{n}.zip")]
    assert [member.filename for member in members] == [f"{name}.mp4" for name in NAMES]
    assert {(member.compress_type, member.date_time) for member in members} == {
        (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
    }
    assert not Path("out/video_segments").exists()


def test_rows_name_archive_member_time_and_frames_from_where_the_user_stands(recordings):
    cut_scaled("some/where")
    row = read_rows("some/where")[3 * SEGMENTS + 1]
    assert (row["segment_uuid"], row["video_path"], row["member"]) == (
        "d_seg_01", "some/where/videos/batch_00001.zip", "d.mp4",
    )  # fmt: skip
    assert (row["video_start"], row["video_end"], row["frame_indices"]) == (1.0, 2.0, list(range(10, 20)))


def test_every_row_reads_the_frames_of_its_second(recordings):
    cut_scaled()
    rows = read_rows()
    assert len(rows) == len(NAMES) * SEGMENTS
    first_grey = dict(zip(NAMES, (10, 30, 50, 70, 90), strict=True))
    for row in rows:
        expected = first_grey[row["clip_uuid"]] + 4 * np.arange(10 * row["start_second"], 10 * row["start_second"] + 10)
        assert np.abs(read_greys(row) - expected).max() < 2


def test_rows_of_resized_differ_only_in_where_the_pixels_are(recordings):
    cut_scaled("scaled")
    cut("resized")
    places = ("video_path", "member", "video_start", "video_end", "frame_indices")
    scaled, resized = ([{**row, **dict.fromkeys(places)} for row in read_rows(name)] for name in ("scaled", "resized"))
    assert scaled == resized


def test_a_folder_that_moves_with_where_the_user_stands_is_read_all_the_same(recordings, tmp_path, monkeypatch):
    cut_scaled()
    before = read_greys(read_rows()[4])
    (tmp_path / "elsewhere").mkdir()
    shutil.move("out", "elsewhere/out")
    shutil.rmtree("rec")
    monkeypatch.chdir("elsewhere")
    assert np.array_equal(read_greys(read_rows()[4]), before)


def test_a_recording_that_cannot_be_used_has_no_member(recordings):
    (recordings / "c.mp4").write_bytes(b"no video")
    (recordings / "e.mp4").write_bytes(b"no video")
    cut_scaled()
    assert [member.filename for member in list_members("out/videos/batch_00001.zip")] == ["d.mp4"]
    assert not Path("out/videos/batch_00002.zip").exists()


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(recordings):
    cut_scaled("out")
    one = read_tree(Path("out"))
    os.rename("out", "one")
    cut_scaled("out", workers=3)
    assert read_tree(Path("out")) == one


def test_a_complete_folder_is_left_untouched_and_other_pixels_are_another_plan(recordings, capsys):
    cut_scaled()
    before = read_tree(Path("out"))
    cut_scaled()
    assert "already complete" in capsys.readouterr().out
    assert read_tree(Path("out")) == before
    with pytest.raises(LedgerError, match="video_frame_pixels"):
        cut_scaled(video_frame_pixels=4096)


# What a kill, a full disk or damage leaves.


@pytest.mark.slow
def test_killed_at_every_rename_the_next_run_ends_the_same(recordings):
    (recordings / "bad.mp4").write_bytes(b"no video")
    cut_scaled()
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    num_killed = 0
    while run_killed_at_rename(cut_scaled, num_killed):
        cut_scaled()
        assert read_tree(Path("out")) == whole
        num_killed += 1
        os.rename("out", f"killed_{num_killed}")
    # plan, videos, parts, (archive, rows, facts) of each chunk; ledger, chunks.jsonl, json, motion, index, commands,
    # manifest
    assert num_killed == 1 + 5 + 6 + 3 * 3 + 7


def test_killed_again_and_again_the_run_still_gets_on(recordings):
    cut_scaled()
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    num_runs = 0
    while run_killed_at_rename(cut_scaled, 7):  # every attempt at its eighth rename: the last stage has seven
        num_runs += 1
        assert num_runs < 20
    assert read_tree(Path("out")) == whole


@pytest.mark.slow
def test_killed_at_ten_random_moments_archives_and_index_are_whole(tmp_path, monkeypatch, repository):
    """Eight recordings in the chunks of a PhysicalAI-AV download, two workers, all processes killed at once."""
    monkeypatch.chdir(tmp_path)
    motions = [constant_motion(8.0 + number, 0.01) for number in range(8)]
    write_dataset(Path("rec"), motions, seconds=5, height=64, width=112, clips_per_chunk=2)
    command = [sys.executable, str(repository / "prepare_video_segments.py"), "--input-dir", "rec", "--cut", "scaled"]
    command += ["--output-dir", "out", "--fps", "10", "--video-frame-pixels", "8192", "--workers", "2"]
    subprocess.run(command, check=True, capture_output=True)
    whole = read_tree(Path("out"))
    assert sum(name.startswith("videos/chunk_") for name in whole) == 4
    shutil.rmtree("out")
    rng = np.random.default_rng(1)
    for _ in range(10):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(rng.uniform(1.0, 3.5))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert read_tree(Path("out")) == whole


def test_finished_chunks_are_not_cut_again(recordings, monkeypatch):
    stop_before_the_index()
    before = {path: path.stat().st_mtime_ns for path in Path("out/videos").glob("*.zip")}
    monkeypatch.setattr("data_prep.segment_places.encode_scaled", lambda *_, **__: 1 / 0)
    cut_scaled()
    assert {path: path.stat().st_mtime_ns for path in Path("out/videos").glob("*.zip")} == before


def damage_end(path):
    path.write_bytes(path.read_bytes()[:-30])


def damage_member(path):
    """One byte within the first member's pictures."""
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 40] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, damage_end])
def test_a_finished_chunk_without_a_whole_archive_is_made_again_and_the_others_stay(recordings, capsys, damage):
    cut_scaled()
    whole = read_tree(Path("out"))
    shutil.rmtree("out")
    stop_before_the_index()
    damage(Path("out/videos/batch_00001.zip"))
    cut_scaled()
    assert "continuing: 3 of 5 recordings are done" in capsys.readouterr().out
    assert read_tree(Path("out")) == whole


@pytest.mark.parametrize(("is_damaged", "num_kept"), [(False, 4), (True, 3)])
def test_a_mended_recording_joins_the_others_of_its_chunk_as_far_as_they_are_whole(
    recordings, capsys, is_damaged, num_kept
):
    good = (recordings / "d.mp4").read_bytes()
    cut_scaled("out")
    whole = read_tree(Path("out"))
    shutil.rmtree("out")
    (recordings / "d.mp4").write_bytes(bytes(len(good)))
    stop_before_the_index()
    if is_damaged:
        damage_member(Path("out/videos/batch_00001.zip"))  # holds c alone
    (recordings / "d.mp4").write_bytes(good)
    cut_scaled("out")
    assert f"continuing: {num_kept} of 5 recordings are done" in capsys.readouterr().out
    assert read_tree(Path("out")) == whole


def test_recordings_that_change_their_chunk_are_found_in_the_new_one(recordings):
    stop_before_the_index()
    draw_recording(recordings / "a0.mp4", first_grey=20)  # moves b, c, d and e one place on
    cut_scaled()
    assert [row["video_path"][-6:-4] + row["member"][0] for row in read_rows()[::SEGMENTS]] == [
        "00a", "00a", "01b", "01c", "02d", "02e",
    ]  # fmt: skip
    assert all(len(read_greys(row)) == FPS for row in read_rows())


@pytest.mark.parametrize("change", [Path.unlink, damage_end])
def test_a_complete_folder_whose_archive_is_gone_or_cut_short_is_made_whole_again(recordings, capsys, change):
    cut_scaled()
    whole = read_tree(Path("out"))
    change(Path("out/videos/batch_00000.zip"))
    cut_scaled()
    assert "videos/batch_00000.zip is missing or of another size" in capsys.readouterr().out
    assert read_tree(Path("out")) == whole


def test_of_a_large_run_only_the_chunk_whose_archive_is_damaged_is_cut_again(recordings, capsys, monkeypatch):
    monkeypatch.setattr(segment_index, "MAX_FILE_ROWS", 1)
    cut_scaled()
    whole = read_tree(Path("out"))
    damage_end(Path("out/videos/batch_00001.zip"))
    cut_scaled()
    assert "continuing: 3 of 5 recordings are done" in capsys.readouterr().out
    assert read_tree(Path("out")) == whole
    (rows,) = open_segments(Path("out")).iter_tables([False] * 6 + [True] + [False] * 8)
    assert np.abs(read_greys(rows.to_pylist()[0]) - (50 + 4 * np.arange(10))).max() < 2  # the first second of c


def test_a_changed_byte_is_found_by_the_checksum(recordings):
    cut_scaled()
    damage_member(Path("out/videos/batch_00000.zip"))
    assert is_packed(Path("out"), "batch_00000", {"a", "b"})
    check_crc(VideoAddress("out/videos/batch_00000.zip", "b.mp4"))
    with pytest.raises(VideoError, match=r"batch_00000\.zip:a\.mp4 cannot be read from its archive"):
        check_crc(VideoAddress("out/videos/batch_00000.zip", "a.mp4"))


def test_a_disk_that_is_full_while_a_video_is_written_stops_the_run_and_it_goes_on(recordings):
    cut_scaled()
    whole = read_tree(Path("out"))
    shutil.rmtree("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaled_video, "VideoEncoder", lambda _, *args, **more: VideoEncoder("/dev/full", *args, **more))
        with pytest.raises(LedgerError, match=r"the disk is full while writing out/videos/waiting/a\.mp4; make room"):
            cut_scaled()
    assert not any(Path("out").rglob("*.mp4")) and not any(Path("out").rglob("*.part"))
    cut_scaled()
    assert read_tree(Path("out")) == whole


def test_a_disk_that_is_full_while_an_archive_is_packed_stops_the_run_and_it_goes_on(recordings):
    cut_scaled()
    whole = read_tree(Path("out"))
    shutil.rmtree("out")
    real_open = zipfile.ZipFile.open

    def fail(archive, member, mode="r", **options):
        if mode == "w":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_open(archive, member, mode, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", fail)
        with pytest.raises(LedgerError, match=r"the disk is full while writing out/videos/batch_00000\.zip; make room"):
            cut_scaled()
    assert sorted(path.name for path in Path("out/videos/waiting").iterdir())[:2] == ["a.mp4", "b.mp4"]
    cut_scaled()
    assert read_tree(Path("out")) == whole


def test_a_second_of_an_archive_is_what_the_file_of_resized_shows(recordings):
    cut_scaled("scaled")
    cut("resized")
    for scaled, resized in zip(read_rows("scaled"), read_rows("resized"), strict=True):
        from_archive = decode_frames(VideoAddress(scaled["video_path"], scaled["member"]), scaled["frame_indices"])
        from_file = decode_frames(VideoAddress(resized["video_path"]), range(FPS))
        assert np.abs(from_archive.astype(int) - from_file).max() <= 2
