"""PhysicalAI-AV recordings with known motion, in both layouts, against the drawn truth and NVIDIA's devkit."""

from __future__ import annotations

import io
import os
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from breaking import CAMERA, camera_zip, edit_index, ego_zip

from data_prep.sources import find_source
from data_prep.sources.physical_ai import PhysicalAI, describe_coverage, find_ego_motion, read_ego_motion_file
from data_prep.synthetic import ClipPlan, Motion, constant_motion, write_dataset
from driving.clock import Window, plan_edges, plan_midpoints
from driving.ego_motion import future_pose, sample_motion
from driving.errors import MotionError, SourceError

LEFT, RIGHT = constant_motion(8.0, 0.02), constant_motion(8.0, -0.02)
REVERSING, STANDING = constant_motion(-3.0, 0.02), constant_motion(0.0)
WEAVING = Motion(
    speed_times_s=[0, 2, 4, 30],
    speeds_mps=[6, 12, 9, 9],
    road_m=[0, 15, 30, 60, 400],
    curvatures_per_m=[0.0, 0.03, -0.02, 0.01, 0.01],
)
NAMES = {"left": 0, "right": 1, "reversing": 2, "standing": 3, "weaving": 4}
MOTIONS = [LEFT, RIGHT, REVERSING, STANDING, WEAVING]
SECOND = Window(1_000_000, 2_000_000)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """{layout: (folder, ids in the order of MOTIONS)}"""
    folder = tmp_path_factory.mktemp("physical_ai")
    made = {}
    for layout in ("hub", "extracted"):
        summary = write_dataset(folder / layout, MOTIONS, layout=layout, seconds=3, height=64, width=112, workers=1)
        made[layout] = (folder / layout, summary.clip_ids)
    return made


def open_clip(root, clip_id):
    refs = {ref.recording_id: ref for ref in PhysicalAI().plan(root)}
    return PhysicalAI().read(refs[clip_id])


@pytest.mark.parametrize("layout", ["hub", "extracted"])
@pytest.mark.parametrize("name", ["left", "right", "reversing"])
def test_speed_and_curvature_of_a_circle_are_those_it_was_driven_with(roots, layout, name):
    root, ids = roots[layout]
    at = plan_midpoints(SECOND, 30)
    drawn = MOTIONS[NAMES[name]].sample(at)
    read = sample_motion(open_clip(root, ids[NAMES[name]]).ego_motion, SECOND, at)
    assert np.abs(read.velocity_mps - drawn.velocity_mps).max() < 0.01
    assert np.abs(read.curvature_per_m - drawn.curvature_per_m).max() < 0.0001


@pytest.mark.parametrize("layout", ["hub", "extracted"])
@pytest.mark.parametrize(
    "name, speed_sign, curvature_sign, turn_sign", [("left", 1, 1, 1), ("right", 1, -1, -1), ("reversing", -1, 1, -1)]
)
def test_left_is_positive_and_reversing_turns_the_other_way(roots, layout, name, speed_sign, curvature_sign, turn_sign):
    root, ids = roots[layout]
    motion = open_clip(root, ids[NAMES[name]]).ego_motion
    read = sample_motion(motion, SECOND, plan_midpoints(SECOND, 30))
    turned_rad = future_pose(motion, plan_edges(SECOND, 30))[-1, 2]
    assert np.sign(read.velocity_mps).tolist() == [speed_sign] * 30
    assert np.sign(read.curvature_per_m).tolist() == [curvature_sign] * 30
    assert np.sign(turned_rad) == turn_sign


@pytest.mark.parametrize("layout", ["hub", "extracted"])
def test_a_standing_car_has_no_speed_and_no_curvature(roots, layout):
    root, ids = roots[layout]
    read = sample_motion(
        open_clip(root, ids[NAMES["standing"]]).ego_motion, SECOND, plan_midpoints(SECOND, 30)
    )  # fmt: skip
    assert read.velocity_mps.tolist() == [0.0] * 30
    assert read.curvature_per_m.tolist() == [0.0] * 30


