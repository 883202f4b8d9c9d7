"""Any video, the registry of sources, recording ids, and archives."""

from __future__ import annotations

import os
import warnings
import zipfile

import pytest
from breaking import cut_short, flip_byte_in_zip

from data_prep.sources import SOURCES, find_source
from data_prep.sources.folder import VideoFolder
from data_prep.sources.names import make_id, make_ids
from data_prep.zips import is_safe_name, list_zip, read_member
from driving.errors import SourceError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_every_video_under_a_folder_is_a_recording(tmp_path):
    touch(tmp_path, "b.MOV", "a.mp4", "trip 1/front.mkv", "trip 1/notes.txt", ".hidden/x.mp4", "trip 1/._front.mkv")
    refs = VideoFolder().plan(tmp_path)
    assert [ref.recording_id for ref in refs] == ["a", "b", "trip_1__front"]
    assert [ref.group for ref in refs] == ["a", "b", "trip_1__front"]


def test_a_video_has_no_motion_and_only_its_container_tells_the_time(tmp_path):
    touch(tmp_path, "a.mp4")
    recording = VideoFolder().read(VideoFolder().plan(tmp_path)[0])
    assert recording.video.path == str(tmp_path / "a.mp4")
    assert (recording.frame_times_us, recording.clock_zero_us, recording.ego_motion) == (None, None, None)


def test_one_video_can_be_the_root(tmp_path):
    touch(tmp_path, "a.b.mp4", "other.mp4")
    assert [ref.recording_id for ref in VideoFolder().plan(tmp_path / "a.b.mp4")] == ["a.b"]
    assert find_source("auto", tmp_path / "a.b.mp4").name == "folder"


def test_names_that_differ_by_their_ending_keep_it(tmp_path):
    touch(tmp_path, "a.mp4", "a.mov")
    assert [ref.recording_id for ref in VideoFolder().plan(tmp_path)] == ["a.mov", "a.mp4"]


def test_names_that_meet_are_told_apart_whatever_the_order(tmp_path):
    touch(tmp_path, "a b.mp4", "a:b.mp4")
    ids = [ref.recording_id for ref in VideoFolder().plan(tmp_path)]
    assert len(set(ids)) == 2
    assert all(name.startswith("a_b-") for name in ids)
    assert make_ids(["a b", "a:b"]) == make_ids(["a:b", "a b"])[::-1]


def test_a_link_that_leads_back_up_ends(tmp_path):
    touch(tmp_path, "trip/a.mp4")
    os.symlink(tmp_path, tmp_path / "trip" / "again")
    assert len(VideoFolder().plan(tmp_path)) == 1


def test_plain_videos_have_no_cameras(tmp_path):
    touch(tmp_path, "a.mp4")
    with pytest.raises(SourceError, match="camera 'front' was asked for, but plain video files have no cameras"):
        VideoFolder().plan(tmp_path, "front")


def test_a_folder_without_video_says_what_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match=r"holds no video; looked for video files .*\.mp4"):
        VideoFolder().plan(tmp_path)


def test_real_videos_are_found(shared_data):
    assert find_source("auto", shared_data / "udacity_lane_video").name == "folder"
    ids = [ref.recording_id for ref in VideoFolder().plan(shared_data / "cosmos_av_clips")]
    assert ids == ["01a6de83-ac02-4689-a901-f0d1dfc0672d.small", "car_curb_video", "cosmos_reason1_sample"]


@pytest.mark.parametrize(
    "label, name",
    [
        ("3f2a-11", "3f2a-11"),
        ("../../etc/passwd", "__..__etc__passwd"),
        ("a|b c", "a_b_c"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("Straße", "Stra_e"),
    ],
)
def test_an_id_is_a_plain_file_name(label, name):
    assert make_id(label) == name


def test_an_id_is_never_empty_or_too_long():
    assert make_id("...") != ""
    assert len(make_id("x" * 500)) <= 120
    assert make_id("x" * 500) != make_id("x" * 501)


def test_the_registry_knows_every_source_by_its_name():
    assert list(SOURCES) == ["physical_ai", "kitti", "comma2k19", "bdd100k", "folder"]
    assert [find_source(name, None).name for name in SOURCES] == list(SOURCES)


def test_an_unknown_source_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(SourceError, match="source 'waymo' is not known; there are: auto, physical_ai, kitti"):
        find_source("waymo", tmp_path)


def test_an_unknown_folder_is_answered_with_what_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match=r"no recordings of a known layout; .*physical_ai: features.csv .*kitti: "):
        find_source("auto", tmp_path)
    with pytest.raises(SourceError, match="nowhere does not exist"):
        find_source("auto", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["a/b.mp4", "a..b.mp4", "..a/b"])
def test_names_that_stay_inside_are_safe(name):
    assert is_safe_name(name)


@pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a\\..\\b", "C:a", "..", "", "a\0b"])
def test_names_that_could_point_outside_are_not_safe(name):
    assert not is_safe_name(name)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "a.zip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the repeated name
        with zipfile.ZipFile(path, "w") as opened:
            for name in ("one", "two", "two", "../three", "folder/"):
                opened.writestr(name, b"data of " + name.encode())
    return path


def test_a_listing_keeps_safe_unsafe_and_repeated_names_apart(archive):
    listing = list_zip(archive)
    assert (listing.names, listing.unsafe, listing.repeated) == ({"one", "two"}, ("../three",), {"two"})
    assert listing.explain_absence("one") == ""
    assert listing.explain_absence("two") == "two members are named two"
    assert listing.explain_absence("three") == "member '../three' points outside the archive and is not opened"
    assert listing.explain_absence("four") == "there is no member four"


def test_a_member_is_read_whole_and_checked(archive):
    assert read_member(archive, "one") == b"data of one"
    flip_byte_in_zip(archive, "one")
    with pytest.raises(SourceError, match="a.zip:one cannot be read .*Bad CRC-32"):
        read_member(archive, "one")
    with pytest.raises(SourceError, match="a.zip has no member nothing"):
        read_member(archive, "nothing")


def test_an_archive_cut_short_is_named(archive):
    cut_short(archive)
    with pytest.raises(SourceError, match="a.zip is not a whole zip archive .*download it again"):
        list_zip(archive)
