"""BDD100K: which files are found, how they are grouped, and what is read of a phone's log."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from phone_log import START_MS, fixes, gyro_and_gravity, write_log

from data_prep.sources import find_source
from data_prep.sources.bdd100k import Bdd100k
from data_prep.sources.bdd100k_info import build_motion, read_info
from driving.errors import SourceError

A, B, C = "0000f77c-6257be58", "0000f77c-62c2a288", "b1c66a42-6f7d68ca"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def motion_of(path, **changes):
    write_log(path / "log.json", **changes)
    return build_motion(read_info(path / "log.json"))


# What is found.


@pytest.fixture
def dataset(tmp_path):
    touch(tmp_path, *(f"bdd100k/videos/{name}.mov" for name in (f"train/{A}", f"val/{B}", f"test/{C}")))
    for name in (f"train/{A}", f"val/{B}"):
        write_log(tmp_path / f"bdd100k/info/100k/{name}.json")
    return tmp_path / "bdd100k"


def place_of(ref, root):
    return ref.place["info"] and (root / ref.place["info"]).resolve().relative_to(root.resolve()).as_posix()


def test_the_split_is_the_folder_and_clips_of_one_ride_are_one_group(dataset):
    assert find_source("auto", dataset).name == "bdd100k"
    refs = Bdd100k().plan(dataset)
    assert [(ref.recording_id, ref.group, ref.split) for ref in refs] == [
        (A, "0000f77c", "train"), (B, "0000f77c", "val"), (C, "b1c66a42", "test"),
    ]  # fmt: skip
    assert [place_of(ref, dataset) for ref in refs] == [f"info/100k/train/{A}.json", f"info/100k/val/{B}.json", ""]


@pytest.mark.parametrize(
    "root", [".", "bdd100k", "bdd100k/videos", "bdd100k/videos/train", f"bdd100k/videos/train/{A}.mov"]
)
def test_the_log_is_found_from_any_folder_of_the_package(dataset, root):
    top = dataset.parent
    ref = Bdd100k().plan(top / root)[0]
    assert (ref.recording_id, ref.split, place_of(ref, top)) == (A, "train", f"bdd100k/info/100k/train/{A}.json")


def test_packages_in_parts_lie_side_by_side(tmp_path):
    touch(tmp_path, f"bdd100k_videos_train_00/bdd100k/videos/train/{A}.mov")
    write_log(tmp_path / f"bdd100k_info/bdd100k/info/100k/train/{A}.json")
    (ref,) = Bdd100k().plan(tmp_path)
    assert ref.split == "train" and ref.place["info"].endswith(f"bdd100k_info/bdd100k/info/100k/train/{A}.json")


def test_videos_without_a_split_folder_take_the_split_of_their_log(tmp_path):
    touch(tmp_path, f"{A}.mov", f"labels/100k/val/{A}.json")
    write_log(tmp_path / f"info/100k/train/{A}.json")
    (ref,) = Bdd100k().plan(tmp_path)
    assert ref.split == "train" and "info" in ref.place["info"]


def test_labels_of_the_same_name_are_no_logs_wherever_the_dataset_lies(tmp_path):
    root = tmp_path / "info" / "mine"
    touch(root, f"train/{A}.mov", f"labels/100k/train/{A}.json")
    assert Bdd100k().plan(root)[0].place["info"] == ""


def test_a_folder_above_the_dataset_is_no_split(tmp_path):
    touch(tmp_path, f"test/data/mine/{A}.mov")
    assert Bdd100k().plan(tmp_path / "test" / "data" / "mine")[0].split == ""


def test_a_video_whose_name_tells_no_ride_is_grouped_by_what_its_log_says(tmp_path):
    touch(tmp_path, f"{A}.mov", "one.mov", "two.mov", "three.mov")
    write_log(tmp_path / "info/100k/train/one.json", rideID="ride 7")
    write_log(tmp_path / "info/100k/train/two.json", rideID="ride 7")
    (tmp_path / "info/100k/train/three.json").write_text("{")
    groups = {ref.recording_id: ref.group for ref in Bdd100k().plan(tmp_path)}
    assert groups == {A: "0000f77c", "one": "ride_7", "two": "ride_7", "three": "three"}


def test_a_video_that_is_there_twice_is_used_in_neither_place(tmp_path):
    touch(tmp_path, f"part_1/train/{A}.mov", f"part_2/train/{A}.mov")
    refs = Bdd100k().plan(tmp_path)
    assert len(refs) == 2 and all("two recordings have the id" in ref.fault for ref in refs)


def test_other_videos_are_not_taken_for_it(tmp_path):
    touch(tmp_path, "trip.mov", "0000f77c-6257.mov", "info/100k/train/trip.json")
    assert find_source("auto", tmp_path).name == "folder"


def test_there_is_one_camera_and_a_folder_without_video_says_what_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match="holds no BDD100K video; looked for videos named <8 hex"):
        Bdd100k().plan(tmp_path)
    with pytest.raises(SourceError, match="camera 'rear' was asked for, but BDD100K has one camera only"):
        Bdd100k().plan(tmp_path, "rear")


# What is read.


def test_a_recording_has_coarse_motion_and_the_times_of_its_container(dataset):
    recording = Bdd100k().read(Bdd100k().plan(dataset)[0])
    assert (recording.frame_times_us, recording.clock_zero_us, recording.ego_motion) == (None, None, None)
    assert recording.coarse_motion.speed_times_us.tolist() == [second * 1_000_000 for second in range(11)]
    assert recording.coarse_motion.problem == ""
    assert recording.ref.metadata == {"ride_id": "0000f77c0000f77c0000f77c0000f77c"}


def test_a_video_without_a_log_is_read_and_says_so(dataset):
    recording = Bdd100k().read(Bdd100k().plan(dataset)[2])
    assert recording.coarse_motion.problem == f"there is no info/.../{C}.json"


@pytest.mark.parametrize(
    "text, problem", [("{", "cannot be read as JSON"), ("[1]", "holds no JSON object"), ("", "JSON")]
)
def test_a_broken_log_costs_its_facts_not_the_video(dataset, text, problem):
    (dataset / f"info/100k/train/{A}.json").write_text(text)
    recording = Bdd100k().read(Bdd100k().plan(dataset)[0])
    assert problem in recording.coarse_motion.problem and "unpack it again" in recording.coarse_motion.problem


def test_strings_are_numbers_and_order_does_not_matter(tmp_path):
    locations = [{name: str(value) for name, value in fix.items()} for fix in fixes(lambda t: t)[::-1]]
    motion = motion_of(tmp_path, locations=locations, startTime=str(START_MS))
    assert motion.speed_mps.tolist() == list(range(11))
    assert motion.problem == ""


def test_what_cannot_be_used_is_counted_by_reason(tmp_path):
    locations = fixes(lambda t: -1 if t in (3, 4) else 10)
    locations += [dict(locations[5], speed=99), {"timestamp": None, "speed": 3}, "no fix"]
    locations += [{"timestamp": START_MS + 5_500, "speed": "fast"}, {"timestamp": 1234, "speed": 5.0, "course": 0}]
    motion = motion_of(tmp_path, locations=locations)
    assert motion.speed_mps.tolist() == [10.0] * 9
    assert motion.problem == (
        "9 of 16 fixes of locations tell a speed (1 a time that was there before, 1 an hour or more from startTime, "
        "1 no speed, 2 speed -1, 2 without a time)"
    )


def test_course_is_clockwise_and_heading_is_not(tmp_path):
    motion = motion_of(tmp_path, locations=fixes(lambda t: 5.0, lambda t: (340 + 10 * t) % 360))
    assert np.degrees(np.diff(motion.heading_rad)) == pytest.approx([-10.0] * 10)


def test_a_course_without_speed_is_noise(tmp_path):
    motion = motion_of(
        tmp_path, locations=fixes(lambda t: 0.5 if t < 4 else 5.0, lambda t: -1 if t == 9 else 37.0 * t % 360)
    )
    assert motion.heading_times_us.tolist() == [t * 1_000_000 for t in (4, 5, 6, 7, 8, 10)]
    assert motion.problem == "11 of 11 fixes of locations tell a speed (1 moving without a course)"


def test_gps_is_read_where_it_knows_more_than_locations(tmp_path):
    gps = [{"timestamp": fix["timestamp"], "speed": 7, "vertical accuracy": 4} for fix in fixes(lambda t: 0)]
    motion = motion_of(tmp_path, locations=fixes(lambda t: -1), gps=gps)
    assert (motion.speed_mps.tolist(), len(motion.heading_rad)) == ([7.0] * 11, 0)
    assert motion.problem == "11 of 11 fixes of gps tell a speed (11 moving without a course)"


@pytest.mark.parametrize(
    "lists", [{"locations": None, "gps": None, "gyro": None, "accelerometer": None}, {"locations": 3}]
)
def test_lists_may_be_missing(tmp_path, lists):
    assert motion_of(tmp_path, **lists).problem == "neither locations nor gps holds a fix"


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"startTime": None}, "startTime is missing"),
        ({"startTime": "soon"}, "startTime is missing"),
        ({"timelapse": True}, "a time lapse"),
        ({"timelapse": "true"}, "a time lapse"),
    ],
)
def test_a_log_whose_clock_is_not_the_video_s_tells_nothing(tmp_path, changes, problem):
    motion = motion_of(tmp_path, **changes)
    assert problem in motion.problem and len(motion.speed_mps) == 0


def test_an_empty_log_is_no_crash(tmp_path):
    (tmp_path / "log.json").write_text(json.dumps({}))
    assert "startTime is missing" in build_motion(read_info(tmp_path / "log.json")).problem


# The gyro.

DOWN = (0.1, -0.98, 0.2)  # a phone held upright, a little tilted


def turn_rate(t):
    """Left by 0.4 rad/s from 4.2 s to 7.7 s: 1.4 rad."""
    return 0.4 if 4.2 <= t < 7.7 else 0.0


def turned_course(t):
    return -math.degrees(min(max(t - 4.2, 0), 3.5) * 0.4) % 360


@pytest.mark.parametrize("sign", [1, -1])
def test_the_gyro_tells_when_a_turn_happens_whichever_way_the_phone_counts(tmp_path, sign):
    log = gyro_and_gravity(turn_rate, DOWN, sign=sign)
    motion = motion_of(tmp_path, locations=fixes(lambda t: 6.0, turned_course), **log)
    assert len(motion.heading_rad) == 201
    at = dict(zip(motion.heading_times_us.tolist(), motion.heading_rad, strict=True))
    assert at[4_200_000] - at[0] == pytest.approx(0, abs=0.03)
    assert at[8_000_000] - at[4_200_000] == pytest.approx(1.4, abs=0.03)


def test_a_gyro_with_a_bias_is_held_straight_by_the_course(tmp_path):
    log = gyro_and_gravity(lambda t: turn_rate(t) + 0.03, DOWN)
    motion = motion_of(tmp_path, locations=fixes(lambda t: 6.0, turned_course), **log)
    assert motion.heading_rad[-1] - motion.heading_rad[0] == pytest.approx(1.4, abs=0.05)


def test_a_course_that_lags_still_vouches_for_the_gyro_and_leaves_no_drift(tmp_path):
    locations = fixes(lambda t: 6.0, lambda t: turned_course(t - 0.6))
    motion = motion_of(tmp_path, locations=locations, **gyro_and_gravity(turn_rate, DOWN))
    at = dict(zip(motion.heading_times_us.tolist(), motion.heading_rad, strict=True))
    assert at[4_000_000] - at[0] == pytest.approx(0, abs=0.01)
    assert at[8_000_000] - at[4_000_000] == pytest.approx(1.4, abs=0.03)


@pytest.mark.parametrize(
    "course, log",
    [
        pytest.param(lambda t: 0.0, gyro_and_gravity(lambda t: 0.0, DOWN), id="the course never turns"),
        pytest.param(turned_course, gyro_and_gravity(lambda t: 0.4 * math.sin(3 * t), DOWN), id="they disagree"),
        pytest.param(turned_course, gyro_and_gravity(lambda t: 57 * turn_rate(t), DOWN), id="degrees a second"),
        pytest.param(turned_course, gyro_and_gravity(turn_rate, DOWN, hz=1), id="once a second"),
        pytest.param(turned_course, gyro_and_gravity(turn_rate, DOWN) | {"accelerometer": []}, id="no gravity"),
        pytest.param(turned_course, gyro_and_gravity(turn_rate, DOWN, seconds=3), id="it ends before the turn"),
    ],
)
def test_a_gyro_that_the_course_does_not_vouch_for_is_not_used(tmp_path, course, log):
    motion = motion_of(tmp_path, locations=fixes(lambda t: 6.0, course), **log)
    assert len(motion.heading_rad) == 11  # the fixes