def test_a_circle_of_fifty_metres_ends_where_geometry_says(roots):
    root, ids = roots["hub"]
    pose = future_pose(open_clip(root, ids[NAMES["left"]]).ego_motion, plan_edges(SECOND, 30))[-1]
    turned = 8.0 * 0.02  # rad after one second on a radius of 50 m
    assert pose == pytest.approx([50 * np.sin(turned), 50 * (1 - np.cos(turned)), turned], abs=1e-4)


def test_both_layouts_hold_the_same_recordings(roots):
    for clip_id in roots["hub"][1]:
        hub, extracted = (open_clip(roots[layout][0], clip_id) for layout in ("hub", "extracted"))
        assert np.array_equal(hub.frame_times_us, extracted.frame_times_us)
        assert np.array_equal(hub.ego_motion.position_m, extracted.ego_motion.position_m)


def test_a_recording_says_where_its_pixels_and_its_clock_are(roots):
    root, ids = roots["hub"]
    recording = open_clip(root, ids[0])
    with zipfile.ZipFile(camera_zip(root)) as archive:
        stored = pd.read_parquet(io.BytesIO(archive.read(f"{ids[0]}.{CAMERA}.timestamps.parquet")))
    assert recording.video.path == str(camera_zip(root))
    assert recording.video.member == f"{ids[0]}.{CAMERA}.mp4"
    assert recording.frame_times_us.tolist() == stored["timestamp"].tolist()
    assert recording.clock_zero_us == 0
    assert recording.ref.group == ids[0]


def test_speed_and_pose_agree_with_the_devkit(roots):
    egomotion = pytest.importorskip("physical_ai_av.egomotion")
    root, ids = roots["hub"]
    clip_id = ids[NAMES["weaving"]]
    with zipfile.ZipFile(ego_zip(root)) as archive:
        table = pd.read_parquet(io.BytesIO(archive.read(f"{clip_id}.egomotion.parquet")))
    devkit = egomotion.EgomotionState.from_egomotion_df(table).create_interpolator(table["timestamp"].to_numpy())
    motion = open_clip(root, clip_id).ego_motion
    at = plan_midpoints(SECOND, 30)
    theirs = devkit(at)
    their_speed = theirs.pose.rotation.inv().apply(theirs.velocity)[:, 0]
    assert np.abs(sample_motion(motion, SECOND, at).velocity_mps - their_speed).max() < 1e-3

    edges = plan_edges(SECOND, 30)
    poses = devkit(edges).pose
    seen = poses[0].inv() * poses  # the frame of the pose at the window's start
    yaw = seen.rotation.as_euler("ZYX")[:, 0]
    ours = future_pose(motion, edges)
    assert np.abs(ours[:, :2] - seen.translation[:, :2]).max() < 2e-3
    assert np.abs(ours[:, 2] - yaw).max() < 1e-5


def test_reading_by_time_keeps_up_where_the_rate_falls_to_fourteen_hertz(roots):
    root, ids = roots["hub"]
    motion = open_clip(root, ids[NAMES["weaving"]]).ego_motion
    sparse = Window(6_000_000, 7_000_000)  # the clip is 3 s long; 70 ms steps begin 0.1 s after it
    assert np.diff(motion.timestamps_us)[motion.timestamps_us[1:] > 6_000_000].min() > 65_000
    at = plan_midpoints(sparse, 30)
    read, drawn = sample_motion(motion, sparse, at), WEAVING.sample(at)
    assert np.abs(read.velocity_mps - drawn.velocity_mps).max() < 0.01
    assert np.abs(read.curvature_per_m - drawn.curvature_per_m).max() < 0.0005


def test_refs_are_sorted_and_carry_split_and_metadata(roots):
    root, ids = roots["hub"]
    refs = PhysicalAI().plan(root)
    index = pd.read_parquet(root / "clip_index.parquet")
    collection = pd.read_parquet(root / "metadata" / "data_collection.parquet")
    assert [ref.recording_id for ref in refs] == sorted(ids)
    assert {ref.recording_id: ref.split for ref in refs} == index["split"].to_dict()
    assert {ref.recording_id: ref.metadata["country"] for ref in refs} == collection["country"].to_dict()
    assert {ref.fault for ref in refs} == {""}


