from pathlib import Path

import av
import numpy as np
import pytest
from numbering import HEIGHT, WIDTH, draw_number, read_numbers, write_numbered

from data_prep.chunk_videos import waiting_path
from data_prep.scaled_video import KEY_INTERVAL, ScaledPlan, encode_scaled
from data_prep.segment_plan import SegmentRules
from data_prep.segment_rows import read_part_facts, read_part_table
from data_prep.segment_work import CutJob, cut_recording, give_up_recording
from data_prep.sources import find_source
from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import decode_frames, probe_video, read_clip, write_video
from video_io.decode_pyav import iter_decoded
from video_io.scale import FrameScaler, read_planes


def cut(root: Path, how: str, fps: float, **changes) -> list[dict]:
    """Cut the one recording under `root` into root/../`how`; returns the rows of its part."""
    (ref,) = find_source("folder", root).plan(root)
    rules = SegmentRules(fps, 1.0, 0.75, 0.25, "pose")
    output = root.parent / how
    cut_recording(CutJob(ref, "", rules, how, HEIGHT * WIDTH, output, **changes))
    return read_part_table(output / "metadata" / "recordings" / "a.arrow").to_pylist()


def read_scaled(root: Path, row: dict, by_time: bool = False) -> list[int]:
    video, fps = waiting_path(root.parent / "scaled", "a"), row["fps"]
    where = (
        {"start_s": row["video_start"], "stop_s": row["video_end"]}
        if by_time
        else {"frame_indices": row["frame_indices"]}
    )
    return read_numbers(read_clip(video, fps=fps, num_frames=row["num_frames"], **where))


def jittered_times(fps: float, num_frames: int) -> list[int]:
    """Every frame up to a third of an interval early or late, and one in seventeen dropped."""
    rng = np.random.default_rng(3)
    times = (np.arange(num_frames) + rng.uniform(-0.33, 0.33, num_frames)) * 1e6 / fps
    kept = np.arange(num_frames) % 17 != 5
    return (np.round(times[kept] - times[0])).astype(int).tolist()


def even_times(fps: float, num_frames: int) -> list[int]:
    return [round(index * 1e6 / fps) for index in range(num_frames)]


RATES = [
    pytest.param(even_times(9.6, 48), 9.6, 10.0, id="9.6 Hz for 10"),
    pytest.param(even_times(29.97, 150), 29.97, 30.0, id="29.97 Hz for 30"),
    pytest.param(jittered_times(60, 240), 60, 30.0, id="uneven times"),
    pytest.param(even_times(30, 120), 30, 10.0, id="30 Hz for 10"),
]


@pytest.mark.parametrize("times_us, rate, fps", RATES)
def test_a_segment_is_the_frames_that_resized_chooses_by_index_and_by_time(tmp_path, times_us, rate, fps):
    root = tmp_path / "rec"
    write_numbered(root / "a.mp4", times_us, rate)
    resized, scaled = cut(root, "resized", fps), cut(root, "scaled", fps)
    chosen = [read_numbers(read_clip(row["video_path"], fps=fps, num_frames=row["num_frames"])) for row in resized]
    assert len(chosen) == len(scaled) >= 3
    assert len({tuple(numbers) for numbers in chosen}) == len(chosen)  # the premise: they can be told apart
    assert [read_scaled(root, row) for row in scaled] == chosen
    assert [read_scaled(root, row, by_time=True) for row in scaled] == chosen


def test_each_kept_frame_is_shown_at_its_own_recorded_time_to_the_microsecond(tmp_path):
    times_us = jittered_times(60, 240)
    write_numbered(tmp_path / "rec" / "a.mp4", times_us, 60)
    recorded = probe_video(VideoAddress(str(tmp_path / "rec" / "a.mp4"))).frame_times_us
    cut(tmp_path / "rec", "scaled", 30.0)
    video = VideoAddress(str(waiting_path(tmp_path / "scaled", "a")))
    info = probe_video(video)
    numbers = read_numbers(decode_frames(video, range(info.num_frames), info=info))
    assert info.frame_times_us.tolist() == recorded[numbers].tolist()


