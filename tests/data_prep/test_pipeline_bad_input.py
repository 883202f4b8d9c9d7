"""Many recordings, each broken in one way: the ledger names exactly those, and every other row is as it was.

drawn recordings ──▶ run ──▶ clean rows            the same ──break k of n──▶ run ──▶ ledger + rows
"""

from __future__ import annotations

import io
import json
import re
import shutil
from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest
from breaking import (
    CAMERA,
    camera_zip,
    cut_short,
    drop_member,
    edit_index,
    edit_table,
    ego_zip,
    flip_byte_in_zip,
    rename_member,
    replace_member,
)

from data_prep.segment_options import SegmentOptions
from data_prep.segments import run
from data_prep.synthetic import ClipPlan, constant_motion, write_dataset
from driving.errors import DrivingError, LedgerError

SEGMENTS = 3  # of a drawn clip of four seconds
MOTIONS = [constant_motion(8.0, 0.02), constant_motion(8.0, -0.02), constant_motion(-3.0, 0.02), constant_motion(12.0)]


def mp4(clip):
    return f"{clip}.{CAMERA}.mp4"


def times(clip):
    return f"{clip}.{CAMERA}.timestamps.parquet"


def ego(clip):
    return f"{clip}.egomotion.parquet"


def change_video(change):
    return lambda root, clip: replace_member(camera_zip(root), mp4(clip), change)


def change_times(change):
    return lambda root, clip: replace_member(camera_zip(root), times(clip), edit_table(change))


def change_ego(change):
    return lambda root, clip: replace_member(ego_zip(root), ego(clip), edit_table(change))


