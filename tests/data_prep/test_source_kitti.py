"""KITTI odometry: real frames, times and poses from shared data, and drawn sequences in both layouts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from data_prep.sources import find_source
from data_prep.sources.kitti import Kitti, read_poses, read_times
from driving.clock import Window, plan_edges, plan_midpoints
from driving.ego_motion import future_pose, sample_motion
from driving.errors import MotionError, SourceError


@pytest.fixture
def sequence_06(shared_data):
    return shared_data / "kitti_odometry_06"


def chord_speeds(folder, times_s):
    """(N - 1,) |dX| / dt between neighbouring poses, from the file's own numbers."""
    position = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)[:, :, 3]
    return np.linalg.norm(np.diff(position, axis=0), axis=1) / np.diff(times_s)


def test_real_speeds_are_the_way_between_poses_over_the_real_time(sequence_06):
    times_s = np.loadtxt(sequence_06 / "times.txt")
    recording = Kitti().read(Kitti().plan(sequence_06)[0])
    chords = chord_speeds(sequence_06, times_s)
    middles_us = np.round((times_s[1:] + times_s[:-1]) / 2 * 1e6).astype(np.int64)
    window = Window(0, int(times_s[-1] * 1e6))
    read = sample_motion(recording.ego_motion, window, middles_us).velocity_mps
    assert 11.4 < chords.min() < chords.max() < 11.7
    assert np.abs(read - chords).max() < 0.05


def test_at_label_midpoints_real_speeds_agree_with_the_chord_around_them(sequence_06):
    times_s = np.loadtxt(sequence_06 / "times.txt")
    recording = Kitti().read(Kitti().plan(sequence_06)[0])
    window = Window(1_000_000, 2_000_000)
    at = plan_midpoints(window, 10)
    chords = chord_speeds(sequence_06, times_s)[np.searchsorted(times_s * 1e6, at) - 1]
    assert np.abs(sample_motion(recording.ego_motion, window, at).velocity_mps - chords).max() < 0.05


def test_taking_ten_hertz_for_granted_would_be_far_off(sequence_06):
    assumed_s = np.arange(51) / 10
    recording = Kitti().read(Kitti().plan(sequence_06)[0])
    window = Window(1_000_000, 2_000_000)
    read = sample_motion(recording.ego_motion, window, plan_midpoints(window, 10)).velocity_mps
    assert (chord_speeds(sequence_06, assumed_s)[10:20] - read).min() > 0.3


def test_the_real_street_bends_one_degree_to_the_left(sequence_06):
    motion = Kitti().read(Kitti().plan(sequence_06)[0]).ego_motion
    assert np.degrees(motion.heading_rad[-1] - motion.heading_rad[0]) == pytest.approx(1.0, abs=0.1)
    ahead = future_pose(motion, plan_edges(Window(0, 4_000_000), 10))[-1]
    assert ahead[0] == pytest.approx(46, abs=0.5)


def test_the_real_sequence_is_one_recording_with_its_own_times(sequence_06):
    (ref,) = Kitti().plan(sequence_06)
    recording = Kitti().read(ref)
    assert (ref.recording_id, ref.group, ref.split) == ("kitti_odometry_06", "kitti_odometry_06", "")
    assert recording.video.frames[:2] == ("000000.png", "000001.png")
    assert len(recording.video.frames) == 51
    assert recording.frame_times_us[:3].tolist() == [0, 104_499, 207_794]  # 1.044989e-01 s, 2.077935e-01 s
    assert recording.clock_zero_us == 0
    assert find_source("auto", sequence_06).name == "kitti"


def draw_sequence(folder, num_frames=40, rate_hz=9.62, speed_mps=8.0, turn_radps=0.2, camera="image_0"):
    """A car on a circle to the left, as the left camera's poses: x right, y down, z forward."""
    times_s = np.arange(num_frames) / rate_hz
    heading = turn_radps * times_s  # left positive
    radius = speed_mps / turn_radps
    rows = []
    for psi in heading:
        forward, left = radius * np.sin(psi), radius * (1 - np.cos(psi))
        rotation = [[np.cos(psi), 0, -np.sin(psi)], [0, 1, 0], [np.sin(psi), 0, np.cos(psi)]]  # about the downward axis
        rows.append(np.column_stack([rotation, [-left, 0, forward]]).ravel())
    (folder / camera).mkdir(parents=True)
    for index in range(num_frames):
        (folder / camera / f"{index:06d}.png").touch()
    np.savetxt(folder / "times.txt", times_s)
    np.savetxt(folder / "poses.txt", rows)
    return folder


def test_a_left_turn_in_camera_axes_is_positive_curvature(tmp_path):
    motion = Kitti().read(Kitti().plan(draw_sequence(tmp_path / "a"))[0]).ego_motion
    window = Window(1_000_000, 2_000_000)
    read = sample_motion(motion, window, plan_midpoints(window, 10))
    assert read.velocity_mps == pytest.approx(8.0, abs=0.01)
    assert read.curvature_per_m == pytest.approx(0.2 / 8.0, abs=1e-4)