def test_the_same_folder_gives_the_same_plan_through_links(roots, tmp_path):
    root, _ = roots["hub"]
    linked = tmp_path / "snapshot"  # as a hub cache: every file is a link to a blob of another name
    for path in sorted(root.rglob("*")):
        if path.is_file():
            place = linked / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(path, place)
    refs = PhysicalAI().plan(linked)
    assert [ref.recording_id for ref in refs] == [ref.recording_id for ref in PhysicalAI().plan(root)]
    assert len(PhysicalAI().read(refs[0]).frame_times_us) > 60


def test_a_split_table_wins_over_the_column_of_the_index(roots, tmp_path):
    root = shutil.copytree(roots["hub"][0], tmp_path / "hub")
    ids = sorted(roots["hub"][1])
    (root / "splits").mkdir()
    labels = pd.DataFrame({"split": ["val", "test"]}, index=pd.Index(ids[:2], name="clip_id"))
    labels.to_parquet(root / "splits" / "default.parquet")
    labels.assign(split="train").to_parquet(root / "splits" / "mine.parquet")
    assert [ref.split for ref in PhysicalAI().plan(root)] == ["val", "test", "", "", ""]
    assert [ref.split for ref in PhysicalAI("mine").plan(root)] == ["train", "train", "", "", ""]
    with pytest.raises(SourceError, match=r"splits/other.parquet is missing; the splits that are there: default, mine"):
        PhysicalAI("other").plan(root)


def test_the_older_presence_table_is_read_too(tmp_path):
    summary = write_dataset(tmp_path, [LEFT], seconds=2, height=64, width=112, presence="sensor_presence")
    assert [ref.recording_id for ref in PhysicalAI().plan(tmp_path)] == list(summary.clip_ids)


def test_every_chunk_that_is_there_is_read_and_the_others_are_counted_once(tmp_path):
    plans = [ClipPlan(STANDING, chunk=chunk) for chunk in (0, 1, 1)]
    ids = write_dataset(tmp_path, plans, seconds=2, height=64, width=112).clip_ids
    assert [ref.metadata["chunk"] for ref in sorted(PhysicalAI().plan(tmp_path), key=by_order(ids))] == [0, 1, 1]
    camera_zip(tmp_path, 0).unlink()
    assert [ref.recording_id for ref in PhysicalAI().plan(tmp_path)] == sorted(ids[1:])
    assert describe_coverage(tmp_path).startswith(f"1 of the 2 chunks of {CAMERA}")


def by_order(ids):
    return lambda ref: ids.index(ref.recording_id)


def test_an_extracted_folder_beside_an_index_takes_split_and_validity_from_it(roots, tmp_path):
    root = shutil.copytree(roots["extracted"][0], tmp_path / "extracted")
    shutil.copy(roots["hub"][0] / "clip_index.parquet", root)
    first = roots["hub"][1][0]
    edit_index(root, lambda table: table.assign(clip_is_valid=table.index != first))
    refs = {ref.recording_id: ref for ref in PhysicalAI().plan(root)}
    assert refs[first].excluded == "clip_index.parquet says clip_is_valid = False"
    assert {ref.split for ref in refs.values()} == {"train", "val", "test"}


def test_auto_recognises_both_layouts(roots):
    assert find_source("auto", roots["hub"][0]).name == "physical_ai"
    assert find_source("auto", roots["extracted"][0]).name == "physical_ai"


def test_a_camera_that_is_not_there_is_named_with_those_that_are(roots):
    with pytest.raises(SourceError, match=rf"camera 'camera_rear' is not in .*; there is: {CAMERA}; choose"):
        PhysicalAI().plan(roots["hub"][0], "camera_rear")


def test_ego_motion_is_found_in_a_chunk_folder_or_in_the_folder_of_chunks(roots):
    root, ids = roots["extracted"]
    inside = find_ego_motion(root / "ego_motion_chunk_0000", ids[0])
    assert inside == find_ego_motion(root, ids[0])
    assert len(read_ego_motion_file(inside).timestamps_us) > 300
    with pytest.raises(MotionError, match="ego motion of clip nowhere in .*: missing"):
        find_ego_motion(root, "nowhere")
