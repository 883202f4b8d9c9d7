"""What a broken PhysicalAI-AV folder does: exactly the broken clips are at fault, each with its reason."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from breaking import (
    CAMERA,
    camera_zip,
    cut_short,
    drop_member,
    edit_file,
    edit_index,
    edit_table,
    edit_zip,
    ego_zip,
    flip_byte_in_zip,
    rename_member,
    replace_member,
)

from data_prep.sources.physical_ai import PhysicalAI, read_ego_motion_file, read_frame_times
from data_prep.synthetic import ClipPlan, constant_motion, write_dataset
from driving.clock import Window, plan_midpoints
from driving.ego_motion import sample_motion
from driving.errors import MotionError, SourceError

SECOND = Window(0, 1_000_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{layout: (folder, ids)}: two chunks of two clips."""
    folder = tmp_path_factory.mktemp("faults")
    plans = [ClipPlan(constant_motion(5.0 + i), chunk=i // 2) for i in range(4)]
    return {
        layout: (
            folder / layout,
            list(write_dataset(folder / layout, plans, layout=layout, seconds=2, height=64, width=112).clip_ids),
        )
        for layout in ("hub", "extracted")
    }


@pytest.fixture
def hub(made, tmp_path):
    root, ids = made["hub"]
    return shutil.copytree(root, tmp_path / "hub"), ids


@pytest.fixture
def extracted(made, tmp_path):
    root, ids = made["extracted"]
    return shutil.copytree(root, tmp_path / "extracted"), ids


def faults(root):
    """{id: fault} of the clips that cannot be used."""
    return {ref.recording_id: ref.fault for ref in PhysicalAI().plan(root) if ref.fault}


def exclusions(root):
    return {ref.recording_id: ref.excluded for ref in PhysicalAI().plan(root) if ref.excluded}


def read(root, clip_id):
    refs = {ref.recording_id: ref for ref in PhysicalAI().plan(root)}
    return PhysicalAI().read(refs[clip_id])


def test_a_clip_of_the_index_without_its_video_is_at_fault(hub):
    root, ids = hub
    drop_member(camera_zip(root), f"{ids[1]}.{CAMERA}.mp4")
    found = faults(root)
    assert list(found) == [ids[1]]
    assert f"chunk_0000.zip: there is no member {ids[1]}.{CAMERA}.mp4" in found[ids[1]]
    with pytest.raises(SourceError, match=f"recording {ids[1]}: .* there is no member"):
        read(root, ids[1])


def test_a_clip_without_ego_motion_is_at_fault(hub):
    root, ids = hub
    drop_member(ego_zip(root), f"{ids[0]}.egomotion.parquet")
    assert list(faults(root)) == [ids[0]]


def test_a_clip_that_the_presence_table_denies_a_camera_says_so(hub):
    import pandas as pd

    root, ids = hub
    path = root / "metadata" / "feature_presence.parquet"
    table = pd.read_parquet(path)
    table.loc[ids[0], CAMERA] = False
    table.to_parquet(path)
    drop_member(camera_zip(root), f"{ids[0]}.{CAMERA}.mp4")
    assert exclusions(root) == {ids[0]: f"the dataset's presence table says that this clip has no {CAMERA}"}
    assert faults(root) == {}


def test_an_invalid_clip_is_left_out_by_the_dataset_and_not_at_fault(hub):
    root, ids = hub
    edit_index(root, lambda table: table.assign(clip_is_valid=table.index != ids[2]))
    assert exclusions(root) == {ids[2]: "clip_index.parquet says clip_is_valid = False"}
    assert faults(root) == {}


def test_two_clips_of_one_id_are_both_at_fault_and_name_both_places(hub):
    import pandas as pd

    root, ids = hub
    edit_index(root, lambda table: pd.concat([table, table.loc[[ids[0]]].assign(chunk=1)]))
    refs = [ref for ref in PhysicalAI().plan(root) if ref.recording_id == ids[0]]
    assert len(refs) == 2
    for ref in refs:
        assert ref.fault.startswith(f"two recordings have the id {ids[0]}: ")
        assert "chunk_0000.zip" in ref.fault and "chunk_0001.zip" in ref.fault


def test_two_chunk_folders_with_one_clip_are_both_at_fault(extracted):
    root, ids = extracted
    for kind in ("camera", "ego_motion"):
        for path in (root / f"{kind}_chunk_0000").glob(f"{ids[0]}*"):
            shutil.copy(path, root / f"{kind}_chunk_0001")
    refs = PhysicalAI().plan(root)
    assert [ref.recording_id for ref in refs if ref.fault] == [ids[0], ids[0]]
    assert len(refs) == 5


def test_two_members_of_one_name_are_refused(hub):
    root, ids = hub
    member = f"{ids[0]}.egomotion.parquet"
    with pytest.warns(UserWarning, match="Duplicate name"):
        edit_zip(ego_zip(root), lambda name, data: [(name, data)] * (2 if name == member else 1))
    assert list(faults(root)) == [ids[0]]
    assert f"two members are named {member}" in faults(root)[ids[0]]


def test_an_archive_cut_short_takes_its_own_chunk_only_and_is_named(hub):
    root, ids = hub
    cut_short(camera_zip(root, 1))
    found = faults(root)
    assert sorted(found) == sorted(ids[2:])
    assert f"{camera_zip(root, 1)} is not a whole zip archive" in found[ids[2]]


def test_a_chunk_whose_ego_motion_was_not_downloaded_is_at_fault(hub):
    root, ids = hub
    ego_zip(root, 0).unlink()
    found = faults(root)
    assert sorted(found) == sorted(ids[:2])
    assert f"{ego_zip(root, 0)} is missing" in found[ids[0]]


def test_a_member_that_points_outside_is_not_opened(hub):
    root, ids = hub
    member = f"{ids[3]}.{CAMERA}.mp4"
    rename_member(camera_zip(root, 1), member, f"../{member}")
    found = faults(root)
    assert list(found) == [ids[3]]
    assert f"member '../{member}' points outside the archive and is not opened" in found[ids[3]]


def test_a_template_that_points_outside_is_refused(hub):
    root, _ = hub
    path = root / "features.csv"
    path.write_text(path.read_text().replace("labels/egomotion/", "../labels/"))
    with pytest.raises(SourceError, match=r"the chunk_path of egomotion points outside the folder: '\.\./labels"):
        PhysicalAI().plan(root)


def test_an_id_that_points_outside_is_refused(extracted):
    import pandas as pd

    root, ids = extracted
    chunks = [0, 0, 1, 1]
    index = pd.DataFrame({"chunk": chunks}, index=pd.Index(["../x", *ids[1:]], name="clip_id"))
    index.to_parquet(root / "clip_index.parquet")
    found = faults(root)
    assert list(found.values()) == ["clip id '../x' points outside the folder and is not opened"]
    assert "/" not in next(iter(found))


def test_a_wrong_checksum_is_found_when_a_table_is_read(hub):
    root, ids = hub
    flip_byte_in_zip(ego_zip(root), f"{ids[0]}.egomotion.parquet")
    with pytest.raises(SourceError, match=f"{ids[0]}.egomotion.parquet cannot be read .*Bad CRC-32"):
        read(root, ids[0])
    assert read(root, ids[1]).ego_motion is not None


def test_an_extracted_clip_without_video_is_at_fault(extracted):
    root, ids = extracted
    (root / "camera_chunk_0000" / f"{ids[0]}.{CAMERA}.mp4").unlink()
    (root / "ego_motion_chunk_0001" / f"{ids[3]}.egomotion.parquet").unlink()
    found = faults(root)
    assert sorted(found) == sorted([ids[0], ids[3]])
    assert f"missing: {root}/camera_chunk_0000/{ids[0]}.{CAMERA}.mp4; download the chunk again" == found[ids[0]]


def test_a_folder_of_tables_without_any_chunk_says_so(hub):
    root, _ = hub
    shutil.rmtree(root / "camera")
    with pytest.raises(SourceError, match=f"camera '{CAMERA}' is not in .*; there is: none"):
        PhysicalAI().plan(root)


def break_ego(extracted, change):
    """The path of the first clip's ego motion after a change of its columns."""
    root, ids = extracted
    path = root / "ego_motion_chunk_0000" / f"{ids[0]}.egomotion.parquet"
    edit_file(path, edit_table(change))
    return path


def test_ego_motion_without_a_curvature_column_is_read(extracted):
    path = break_ego(extracted, lambda columns: columns.pop("curvature") and None)
    motion = read_ego_motion_file(path)
    assert motion.curvature_per_m is None
    assert sample_motion(motion, SECOND, plan_midpoints(SECOND, 30)).velocity_mps == pytest.approx(5.0)
    with pytest.raises(MotionError, match="no curvature column; use --curvature pose"):
        sample_motion(motion, SECOND, plan_midpoints(SECOND, 30), curvature="column")


def test_ego_motion_without_a_needed_column_names_it(extracted):
    path = break_ego(extracted, lambda columns: [columns.pop(name) for name in ("qw", "vx")] and None)
    with pytest.raises(MotionError, match="lacks the columns qw, vx; it has"):
        read_ego_motion_file(path)


def test_an_empty_cell_is_not_a_number_and_stays_in_its_row(extracted):
    path = break_ego(extracted, lambda columns: columns["x"].__setitem__(40, None))
    motion = read_ego_motion_file(path)
    assert np.flatnonzero(~motion.is_finite).tolist() == [40]


def test_timestamps_in_seconds_are_refused(extracted):
    path = break_ego(extracted, lambda columns: columns.update(timestamp=[t / 1e6 for t in columns["timestamp"]]))
    with pytest.raises(MotionError, match=r"column timestamp holds double, whole microseconds \(int64\) were expected"):
        read_ego_motion_file(path)


def test_an_empty_timestamp_is_refused(extracted):
    path = break_ego(extracted, lambda columns: columns["timestamp"].__setitem__(3, None))
    with pytest.raises(MotionError, match="column timestamp is empty in 1 rows"):
        read_ego_motion_file(path)


def test_a_column_of_text_is_refused(extracted):
    path = break_ego(extracted, lambda columns: columns.update(vx=[str(v) for v in columns["vx"]]))
    with pytest.raises(MotionError, match="column vx holds string, numbers were expected"):
        read_ego_motion_file(path)


def test_ego_timestamps_that_repeat_name_the_row_and_the_file(extracted):
    path = break_ego(extracted, lambda columns: columns["timestamp"].__setitem__(7, columns["timestamp"][6]))
    with pytest.raises(MotionError, match=f"{path}: ego motion timestamps do not increase at row 7"):
        read_ego_motion_file(path)


def test_a_quaternion_that_is_no_rotation_names_the_row(extracted):
    path = break_ego(extracted, lambda columns: columns["qw"].__setitem__(9, 0.5))
    with pytest.raises(MotionError, match="quaternion at row 9 has norm 0.5"):
        read_ego_motion_file(path)


def test_a_table_cut_short_is_named(extracted):
    root, ids = extracted
    path = root / "ego_motion_chunk_0000" / f"{ids[0]}.egomotion.parquet"
    cut_short(path)
    with pytest.raises(MotionError, match=f"{path} is not a whole parquet table"):
        read_ego_motion_file(path)
    with pytest.raises(MotionError, match="nowhere.egomotion.parquet cannot be read .No such file"):
        read_ego_motion_file(root / "nowhere.egomotion.parquet")


def break_times(extracted, change):
    root, ids = extracted
    path = root / "camera_chunk_0000" / f"{ids[0]}.{CAMERA}.timestamps.parquet"
    edit_file(path, edit_table(change))
    return path


def test_frame_timestamps_that_go_backwards_name_the_row(extracted):
    path = break_times(extracted, lambda columns: columns["timestamp"].__setitem__(5, 0))
    with pytest.raises(SourceError, match=f"{path}: frame timestamps do not increase at row 5: .* us, then 0 us"):
        read_frame_times(str(path))


def test_a_frame_missing_from_the_count_is_named(extracted):
    def drop_row(columns):
        return {name: values[:10] + values[11:] for name, values in columns.items()}

    path = break_times(extracted, drop_row)
    with pytest.raises(SourceError, match="frame_index goes from 9 to 11 at row 10"):
        read_frame_times(str(path))


def test_frame_times_without_a_timestamp_column_are_refused(extracted):
    path = break_times(extracted, lambda columns: {"time": columns["timestamp"]})
    with pytest.raises(SourceError, match=r"has no column timestamp; it has \['time'\]"):
        read_frame_times(str(path))


def test_frame_times_that_are_not_whole_microseconds_are_refused(extracted):
    path = break_times(extracted, lambda columns: columns.update(timestamp=[t + 0.5 for t in columns["timestamp"]]))
    with pytest.raises(SourceError, match="column timestamp holds double"):
        read_frame_times(str(path))


def test_a_video_of_zero_bytes_is_left_for_the_stage_that_opens_it(hub):
    root, ids = hub
    replace_member(camera_zip(root), f"{ids[0]}.{CAMERA}.mp4", lambda data: b"")
    assert faults(root) == {}
    assert read(root, ids[0]).video.member == f"{ids[0]}.{CAMERA}.mp4"


def test_an_unknown_split_is_named(hub):
    root, _ = hub
    edit_index(root, lambda table: table.assign(split="validation"))
    with pytest.raises(SourceError, match="names the split 'validation'; known are train, val, test"):
        PhysicalAI().plan(root)


def test_a_broken_index_is_named(hub):
    root, _ = hub
    cut_short(root / "clip_index.parquet")
    with pytest.raises(SourceError, match="clip_index.parquet is not a whole parquet table"):
        PhysicalAI().plan(root)


def test_an_index_without_chunk_numbers_is_refused(hub):
    root, _ = hub
    edit_index(root, lambda table: table.drop(columns="chunk"))
    with pytest.raises(SourceError, match="clip_index.parquet has no column chunk"):
        PhysicalAI().plan(root)


def test_an_index_may_have_its_ids_in_a_column(hub):
    root, ids = hub
    edit_index(root, lambda table: table.reset_index())
    assert "clip_id" in pq.read_schema(root / "clip_index.parquet").names
    assert [ref.recording_id for ref in PhysicalAI().plan(root)] == sorted(ids)


def test_features_that_are_no_json_are_named(hub):
    root, _ = hub
    path = root / "features.csv"
    path.write_text("feature,directory,chunk_path,clip_files_in_zip\negomotion,labels,x.zip,{broken\n")
    with pytest.raises(SourceError, match="clip_files_in_zip of egomotion is not JSON: '{broken'"):
        PhysicalAI().plan(root)
    path.write_text("feature,directory\negomotion,labels\n")
    with pytest.raises(SourceError, match="features.csv has no column 'clip_files_in_zip'"):
        PhysicalAI().plan(root)
