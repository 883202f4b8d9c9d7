"""Files: the layout is PhysicalAI-AV's, NVIDIA's own devkit reads it, and a run is repeatable and interruptible."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.synthetic import (
    ClipPlan,
    SyntheticOptions,
    constant_motion,
    draw_motion,
    main,
    plan_clips,
    write_dataset,
    write_recordings,
)
from driving.errors import DrivingError, LedgerError

SMALL = {"seconds": 1, "height": 32, "width": 48}
CAMERA = "camera_front_wide_120fov"


def fingerprint(root: Path) -> dict[str, str]:
    """Hash of every file below a folder, but the lock and the command, which names the folder."""
    others = (".lock", "commands.json")
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in others]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Three clips in two chunks: a left circle, a reversing right bend, a random drive with a gap."""
    root = tmp_path_factory.mktemp("data") / "hub"
    clips = [
        constant_motion(8.0, 0.02),
        ClipPlan(constant_motion(-3.0, -0.05), is_valid=False, country="Finland"),
        ClipPlan(draw_motion(7, 4, 20), ego_gaps_s=((0.3, 0.9),), split="val"),
    ]
    summary = write_dataset(root, clips, seconds=2, height=64, width=112, clips_per_chunk=2)
    return root, summary, clips


def read_parquet(archive: Path, member: str) -> pd.DataFrame:
    with zipfile.ZipFile(archive) as opened:
        return pd.read_parquet(io.BytesIO(opened.read(member)))


def test_the_hub_layout_holds_exactly_these_files(hub):
    root, _, _ = hub
    expected = {"features.csv", "clip_index.parquet", "plan.json", "manifest.json"}
    expected |= {"metadata/data_collection.parquet", "metadata/feature_presence.parquet"}
    for chunk in ("0000", "0001"):
        expected |= {f"camera/{CAMERA}/{CAMERA}.chunk_{chunk}.zip", f"labels/egomotion/egomotion.chunk_{chunk}.zip"}
        for table in ("camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions"):
            expected.add(f"calibration/{table}/{table}.chunk_{chunk}.parquet")
    assert set(fingerprint(root)) == expected


def test_the_index_says_chunk_split_and_validity_by_clip(hub):
    root, summary, _ = hub
    index = pd.read_parquet(root / "clip_index.parquet")
    assert index.index.name == "clip_id" and tuple(index.index) == summary.clip_ids
    assert list(index["chunk"]) == [0, 0, 1] and list(index["split"]) == ["train", "test", "val"]
    assert list(index["clip_is_valid"]) == [True, False, True]
    assert (str(index["chunk"].dtype), str(index["clip_is_valid"].dtype)) == ("int64", "bool")
    assert pd.read_parquet(root / "metadata/data_collection.parquet")["country"].iloc[1] == "Finland"


def test_features_csv_names_the_paths_that_exist(hub):
    root, summary, _ = hub
    features = pd.read_csv(root / "features.csv", index_col="feature")
    for chunk_path in features["chunk_path"]:
        assert (root / chunk_path.format(chunk_id=1)).exists()
    members = json.loads(features.at[CAMERA, "clip_files_in_zip"])
    with zipfile.ZipFile(root / features.at[CAMERA, "chunk_path"].format(chunk_id=1)) as archive:
        assert set(archive.namelist()) == {name.format(clip_id=summary.clip_ids[2]) for name in members.values()}


def test_archives_are_stored_with_fixed_dates(hub):
    root, _, _ = hub
    infos = [info for path in root.rglob("*.zip") for info in zipfile.ZipFile(path).infolist()]
    assert len(infos) == 12
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}


def test_ego_motion_columns_have_the_real_names_and_types(hub):
    root, summary, _ = hub
    table = read_parquet(root / "labels/egomotion/egomotion.chunk_0000.zip", f"{summary.clip_ids[0]}.egomotion.parquet")
    expected = "timestamp, qx, qy, qz, qw, x, y, z, vx, vy, vz, ax, ay, az, curvature"
    assert ", ".join(table.columns) == expected
    assert str(table["timestamp"].dtype) == "int64" and set(map(str, table.dtypes[1:])) == {"float64"}