def test_frames_that_no_segment_shows_are_left_out(tmp_path):
    write_numbered(tmp_path / "rec" / "a.mp4", even_times(30, 120), 30)
    cut(tmp_path / "rec", "scaled", 10.0)
    video = VideoAddress(str(waiting_path(tmp_path / "scaled", "a")))
    assert read_numbers(decode_frames(video, range(30))) == list(range(0, 90, 3))
    assert probe_video(video).num_frames == 30


def test_every_segment_begins_with_a_key_frame_and_no_other_frame_is_one(tmp_path):
    write_numbered(tmp_path / "rec" / "a.mp4", even_times(9.6, 48), 9.6)
    rows = cut(tmp_path / "rec", "scaled", 10.0)
    info = probe_video(VideoAddress(str(waiting_path(tmp_path / "scaled", "a"))))
    assert np.flatnonzero(info.is_key_frame).tolist() == [row["frame_indices"][0] for row in rows]


def test_a_long_segment_has_key_frames_within(tmp_path):
    root = tmp_path / "rec"
    write_numbered(root / "a.mp4", even_times(30, 4 * KEY_INTERVAL), 30)
    (ref,) = find_source("folder", root).plan(root)
    rules = SegmentRules(30.0, 2.0, 0.75, 0.25, "pose")
    cut_recording(CutJob(ref, "", rules, "scaled", HEIGHT * WIDTH, tmp_path / "scaled"))
    info = probe_video(VideoAddress(str(waiting_path(tmp_path / "scaled", "a"))))
    assert np.flatnonzero(info.is_key_frame).tolist() == [0, KEY_INTERVAL]


def test_a_row_tells_file_time_and_frames(tmp_path):
    write_numbered(tmp_path / "rec" / "a.mp4", even_times(10, 40), 10)
    rows = cut(tmp_path / "rec", "scaled", 10.0)
    assert {row["video_path"] for row in rows} == {f"{tmp_path}/scaled/videos/waiting/a.mp4"}
    assert {row["member"] for row in rows} == {"a.mp4"}
    assert [(row["video_start"], row["video_end"]) for row in rows] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert rows[1]["frame_indices"] == list(range(10, 20))
    assert {(row["height"], row["width"]) for row in rows} == {(HEIGHT, WIDTH)}


def test_a_file_does_not_begin_before_its_first_segment(tmp_path):
    """A first frame that comes late keeps its distance from the nominal start; seconds that gave nothing are gone."""
    plan = ScaledPlan(np.arange(20), np.array(even_times(10, 20)) + 20_123, np.arange(20) % 10 == 0, 0)
    write_numbered(tmp_path / "a.mp4", even_times(10, 20), 10)
    address = VideoAddress(str(tmp_path / "a.mp4"))
    encode_scaled(address, probe_video(address), plan, tmp_path / "b.mp4", fps=10.0, size=(HEIGHT, WIDTH))
    assert probe_video(VideoAddress(str(tmp_path / "b.mp4"))).frame_times_us.tolist() == plan.times_us.tolist()
    assert read_numbers(read_clip(tmp_path / "b.mp4", fps=10, num_frames=10, start_s=1.0, stop_s=2.0)) == list(
        range(10, 20)
    )


def test_the_same_recording_gives_the_same_bytes_whatever_the_threads(tmp_path):
    root = tmp_path / "rec"
    write_numbered(root / "a.mp4", jittered_times(60, 240), 60)
    cut(root, "scaled", 30.0)
    first = waiting_path(tmp_path / "scaled", "a").read_bytes()
    waiting_path(tmp_path / "scaled", "a").unlink()
    cut(root, "scaled", 30.0, num_threads=3)
    assert waiting_path(tmp_path / "scaled", "a").read_bytes() == first


