"""comma2k19: the real pose against the car's own speed, ECEF against geodesy, and segments in their folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_prep.sources import find_source
from data_prep.sources.comma2k19 import Comma2k19, estimate_mount, plan_enu, read_motion
from driving.clock import Window, plan_edges, plan_midpoints
from driving.ego_motion import future_pose, sample_motion
from driving.errors import MotionError, SourceError

ROUTE = "b0c9d2329ad1606b|2018-08-02--08-34-47"


@pytest.fixture(scope="module")
def example(shared_data):
    return shared_data / "comma2k19_example1_pose_can"


@pytest.fixture
def copy(example, tmp_path):
    return shutil.copytree(example, tmp_path / "Chunk_1" / ROUTE / "40")


def test_the_real_pose_agrees_with_the_speed_on_the_bus(example):
    motion = read_motion(example)
    bus_s = np.load(example / "processed_log/CAN/speed/t")
    bus = np.interp(motion.timestamps_us / 1e6, bus_s, np.load(example / "processed_log/CAN/speed/value")[:, 0])
    assert np.sqrt(np.mean((motion.speed_mps - bus) ** 2)) == pytest.approx(0.156, abs=0.002)
    assert np.corrcoef(motion.speed_mps, bus)[0, 1] > 0.9997
    assert motion.speed_mps.min() == pytest.approx(7.94, abs=0.01)
    assert motion.speed_mps.max() == pytest.approx(20.01, abs=0.01)


def test_the_real_device_is_tilted_and_forward_is_along_the_path_all_the_same(example):
    motion = read_motion(example)
    total = np.linalg.norm(motion.velocity_mps, axis=1)
    assert np.abs(total - motion.speed_mps).max() < 0.005  # the tilt uncorrected costs 0.2 %: 0.04 m/s at 20 m/s
    looks = Rotation.from_quat(np.load(example / "global_pose/frame_orientations")[0, [1, 2, 3, 0]])
    device_forward = plan_enu(np.load(example / "global_pose/frame_positions")[0]) @ looks.apply([1, 0, 0])
    car_forward = Rotation.from_quat(motion.quaternion_xyzw[0]).apply([1, 0, 0])
    assert np.degrees(np.arccos(device_forward @ car_forward)) == pytest.approx(3.9, abs=0.1)


def test_real_velocity_is_the_derivative_of_the_position(example):
    motion = read_motion(example)
    seconds = motion.timestamps_us / 1e6
    derived = np.diff(motion.position_m, axis=0) / np.diff(seconds)[:, None]
    middle = (motion.velocity_mps[1:] + motion.velocity_mps[:-1]) / 2
    assert np.median(np.linalg.norm(derived - middle, axis=1)) < 0.05


def test_real_future_poses_go_forward_by_the_speed(example):
    motion = read_motion(example)
    start = int(motion.timestamps_us[0]) + 20_000_000
    window = Window(start, start + 1_000_000)
    speed = sample_motion(motion, window, plan_midpoints(window, 20)).velocity_mps.mean()
    ahead = future_pose(motion, plan_edges(window, 20))[-1]
    assert ahead[0] == pytest.approx(speed, rel=0.01)
    assert abs(ahead[1]) < 0.3


@pytest.mark.parametrize("latitude, longitude", [(37.8, -122.5), (0.0, 10.0), (-33.9, 151.2), (89.0, 0.0)])
def test_up_is_the_normal_of_the_ellipsoid(latitude, longitude):
    phi, lam = np.radians([latitude, longitude])
    a, e2, height = 6378137.0, 6.69437999014e-3, 200.0  # WGS 84
    n = a / np.sqrt(1 - e2 * np.sin(phi) ** 2)
    place = [
        (n + height) * np.cos(phi) * np.cos(lam),
        (n + height) * np.cos(phi) * np.sin(lam),
        (n * (1 - e2) + height) * np.sin(phi),
    ]
    east, north, up = plan_enu(np.array(place))
    assert up == pytest.approx([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], abs=1e-6)
    assert east == pytest.approx([-np.sin(lam), np.cos(lam), 0], abs=1e-12)
    assert np.cross(up, east) == pytest.approx(north)


def draw_segment(folder, speed_mps=10.0, curvature_per_m=0.0, tilt_deg=4.0, seconds=10, reverse=False):
    """A car driving level at 37.8 N, its device tilted upwards, in ECEF: made by scipy, not by the code under test."""
    phi, lam = np.radians([37.8, -122.5])
    up = np.array([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
    east = np.array([-np.sin(lam), np.cos(lam), 0])
    enu = np.stack([east, np.cross(up, east), up], axis=1)  # columns: the directions in ECEF
    times = 1000 + np.arange(seconds * 20) / 20
    way = speed_mps * (times - 1000)
    heading = 0.3 + curvature_per_m * way
    step = np.column_stack([np.cos(heading), np.sin(heading), np.zeros(len(heading))])
    fine = np.cumsum(step * speed_mps / 20, axis=0)
    if curvature_per_m:
        radius = 1 / curvature_per_m
        fine = radius * np.column_stack([np.sin(heading) - np.sin(0.3), np.cos(0.3) - np.cos(heading), 0 * way])
    car = Rotation.from_euler("z", heading[:, None])
    device = Rotation.from_euler("y", -tilt_deg, degrees=True) * Rotation.from_euler("x", 180, degrees=True)
    quaternion = (Rotation.from_matrix(enu) * car * device).as_quat()
    base = 6_370_000 * up
    pose = folder / "global_pose"
    pose.mkdir(parents=True)
    arrays = {
        "frame_times": times,
        "frame_positions": base + fine @ enu.T,
        "frame_velocities": speed_mps * step @ enu.T,
        "frame_orientations": quaternion[:, [3, 0, 1, 2]],
    }
    for name, array in arrays.items():
        with (pose / name).open("wb") as file:
            np.save(file, array)
    return folder


@pytest.mark.parametrize("curvature", [0.01, -0.01, 0.0])
def test_a_drawn_drive_gives_back_its_speed_and_curvature(tmp_path, curvature):
    motion = read_motion(draw_segment(tmp_path / "s", curvature_per_m=curvature, tilt_deg=0.0))
    start = int(motion.timestamps_us[0])
    window = Window(start + 2_000_000, start + 3_000_000)
    read = sample_motion(motion, window, plan_midpoints(window, 20))
    assert read.velocity_mps == pytest.approx(10.0, abs=0.01)
    assert read.curvature_per_m == pytest.approx(curvature, abs=1e-4)


def test_a_tilted_device_does_not_slow_the_car_down(tmp_path):
    motion = read_motion(draw_segment(tmp_path / "s", tilt_deg=4.0))
    assert motion.speed_mps == pytest.approx(10.0, abs=1e-6)  # seen along the device it would be 10 cos 4 deg = 9.976


def test_a_car_that_hardly_moves_leaves_the_device_as_it_is(tmp_path):
    motion = read_motion(draw_segment(tmp_path / "s", speed_mps=1.0, tilt_deg=4.0))
    assert motion.speed_mps == pytest.approx(np.cos(np.radians(4.0)), abs=1e-3)


def test_the_mount_is_the_same_seen_in_reverse():
    times = np.arange(100) * 50_000
    body = np.tile(np.eye(3), (100, 1, 1))
    ahead = np.tile([9.0, 0.9, 0.45], (100, 1))
    assert estimate_mount(times, body, ahead) == pytest.approx(estimate_mount(times, body, -ahead))
    assert estimate_mount(times, body, ahead)[:, 0] == pytest.approx(ahead[0] / np.linalg.norm(ahead[0]))


def test_a_segment_without_video_is_at_fault_and_its_motion_is_readable(copy, tmp_path):
    (ref,) = Comma2k19().plan(tmp_path)
    assert ref.fault == f"no video.hevc in {copy}; download the segment"
    assert len(read_motion(copy).timestamps_us) == 1200
    with pytest.raises(SourceError, match="no video.hevc"):
        Comma2k19().read(ref)


def test_segments_of_one_drive_are_one_group(copy, tmp_path):
    shutil.copytree(copy, copy.parent / "41")
    (copy / "video.hevc").touch()
    (copy.parent / "41" / "video.mp4").touch()
    for root in (tmp_path, tmp_path / "Chunk_1", copy.parent):
        refs = Comma2k19().plan(root)
        assert [ref.recording_id for ref in refs] == [
            "b0c9d2329ad1606b_2018-08-02--08-34-47_40",
            "b0c9d2329ad1606b_2018-08-02--08-34-47_41",
        ]
        assert {ref.group for ref in refs} == {"b0c9d2329ad1606b_2018-08-02--08-34-47"}
    first, second = (Comma2k19().read(ref) for ref in refs)
    assert first.video.path == str(copy / "video.hevc")
    assert second.video.path == str(copy.parent / "41" / "video.mp4")
    assert first.frame_times_us[:2].tolist() == [46_408_547_498, 46_408_597_506]
    assert first.clock_zero_us == 46_408_547_498


def test_auto_recognises_a_segment(example):
    assert find_source("auto", example).name == "comma2k19"


def test_a_camera_cannot_be_chosen(example):
    with pytest.raises(SourceError, match="comma2k19 has one camera only"):
        Comma2k19().plan(example, "front")


def test_a_missing_array_is_named(copy):
    (copy / "global_pose" / "frame_velocities").unlink()
    with pytest.raises(MotionError, match="frame_velocities cannot be read as an npy array"):
        read_motion(copy)


def change_array(copy, name, change):
    path = copy / "global_pose" / name
    array = np.load(path)
    array = change(array)
    with path.open("wb") as file:
        np.save(file, array)


def test_an_array_of_another_shape_is_named(copy):
    change_array(copy, "frame_positions", lambda array: array[:, :2])
    with pytest.raises(MotionError, match=r"frame_positions has shape \(1200, 2\) of float64, \(N, 3\)"):
        read_motion(copy)


def test_arrays_of_different_lengths_are_refused(copy):
    change_array(copy, "frame_velocities", lambda array: array[:-1])
    with pytest.raises(MotionError, match="frame_velocities holds 1199 rows, frame_times holds 1200"):
        read_motion(copy)


def test_an_orientation_that_is_no_rotation_is_named(copy):
    change_array(copy, "frame_orientations", lambda array: array * 1.5)
    with pytest.raises(MotionError, match="frame_orientations row 0 has norm 1.500, a rotation has 1"):
        read_motion(copy)


def test_a_row_that_is_not_a_number_spoils_itself_only(copy):
    def spoil(array):
        array[100] = np.nan
        return array

    for name in ("frame_positions", "frame_orientations", "frame_velocities"):
        change_array(copy, name, spoil)
    motion = read_motion(copy)
    assert np.flatnonzero(~motion.is_finite).tolist() == [100]
    later = Window(int(motion.timestamps_us[200]), int(motion.timestamps_us[200]) + 1_000_000)
    assert np.isfinite(sample_motion(motion, later, plan_midpoints(later, 20)).to_pairs()).all()
    assert np.isfinite(future_pose(motion, plan_edges(later, 20))).all()