def test_a_planned_gap_is_in_the_file(hub):
    root, summary, _ = hub
    table = read_parquet(root / "labels/egomotion/egomotion.chunk_0001.zip", f"{summary.clip_ids[2]}.egomotion.parquet")
    steps = np.diff(table["timestamp"])
    assert steps[np.argmax(steps)] > 590_000 and (steps > 200_000).sum() == 1


def test_the_video_has_its_own_clock_a_frame_for_each_timestamp_and_key_frames(hub):
    import av

    root, summary, _ = hub
    archive = root / f"camera/{CAMERA}/{CAMERA}.chunk_0000.zip"
    name = f"{summary.clip_ids[0]}.{CAMERA}"
    times = read_parquet(archive, f"{name}.timestamps.parquet")
    assert list(times.columns) == ["timestamp", "frame_index"] and str(times["timestamp"].dtype) == "int64"
    video = av.open(io.BytesIO(zipfile.ZipFile(archive).read(f"{name}.mp4")))
    frames = list(video.decode(video=0))
    pts_us = np.array([float(frame.pts * frame.time_base) * 1e6 for frame in frames])
    assert len(frames) == len(times) == 65
    np.testing.assert_allclose(pts_us, np.arange(65) * 1e6 / 30, atol=1)
    assert np.abs(pts_us - times["timestamp"]).max() > 1_000
    assert [index for index, frame in enumerate(frames) if frame.key_frame] == [0, 30, 60]


def as_hub_cache(root: Path, cache: Path, revision: str) -> None:
    """Make a local folder look like a downloaded snapshot, as the devkit expects it."""
    snapshots = cache / "datasets--nvidia--PhysicalAI-Autonomous-Vehicles" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / revision).symlink_to(root)