@pytest.mark.parametrize(
    "video",
    ["cosmos_av_clips/01a6de83-ac02-4689-a901-f0d1dfc0672d.small.mp4", "udacity_lane_video/solidWhiteRight.mp4"],
)
def test_real_road_keeps_38_db_in_250_kilobytes_a_second(tmp_path, shared_data, video):
    address, size = VideoAddress(str(shared_data / video)), (256, 448)
    info = probe_video(address)
    num_frames = 90
    is_key = np.arange(num_frames) % 30 == 0
    plan = ScaledPlan(np.arange(num_frames), info.frame_times_us[:num_frames] - info.frame_times_us[0], is_key, 0)
    encode_scaled(address, info, plan, tmp_path / "a.mp4", fps=30.0, size=size)
    scale = FrameScaler(size, "yuv420p")
    before = [read_planes(scale(frame))[0] for _, frame in iter_decoded(address, range(num_frames), info=info)]
    scaled = VideoAddress(str(tmp_path / "a.mp4"))
    after = [
        read_planes(frame)[0].copy() for _, frame in iter_decoded(scaled, range(num_frames), info=probe_video(scaled))
    ]
    error = np.square(np.array(before, float) - np.array(after, float)).reshape(3, -1).mean(1)
    assert (10 * np.log10(255**2 / error)).min() >= 38
    assert (tmp_path / "a.mp4").stat().st_size <= 3 * 250_000


def damage(path: Path, first: int, last: int) -> None:
    """Spoil the stored bytes of the pictures in a range of frames of a video without B-frames."""
    with av.open(str(path)) as container:
        entries = list(container.streams.video[0].index_entries)[first:last]
        spans = [(entry.pos, entry.size) for entry in entries]
    data = bytearray(path.read_bytes())
    for start, size in spans:
        data[start : start + size] = bytes(size)
    path.write_bytes(data)


def test_segments_over_a_damaged_stretch_are_left_out_and_the_others_stay(tmp_path):
    root = tmp_path / "rec"
    root.mkdir()
    write_video(root / "a.mp4", map(draw_number, range(50)), 10, key_interval=5, preset="ultrafast")
    damage(root / "a.mp4", 12, 14)
    rows = cut(root, "scaled", 10.0)
    skips = read_part_facts(tmp_path / "scaled" / "metadata" / "recordings" / "a.arrow").skips
    assert [row["segment_uuid"] for row in rows] == ["a_seg_00", "a_seg_02", "a_seg_03"]
    assert [(skip.id, skip.stage) for skip in skips] == [("a_seg_01", "cut")]
    assert [read_scaled(root, row) for row in rows] == [list(range(10)), list(range(20, 30)), list(range(30, 40))]


def test_a_recording_that_cannot_be_read_leaves_a_line_and_no_video(tmp_path):
    root = tmp_path / "rec"
    root.mkdir()
    write_video(root / "a.mp4", map(draw_number, range(40)), 10, preset="ultrafast")
    damage(root / "a.mp4", 0, 40)
    assert cut(root, "scaled", 10.0) == []
    (skip,) = read_part_facts(tmp_path / "scaled" / "metadata" / "recordings" / "a.arrow").skips
    assert (skip.id, skip.stage) == ("a", "cut")
    assert not any((tmp_path / "scaled").rglob("*.mp4"))


def test_a_frame_that_is_not_there_leaves_nothing_behind(tmp_path):
    write_numbered(tmp_path / "a.mp4", even_times(10, 20), 10)
    address = VideoAddress(str(tmp_path / "a.mp4"))
    plan = ScaledPlan(np.array([5, 20]), np.array([0, 1000]), np.array([True, False]), 0)
    with pytest.raises(VideoError, match="has 20 frames, frame 20 was asked for"):
        encode_scaled(address, probe_video(address), plan, tmp_path / "out" / "b.mp4", fps=10.0, size=(64, 256))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_recording_that_is_given_up_leaves_no_waiting_video(tmp_path):
    root = tmp_path / "rec"
    write_numbered(root / "a.mp4", even_times(10, 40), 10)
    (ref,) = find_source("folder", root).plan(root)
    rules = SegmentRules(10.0, 1.0, 0.75, 0.25, "pose")
    job = CutJob(ref, "", rules, "scaled", HEIGHT * WIDTH, tmp_path / "scaled")
    cut_recording(job)
    give_up_recording(job)
    assert not waiting_path(tmp_path / "scaled", "a").exists()
    assert read_part_table(tmp_path / "scaled" / "metadata" / "recordings" / "a.arrow").num_rows == 0