def hold_sound_only(_):
    """An mp4 with no picture in it."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        write_sound(container.add_stream("aac", rate=8000), container)
    return sink.getvalue()


def put_sound_first(data):
    """The same video as stream 1 behind a sound track."""
    sink = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(sink, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000)
        copy = container.add_stream_from_template(source.streams.video[0])
        write_sound(sound, container)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    return sink.getvalue()


def write_sound(stream, container):
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = 8000, Fraction(1, 8000), 0
    for packet in [*stream.encode(frame), *stream.encode(None)]:
        container.mux(packet)


def set_cell(column, row, value):
    return lambda columns: columns[column].__setitem__(row, value)


def shift_from(row, shift_us):
    return lambda columns: columns.update(
        timestamp=[t + shift_us * (i >= row) for i, t in enumerate(columns["timestamp"])]
    )


def double_intervals(columns):
    columns["timestamp"] = [2 * t for t in columns["timestamp"]]


def keep_rows(start_us, stop_us):
    def keep(columns):
        kept = [i for i, t in enumerate(columns["timestamp"]) if start_us <= t <= stop_us]
        return {name: [values[i] for i in kept] for name, values in columns.items()}

    return keep


def drop_rows(start_us, stop_us):
    def keep(columns):
        kept = [i for i, t in enumerate(columns["timestamp"]) if not start_us < t < stop_us]
        return {name: [values[i] for i in kept] for name, values in columns.items()}

    return keep


def repeat_in_index(root, clip):
    edit_index(root, lambda table: pd.concat([table, table.loc[[clip]]]))


def mark_invalid(root, clip):
    edit_index(root, lambda table: table.assign(clip_is_valid=table["clip_is_valid"] & (table.index != clip)))


# name -> (how it is broken, words of its reason). The whole recording is lost: one line, no row.
LOST = {
    "video cut short": (change_video(lambda data: data[: len(data) // 2]), r"cannot be read|cut short"),
    "video of zero bytes": (change_video(lambda data: b""), "zero bytes"),
    "video without pictures": (change_video(hold_sound_only), r"no video stream \(it holds: audio\)"),
    "video that is text": (change_video(lambda data: b"not a video" * 50), "cannot be read as a video"),
    "video with a wrong checksum": (lambda root, clip: flip_byte_in_zip(camera_zip(root), mp4(clip)), "Bad CRC-32"),
    "video not in the archive": (lambda root, clip: drop_member(camera_zip(root), mp4(clip)), "there is no member"),
    "video that points outside": (
        lambda root, clip: rename_member(camera_zip(root), mp4(clip), f"../{mp4(clip)}"),
        "points outside the archive and is not opened",
    ),
    "times that jump": (change_times(shift_from(60, 90_000_000)), "jump after frame 59"),
    "times that repeat": (change_times(lambda c: set_cell("timestamp", 60, c["timestamp"][59])(c)), "at row 60"),
    "times that go back": (change_times(set_cell("timestamp", 60, 0)), r"do not increase at row 60: \d+ us, then 0 us"),
    "times of too few frames": (
        change_times(lambda c: {name: values[:-1] for name, values in c.items()}),
        r"holds (\d+) frames, its list of times \d+",
    ),
    "half the frame rate": (
        change_times(double_intervals),
        r"recorded at 1[45]\.\d+ .*pass --fps 15 or --fps auto",
    ),
    "ego motion not in the archive": (lambda root, clip: drop_member(ego_zip(root), ego(clip)), "there is no member"),
    "ego motion with a wrong checksum": (lambda root, clip: flip_byte_in_zip(ego_zip(root), ego(clip)), "Bad CRC-32"),
    "ego motion cut short": (
        lambda root, clip: replace_member(ego_zip(root), ego(clip), lambda data: data[: len(data) // 2]),
        "not a whole parquet table",
    ),
    "ego motion without speed": (change_ego(lambda c: c.pop("vx") and None), "lacks the columns vx"),
    "ego times that go back": (change_ego(set_cell("timestamp", 100, 0)), "do not increase at row 100"),
    "ego motion that is no rotation": (change_ego(set_cell("qw", 100, 3.0)), "quaternion at row 100 has norm 3"),
    "listed twice": (repeat_in_index, "two recordings have the id"),
    "not valid": (mark_invalid, "clip_is_valid = False"),
}
# name -> (how, words, segments lost). Ego row i is at -0.2 s + 10 ms i; segment s needs [s, s + 2) s.
SPOILT = {
    "a bad ego value at 0.5 s": (change_ego(set_cell("x", 70, float("nan"))), "not finite at row 70", [0]),
    "an empty ego cell at 1.5 s": (change_ego(set_cell("vy", 170, None)), "not finite at row 170", [0, 1]),
    "an ego gap from 3.2 to 3.8 s": (change_ego(drop_rows(3_200_000, 3_800_000)), "gap of 0.6", [2]),
    "ego motion that ends at 3.5 s": (
        change_ego(keep_rows(-1_000_000, 3_500_000)),
        r"covers .* to 3\.(49|5)",
        [2],
    ),
    "ego motion that begins at 0.5 s": (change_ego(keep_rows(500_000, 99_000_000)), r"covers 0\.5\d+ to", [0]),
    "half a second without pictures": (change_times(shift_from(75, 500_000)), "ms from its instant", [2]),
}
# Not broken at all, and yet easy to lose.
KEPT = {
    "no curvature column": change_ego(lambda c: c.pop("curvature") and None),
    "sound as stream 0": change_video(put_sound_first),
    "a bad ego value after the last second": change_ego(set_cell("x", 435, float("nan"))),
}
NAMES = [*LOST, *SPOILT, *KEPT, "intact 1", "intact 2"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """(folder of recordings, {name: clip id}, rows of a run over them)"""
    folder = tmp_path_factory.mktemp("bad_input")
    plans = [ClipPlan(MOTIONS[i % len(MOTIONS)]) for i in range(len(NAMES))]
    made = write_dataset(folder / "clean", plans, seconds=4, height=64, width=112, workers=1)
    rows, _ = cut(folder / "clean", folder / "clean_segments")
    return folder, dict(zip(NAMES, made.clip_ids, strict=True)), rows


def cut(root, output, max_bad_fraction=1.0, **others):
    """(rows by segment id, ledger lines) of a run."""
    options = SegmentOptions(
        input_dir=root, output_dir=output, video_frame_pixels=8192, workers=1, max_bad_fraction=max_bad_fraction,
        **others,
    )  # fmt: skip
    run(options)
    return pd.read_parquet(output / "metadata" / "segments.parquet").set_index("segment_uuid"), read_lines(output)


def read_lines(output):
    return [json.loads(line) for line in (output / "skipped.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def broken(clean):
    """(folder, {name: clip id}, clean rows, rows, ledger lines) of a run over the broken recordings."""
    folder, ids, clean_rows = clean
    root = shutil.copytree(folder / "clean", folder / "broken")
    ways = {name: way for name, (way, *_) in (LOST | SPOILT).items()} | KEPT
    for name in sorted(ways, key=lambda name: "checksum" in name):  # last: an archive is rewritten by reading it
        ways[name](root, ids[name])
    rows, lines = cut(root, folder / "broken_segments")
    return folder, ids, clean_rows, rows, lines


def test_all_recordings_are_whole_before_anything_is_broken(clean):
    _, _, rows = clean
    assert len(rows) == SEGMENTS * len(NAMES)


@pytest.mark.parametrize("name", LOST)
def test_a_lost_recording_has_its_reason_in_the_ledger_and_no_row(broken, name):
    _, ids, _, rows, lines = broken
    reasons = {line["reason"] for line in lines if line["id"] == ids[name]}
    assert len(reasons) == 1
    assert re.search(LOST[name][1], reasons.pop())
    assert ids[name] not in set(rows["clip_uuid"])


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_stretch_takes_the_segments_that_need_it_and_no_other(broken, name):
    _, ids, _, rows, lines = broken
    _, words, lost = SPOILT[name]
    mine = {line["id"]: line["reason"] for line in lines if line["id"].startswith(ids[name])}
    assert list(mine) == [f"{ids[name]}_seg_{index:02d}" for index in lost]
    assert all(re.search(words, reason) for reason in mine.values())
    kept = [f"{ids[name]}_seg_{index:02d}" for index in range(SEGMENTS) if index not in lost]
    assert rows.index[rows["clip_uuid"] == ids[name]].tolist() == kept


@pytest.mark.parametrize("name", [*KEPT, "intact 1", "intact 2"])
def test_what_is_not_broken_is_kept(broken, name):
    _, ids, _, rows, lines = broken
    assert (rows["clip_uuid"] == ids[name]).sum() == SEGMENTS
    assert not [line for line in lines if line["id"].startswith(ids[name])]


def test_the_ledger_holds_exactly_what_was_broken(broken):
    _, ids, _, _, lines = broken
    expected = {ids[name] for name in LOST}
    expected |= {f"{ids[name]}_seg_{index:02d}" for name, (*_, lost) in SPOILT.items() for index in lost}
    assert {line["id"] for line in lines} == expected


def test_no_row_but_the_lost_ones_is_missing_and_none_was_added(broken):
    _, _, clean_rows, rows, lines = broken
    lost = {line["id"] for line in lines}
    assert rows.index.tolist() == [
        segment for segment, clip in clean_rows["clip_uuid"].items() if segment not in lost and clip not in lost
    ]


@pytest.mark.parametrize("column", ["targets", "observed", "start_second", "group", "split", "num_frames"])
def test_the_rows_that_are_left_hold_what_they_held_before(broken, column):
    _, _, clean_rows, rows, _ = broken
    assert {segment: plain(value) for segment, value in rows[column].items()} == {
        segment: plain(value) for segment, value in clean_rows[column][rows.index].items()
    }


def plain(value):
    """A cell as lists and numbers, which compare with ==."""
    return [list(pair) for pair in value] if isinstance(value, np.ndarray) else value


def test_the_pictures_of_the_rows_that_are_left_are_the_same_bytes(broken):
    folder, _, _, rows, _ = broken
    different = [
        segment
        for segment in rows.index
        if (folder / "clean_segments/video_segments" / f"{segment}.mp4").read_bytes()
        != (folder / "broken_segments/video_segments" / f"{segment}.mp4").read_bytes()
    ]
    assert different == []


def test_so_many_bad_recordings_stop_the_stage_by_default_and_say_how_many(broken, tmp_path):
    folder, _, _, _, _ = broken  # listed twice is one bad recording; "not valid" is the dataset's own word, and none
    with pytest.raises(LedgerError, match=rf"{len(LOST) - 1} of {len(NAMES) - 1} samples are bad .*--max-bad-fraction"):
        cut(folder / "broken", tmp_path / "out", max_bad_fraction=0.02, cut="index")
    assert len(read_lines(tmp_path / "out")) > len(LOST)


def test_clips_that_the_dataset_calls_not_valid_are_listed_and_never_stop_the_stage(tmp_path):
    plans = [ClipPlan(MOTIONS[0], is_valid=index < 2) for index in range(8)]
    ids = write_dataset(tmp_path / "in", plans, seconds=2, height=64, width=112, workers=1).clip_ids
    rows, lines = cut(tmp_path / "in", tmp_path / "out", max_bad_fraction=0.0, cut="index")
    assert sorted(rows["clip_uuid"]) == sorted(ids[:2])
    assert {(line["id"], line["stage"]) for line in lines} == {(clip, "excluded") for clip in ids[2:]}


def test_an_archive_cut_short_loses_its_chunk_and_no_other(tmp_path):
    plans = [ClipPlan(MOTIONS[0], chunk=index // 2) for index in range(4)]
    ids = write_dataset(tmp_path / "in", plans, seconds=2, height=64, width=112, workers=1).clip_ids
    cut_short(camera_zip(tmp_path / "in", 1))
    rows, lines = cut(tmp_path / "in", tmp_path / "out", cut="index")
    assert sorted(rows["clip_uuid"]) == sorted(ids[:2])
    assert sorted(line["id"] for line in lines) == sorted(ids[2:])
    assert all("chunk_0001.zip is not a whole zip archive" in line["reason"] for line in lines)


def test_nothing_but_bad_input_ends_with_the_first_reason(tmp_path):
    root = tmp_path / "in"
    (clip,) = write_dataset(root, [MOTIONS[0]], seconds=2, height=64, width=112, workers=1).clip_ids
    drop_member(ego_zip(root), ego(clip))
    with pytest.raises(DrivingError, match=f"no segment came out of 1 recordings .*; the first reason: {clip}: "):
        cut(root, tmp_path / "out")
    assert not (tmp_path / "out" / "metadata" / "segments.parquet").exists()