@pytest.fixture(scope="module", params=["feature_presence", "sensor_presence"])
def devkit(request, hub, tmp_path_factory):
    import huggingface_hub
    from physical_ai_av import PhysicalAIAVDatasetInterface

    root, summary, clips = hub
    if request.param == "sensor_presence":
        root = tmp_path_factory.mktemp("older") / "hub"
        write_dataset(root, clips, seconds=2, height=64, width=112, clips_per_chunk=2, presence="sensor_presence")
    cache, revision = tmp_path_factory.mktemp("cache"), "0" * 40
    as_hub_cache(root, cache, revision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        # Offline the devkit still asks the hub whether the newer table exists; in older revisions it does not.
        patch.setattr(huggingface_hub.HfApi, "file_exists", lambda *args, **kwargs: False)
        yield PhysicalAIAVDatasetInterface(revision=revision, cache_dir=cache, token=False), summary, clips


def test_the_devkit_lists_the_clips_and_what_they_have(devkit):
    reader, summary, _ = devkit
    assert tuple(reader.clip_index.index) == summary.clip_ids
    assert reader.feature_presence[CAMERA].all() and "radar_config" not in reader.feature_presence
    assert reader.get_clip_chunk(summary.clip_ids[2]) == 1


@pytest.mark.parametrize("clip", [0, 1])
def test_the_devkit_reads_the_motion_that_was_planned(devkit, clip):
    reader, summary, clips = devkit
    motion = clips[clip].motion if isinstance(clips[clip], ClipPlan) else clips[clip]
    times_us = np.arange(0, 1_900_000, 33_333)
    seen = reader.get_clip_feature(summary.clip_ids[clip], "egomotion")(times_us)
    state = motion.sample(times_us)
    np.testing.assert_allclose(seen.pose.translation[:, :2], np.stack([state.x_m, state.y_m], 1), atol=1e-5)
    np.testing.assert_allclose(seen.pose.rotation.as_euler("ZYX")[:, 0], state.heading_rad, atol=1e-6)
    in_body = seen.pose.rotation.inv().apply(seen.velocity)
    np.testing.assert_allclose(in_body, [[motion.speeds_mps[0], 0, 0]] * len(times_us), atol=1e-4)
    np.testing.assert_allclose(seen.curvature[:, 0], motion.curvatures_per_m[0], atol=1e-12)


def test_the_devkit_decodes_the_last_frame_before_an_instant(devkit):
    reader, summary, _ = devkit
    video = reader.get_clip_feature(summary.clip_ids[0], CAMERA)
    images, times_us = video.decode_images_from_timestamps(video.timestamps[[3, 40]] + 5)
    assert images.shape == (2, 64, 112, 3)
    np.testing.assert_array_equal(times_us, video.timestamps[[3, 40]])


def test_the_devkit_reads_the_calibration(devkit):
    reader, summary, _ = devkit
    clip_id = summary.clip_ids[0]
    assert reader.get_clip_feature(clip_id, "camera_intrinsics").camera_models[CAMERA].width == 112
    pose = reader.get_clip_feature(clip_id, "sensor_extrinsics").sensor_poses[CAMERA]
    np.testing.assert_allclose(pose.rotation.apply([0, 0, 1]), [1, 0, 0], atol=1e-12)
    assert reader.get_clip_feature(clip_id, "vehicle_dimensions").wheelbase == 2.9


def test_the_extracted_layout_holds_the_same_clips_as_plain_files(hub, tmp_path):
    root, summary, clips = hub
    plain = tmp_path / "plain"
    write_dataset(plain, clips, layout="extracted", seconds=2, height=64, width=112, clips_per_chunk=2)
    for clip_id, chunk in zip(summary.clip_ids, ("0000", "0000", "0001"), strict=True):
        for feature, archive, folder in (
            (f"{CAMERA}.mp4", f"camera/{CAMERA}/{CAMERA}.chunk_{chunk}.zip", f"camera_chunk_{chunk}"),
            ("egomotion.parquet", f"labels/egomotion/egomotion.chunk_{chunk}.zip", f"ego_motion_chunk_{chunk}"),
        ):
            content = zipfile.ZipFile(root / archive).read(f"{clip_id}.{feature}")
            assert (plain / folder / f"{clip_id}.{feature}").read_bytes() == content
    assert (plain / "camera_intrinsics_chunk_0001.parquet").exists() and not (plain / "clip_index.parquet").exists()


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    clips = [constant_motion(5.0), draw_motion(7, 1, 15), draw_motion(7, 2, 15)]
    write_dataset(tmp_path / "one", clips, workers=1, **SMALL)
    write_dataset(tmp_path / "two", clips, workers=2, **SMALL)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")


def test_an_interrupted_run_is_continued_to_the_same_bytes(tmp_path, monkeypatch):
    import data_prep.synthetic.dataset as dataset

    clips = [constant_motion(speed) for speed in (1.0, 2.0, 3.0)]
    write_dataset(tmp_path / "whole", clips, clips_per_chunk=2, **SMALL)
    write_clip, written = dataset._write_clip, []

    def fail_at_the_third(job):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(job.plan.index)
        write_clip(job)

    monkeypatch.setattr(dataset, "_write_clip", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "cut", clips, clips_per_chunk=2, **SMALL)
    assert not (tmp_path / "cut" / "manifest.json").exists()
    monkeypatch.setattr(dataset, "_write_clip", lambda job: (written.append(job.plan.index), write_clip(job)))
    write_dataset(tmp_path / "cut", clips, clips_per_chunk=2, **SMALL)
    assert written == [0, 1, 2]
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")


def test_running_twice_says_complete_and_touches_nothing(tmp_path, capsys):
    flags = ["--output-dir", str(tmp_path / "out"), "--clips", "2", "--seconds", "1", "--height", "32", "--width", "48"]
    assert main([*flags, "--workers", "1"]) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*") if path.name != ".lock"}
    assert main([*flags, "--workers", "2"]) == 0
    assert "already complete, 2 recordings" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_plan_is_refused_and_replaced_on_demand(tmp_path):
    write_dataset(tmp_path / "out", [constant_motion(1.0)], **SMALL)
    with pytest.raises(LedgerError, match="made with seed = 7, this run asks for 8"):
        write_dataset(tmp_path / "out", [constant_motion(1.0)], seed=8, **SMALL)
    with pytest.raises(LedgerError, match="made with plans"):
        write_dataset(tmp_path / "out", [constant_motion(2.0)], **SMALL)
    summary = write_dataset(tmp_path / "out", [constant_motion(1.0)], seed=8, overwrite_output=True, **SMALL)
    assert not summary.was_complete


def test_a_strangers_folder_is_refused(tmp_path):
    (tmp_path / "holiday.txt").write_text("photos")
    with pytest.raises(LedgerError, match="did not write"):
        write_dataset(tmp_path, [constant_motion(1.0)], **SMALL)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"height": 30}, "picture of 30x48 px cannot be drawn"),
        ({"seconds": 0}, "recording of 0 s shows nothing"),
        ({"layout": "tar"}, "layout 'tar' is not one of hub, extracted"),
        ({"presence": "absence"}, "presence file 'absence' is not one of"),
    ],
)
def test_arguments_that_make_no_sense_are_explained(tmp_path, change, message):
    with pytest.raises(DrivingError, match=message):
        write_dataset(tmp_path / "out", [constant_motion(1.0)], **{**SMALL, **change})
    assert not (tmp_path / "out").exists()