def test_the_official_layout_finds_poses_beside_the_sequences(tmp_path):
    for number in ("00", "06"):
        folder = draw_sequence(tmp_path / "dataset" / "sequences" / number)
        (tmp_path / "dataset" / "poses").mkdir(exist_ok=True)
        shutil.move(folder / "poses.txt", tmp_path / "dataset" / "poses" / f"{number}.txt")
    for root in (tmp_path, tmp_path / "dataset", tmp_path / "dataset" / "sequences"):
        refs = Kitti().plan(root)
        assert [(ref.recording_id, ref.fault) for ref in refs] == [("00", ""), ("06", "")]
        assert Kitti().read(refs[1]).ego_motion is not None


def test_a_sequence_that_has_no_published_poses_can_be_predicted(tmp_path):
    folder = draw_sequence(tmp_path / "sequences" / "11")
    (folder / "poses.txt").unlink()
    (ref,) = Kitti().plan(tmp_path)
    assert Kitti().read(ref).ego_motion is None


def test_a_sequence_whose_poses_are_missing_is_at_fault(tmp_path):
    folder = draw_sequence(tmp_path / "06")
    (folder / "poses.txt").unlink()
    (ref,) = Kitti().plan(tmp_path)
    assert f"{folder} has no poses.txt" in ref.fault
    with pytest.raises(SourceError, match="recording 06: .* has no poses.txt"):
        Kitti().read(ref)


def test_the_camera_is_chosen_by_its_folder(tmp_path):
    folder = draw_sequence(tmp_path / "06")
    shutil.copytree(folder / "image_0", folder / "image_2")
    assert Kitti().plan(tmp_path)[0].place["pictures"] == str(folder / "image_0")
    assert Kitti().plan(tmp_path, "image_2")[0].place["pictures"] == str(folder / "image_2")
    with pytest.raises(SourceError, match="camera 'image_3' is not in .*; there is: image_0, image_2"):
        Kitti().plan(tmp_path, "image_3")


def test_a_picture_keeps_the_time_of_its_number_when_others_are_gone(tmp_path):
    folder = draw_sequence(tmp_path / "06", rate_hz=10)
    for number in (0, 1, 5):
        (folder / "image_0" / f"{number:06d}.png").unlink()
    recording = Kitti().read(Kitti().plan(tmp_path)[0])
    assert recording.frame_times_us[:4].tolist() == [200_000, 300_000, 400_000, 600_000]
    assert recording.clock_zero_us == 200_000


def test_more_pictures_than_times_are_refused(tmp_path):
    folder = draw_sequence(tmp_path / "06")
    (folder / "image_0" / "000040.png").touch()
    with pytest.raises(SourceError, match=r"times.txt holds 40 times, .*image_0 holds 000040.png"):
        Kitti().read(Kitti().plan(tmp_path)[0])


def test_pictures_without_numbers_are_refused(tmp_path):
    folder = draw_sequence(tmp_path / "06")
    (folder / "image_0" / "front.png").touch()
    with pytest.raises(SourceError, match=r"no pictures named by their number .*front.png"):
        Kitti().read(Kitti().plan(tmp_path)[0])


def test_more_times_than_poses_are_refused(tmp_path):
    folder = draw_sequence(tmp_path / "06")
    lines = (folder / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(MotionError, match="poses.txt holds 39 poses, times.txt holds 40 times"):
        Kitti().read(Kitti().plan(tmp_path)[0])


def test_times_that_go_backwards_name_the_line(tmp_path):
    (tmp_path / "times.txt").write_text("0.0\n0.1\n0.05\n")
    with pytest.raises(SourceError, match="times.txt: times do not increase at line 3"):
        read_times(tmp_path / "times.txt")


def test_times_that_are_no_numbers_are_refused(tmp_path):
    (tmp_path / "times.txt").write_text("0.0\nsoon\n")
    with pytest.raises(SourceError, match="times.txt cannot be read as numbers"):
        read_times(tmp_path / "times.txt")


def test_poses_of_the_wrong_width_or_shape_are_refused(tmp_path):
    path = tmp_path / "poses.txt"
    times = np.array([0, 100_000])
    path.write_text("1 0 0\n" * 2)
    with pytest.raises(MotionError, match=r"holds lines of \[3\] numbers, 12 were expected"):
        read_poses(path, times)
    path.write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" + "2 0 0 0 0 2 0 0 0 0 2 0\n")
    with pytest.raises(MotionError, match="the pose at line 2 is no rotation"):
        read_poses(path, times)


def test_a_pose_that_is_not_a_number_spoils_its_own_rows(tmp_path):
    folder = draw_sequence(tmp_path / "06", rate_hz=10)
    lines = (folder / "poses.txt").read_text().splitlines()
    lines[10] = " ".join(["nan"] * 12)
    (folder / "poses.txt").write_text("\n".join(lines))
    motion = Kitti().read(Kitti().plan(tmp_path)[0]).ego_motion
    assert np.flatnonzero(~motion.is_finite).tolist() == [9, 10, 11]  # 9 and 11: no derivative of the position
    later = Window(2_000_000, 3_000_000)
    assert sample_motion(motion, later, plan_midpoints(later, 10)).velocity_mps == pytest.approx(8.0, abs=0.01)
    assert np.isfinite(future_pose(motion, plan_edges(later, 10))).all()


def test_a_folder_without_sequences_says_what_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match="holds no KITTI odometry sequence; looked for image_l"):
        Kitti().plan(tmp_path)