def test_two_clips_with_one_id_are_refused(tmp_path):
    clips = [ClipPlan(constant_motion(1.0), clip_id="twin")] * 2
    with pytest.raises(DrivingError, match="two recordings have the id twin"):
        write_dataset(tmp_path / "out", clips, **SMALL)


def test_no_recording_at_all_is_refused(tmp_path):
    with pytest.raises(DrivingError, match="0 recordings were asked for"):
        write_recordings(SyntheticOptions(output_dir=tmp_path / "out", clips=0))


def test_the_default_run_plans_a_hundred_clips_two_with_gaps():
    plans = plan_clips(SyntheticOptions())
    assert len(plans) == 100 and sum(bool(plan.ego_gaps_s) for plan in plans) == 2
    assert all(plan.is_valid for plan in plans)


def test_more_special_clips_than_clips_are_refused():
    with pytest.raises(DrivingError, match="3 recordings with gaps and 1 invalid ones do not fit in 3"):
        plan_clips(SyntheticOptions(clips=3, gap_clips=3, invalid_clips=1))


def test_a_hundred_clips_split_seventy_ten_twenty_and_three_have_one_of_each():
    from data_prep.synthetic.clip import draw_split

    splits = [draw_split(7, index) for index in range(100)]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (70, 10, 20)
    assert set(splits[:3]) == {"train", "val", "test"}


def test_more_clips_leave_the_earlier_ones_as_they_were():
    few, many = plan_clips(SyntheticOptions(clips=3)), plan_clips(SyntheticOptions(clips=9))
    assert [plan.digest() for plan in few] == [plan.digest() for plan in many[:3]]


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_gives_the_same_bytes_and_leaves_no_worker(tmp_path, repository):
    import os
    import random
    import subprocess
    import sys
    import time

    def command(out):
        flags = ["--clips", "6", "--seconds", "2", "--height", "64", "--width", "112", "--clips-per-chunk", "2"]
        tool = repository / "scripts" / "make_synthetic_recordings.py"
        return [sys.executable, str(tool), "--workers", "2", "--output-dir", str(out), *flags]

    def wait_until_gone(session):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                os.killpg(session, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)
        return False

    subprocess.run(command(tmp_path / "whole"), check=True)
    for _ in range(10):
        run = subprocess.Popen(command(tmp_path / "killed"), start_new_session=True)
        time.sleep(random.Random(run.pid).uniform(0.3, 2.5))
        run.kill()
        run.wait()
        assert wait_until_gone(run.pid), "a worker outlived its killed parent"
    subprocess.run(command(tmp_path / "killed"), check=True)
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "whole")
