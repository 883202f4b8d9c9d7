"""Every check of the audit fails on a recording broken in exactly that way, and on nothing else."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from data_prep.audit import AuditOptions, audit_recordings, main
from data_prep.synthetic import Motion, constant_motion, write_dataset

SECONDS = 10
CAMERA = "camera_front_wide_120fov"


def weaving(amplitude_per_m=0.02, period_m=60.0, speed_mps=9.0):
    """A drive that swings left and right while its speed rises and falls: it tells every clock and sign apart."""
    road_m = np.arange(-60.0, 400.0, 2.0)
    curvatures = amplitude_per_m * np.sin(2 * np.pi * road_m / period_m)
    return Motion([-1, 5, 10, 25], [speed_mps, speed_mps + 4, speed_mps - 3, speed_mps + 3], road_m, curvatures)


MOTIONS = (weaving(), weaving(0.03, 75.0, 7.0))


@pytest.fixture(scope="session")
def healthy_recordings(tmp_path_factory):
    root = tmp_path_factory.mktemp("audit") / "healthy"
    summary = write_dataset(root, MOTIONS, layout="extracted", seconds=SECONDS, height=144, width=256)
    return root, summary.clip_ids


@pytest.fixture
def recordings(healthy_recordings, tmp_path):
    """A copy to be broken."""
    root, clip_ids = healthy_recordings
    shutil.copytree(root, tmp_path / "data")
    return tmp_path / "data", clip_ids


def audit(root, **options):
    return audit_recordings(AuditOptions(input_dir=root, **{"max_video_clips": 0, **options}))


def rewrite(path, change):
    """Change a table in place; `change` gets the frame and returns it."""
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def break_ego(recordings, change, clips=(0, 1)):
    root, clip_ids = recordings
    for clip in clips:
        rewrite(root / "ego_motion_chunk_0000" / f"{clip_ids[clip]}.egomotion.parquet", change)
    return audit(root)


def camera_file(recordings, clip, suffix):
    root, clip_ids = recordings
    return root / "camera_chunk_0000" / f"{clip_ids[clip]}.{CAMERA}.{suffix}"


def fix_of(report, check):
    return next(verdict.fix for verdict in report.verdicts if verdict.check == check)


def write_segments(folder, clip_ids, label, seconds=SECONDS):
    """An index of segments as prepare_video_segments.py writes it; `label` gives (T, 2) for (clip, instants in us)."""
    rows = []
    for clip, clip_id in enumerate(clip_ids):
        for start in range(seconds - 1):
            instants_us = (1_000_000 * (start + 1 + (np.arange(30) + 0.5) / 30)).astype(np.int64)
            rows.append(
                {
                    "segment_uuid": f"{clip_id}_seg_{start:02d}",
                    "clip_uuid": clip_id,
                    "start_second": start,
                    "video_path": "unused.mp4",
                    "fps": 30.0,
                    "num_frames": 30,
                    "group": clip_id,
                    "split": "train",
                    "targets": np.asarray(label(clip, instants_us)).tolist(),
                    "observed": [],
                    "future_pose": [],
                }
            )
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "segments.parquet")
    return folder


def true_label(clip, instants_us):
    state = MOTIONS[clip].sample(instants_us)
    return np.stack([state.velocity_mps, state.curvature_per_m], axis=1)


def test_healthy_recordings_pass_every_check(healthy_recordings, tmp_path):
    root, clip_ids = healthy_recordings
    segments = write_segments(tmp_path / "segments", clip_ids, true_label)
    report = audit(root, max_video_clips=2, segments_path=segments)
    assert {verdict.check: verdict.status for verdict in report.verdicts if verdict.status != "PASS"} == {}


def test_the_lead_of_the_curvature_column_is_measured(healthy_recordings):
    leads = [finding.value for finding in audit(healthy_recordings[0]).findings if finding.check == "curvature column"]
    assert leads == pytest.approx([35.0, 35.0], abs=3.0)


def test_velocity_in_the_body_frame_fails(recordings):
    def to_body(table):
        speed = np.hypot(table["vx"], table["vy"])
        return table.assign(vx=speed, vy=0.0)

    report = break_ego(recordings, to_body)
    assert report.failed_checks == {"velocity frame"}
    assert "V is in the body frame: rotate it by the pose" in fix_of(report, "velocity frame")


def test_velocity_in_km_per_h_fails(recordings):
    report = break_ego(recordings, lambda table: table.assign(vx=3.6 * table["vx"], vy=3.6 * table["vy"]))
    assert report.failed_checks == {"velocity frame"}
    assert "3.6 times |dX/dt|" in fix_of(report, "velocity frame")


def test_velocity_with_swapped_axes_fails(recordings):
    report = break_ego(recordings, lambda table: table.assign(vx=table["vy"], vy=table["vx"]))
    assert report.failed_checks == {"velocity frame"}
    assert "axes swapped" in fix_of(report, "velocity frame")


def test_a_curvature_column_with_flipped_sign_fails(recordings):
    report = break_ego(recordings, lambda table: table.assign(curvature=-table["curvature"]))
    assert report.failed_checks == {"curvature column"}
    assert "sign is flipped" in fix_of(report, "curvature column")


def test_a_curvature_column_without_sign_fails(recordings):
    report = break_ego(recordings, lambda table: table.assign(curvature=table["curvature"].abs()))
    assert report.failed_checks == {"curvature column"}
    assert "lost its sign" in fix_of(report, "curvature column")


def test_a_curvature_column_40_ms_late_fails(recordings):
    def delay(table):
        # 75 ms after the 35 ms lead that it has: 40 ms behind the pose.
        times = table["timestamp"].to_numpy()
        return table.assign(curvature=np.interp(times - 75_000, times, table["curvature"]))

    report = break_ego(recordings, delay)
    assert report.failed_checks == {"curvature column"}
    assert "40 ms late against the pose" in fix_of(report, "curvature column")


def test_a_curvature_column_of_another_scale_fails(recordings):
    report = break_ego(recordings, lambda table: table.assign(curvature=1.5 * table["curvature"]))
    assert report.failed_checks == {"curvature column"}
    assert "not the path's curvature" in fix_of(report, "curvature column")


def test_quaternions_that_are_not_unit_fail(recordings):
    report = break_ego(recordings, lambda table: table.assign(qz=1.1 * table["qz"], qw=1.1 * table["qw"]))
    assert report.failed_checks == {"quaternion norm", "recordings open"}
    assert "are no rotations" in fix_of(report, "quaternion norm")


def test_quaternions_stored_as_w_x_y_z_fail(recordings):
    def reorder(table):
        return table.assign(qx=table["qw"], qy=table["qx"], qz=table["qy"], qw=table["qz"])

    report = break_ego(recordings, reorder)
    assert "pose axes" in report.failed_checks
    assert "stored as w x y z" in fix_of(report, "pose axes")


def test_quaternions_from_world_to_body_fail(recordings):
    report = break_ego(recordings, lambda table: table.assign(qz=-table["qz"]))
    assert "pose axes" in report.failed_checks
    assert "invert it" in fix_of(report, "pose axes")


def test_shuffled_ego_rows_fail(recordings):
    report = break_ego(recordings, lambda table: table.sample(frac=1.0, random_state=0))
    assert report.failed_checks == {"ego timestamps", "recordings open"}
    assert "sort the rows by timestamp" in fix_of(report, "ego timestamps")


def test_a_gap_in_ego_motion_fails(recordings):
    report = break_ego(recordings, lambda table: table[(table["timestamp"] < 4e6) | (table["timestamp"] > 4.6e6)])
    assert report.failed_checks == {"ego gaps"}
    assert "nothing is filled in" in fix_of(report, "ego gaps")


def test_ego_motion_at_4_5_hz_fails(recordings):
    report = break_ego(recordings, lambda table: table[table["timestamp"] < 10e6].iloc[::22])
    assert report.failed_checks == {"ego rate"}
    assert "find the full-rate log" in fix_of(report, "ego rate")


def test_a_rate_that_changes_is_noted_but_no_fault(healthy_recordings):
    verdict = next(verdict for verdict in audit(healthy_recordings[0]).verdicts if verdict.check == "ego rate")
    assert verdict.status == "PASS" and "never by row stride" in verdict.fix
    assert "100 Hz" in verdict.measured and "14.3 Hz" in verdict.measured


def test_ego_motion_on_another_clock_fails(recordings):
    report = break_ego(recordings, lambda table: table.assign(timestamp=table["timestamp"] + 3_600_000_000))
    assert report.failed_checks == {"shared clock"}
    assert "another unit or another zero" in fix_of(report, "shared clock")


def test_frames_that_the_camera_dropped_fail(recordings):
    from driving.recording import VideoAddress
    from video_io import decode_frames, write_video

    path = camera_file(recordings, 0, "mp4")
    kept = [index for index in range(SECONDS * 30 + 5) if index not in (100, 101, 200)]
    frames = decode_frames(VideoAddress(str(path)), kept)
    write_video(path, frames, 30)
    rewrite(
        camera_file(recordings, 0, "timestamps.parquet"),
        lambda table: table.iloc[kept].assign(frame_index=np.arange(len(kept))),
    )
    report = audit(recordings[0])
    assert report.failed_checks == {"camera frames"}
    failed = next(verdict for verdict in report.verdicts if verdict.check == "camera frames")
    assert "3 missing, longest hole" in failed.measured and failed.num_failed == 1


def test_timestamps_that_are_fewer_than_frames_fail(recordings):
    rewrite(camera_file(recordings, 1, "timestamps.parquet"), lambda table: table.iloc[:-4])
    report = audit(recordings[0])
    assert report.failed_checks == {"camera frames"}
    assert "frame i of the video is not row i" in fix_of(report, "camera frames")


def test_shuffled_camera_timestamps_fail(recordings):
    def shuffle(table):
        return table.assign(timestamp=table["timestamp"].sample(frac=1.0, random_state=0).to_numpy())

    rewrite(camera_file(recordings, 0, "timestamps.parquet"), shuffle)
    report = audit(recordings[0], max_video_clips=2)
    assert report.failed_checks == {"camera frames", "recordings open"}
    assert "out of order" in fix_of(report, "camera frames")


@pytest.mark.parametrize("shift_ms, advice", [(200, "add -"), (-200, "add +")])
def test_a_camera_clock_off_by_200_ms_fails(recordings, shift_ms, advice):
    for clip in (0, 1):
        path = camera_file(recordings, clip, "timestamps.parquet")
        rewrite(path, lambda table: table.assign(timestamp=table["timestamp"] + 1000 * shift_ms))
    report = audit(recordings[0], max_video_clips=2)
    assert report.failed_checks == {"camera clock"}
    offset_ms = next(finding.value for finding in report.findings if finding.check == "camera clock")
    assert offset_ms == pytest.approx(-shift_ms, abs=40)
    assert advice in fix_of(report, "camera clock")


def test_a_mirrored_picture_fails(recordings):
    from driving.recording import VideoAddress
    from video_io import decode_frames, write_video

    for clip in (0, 1):
        path = camera_file(recordings, clip, "mp4")
        frames = decode_frames(VideoAddress(str(path)), range(SECONDS * 30 + 5))
        write_video(path, frames[:, :, ::-1], 30)
    report = audit(recordings[0], max_video_clips=2)
    assert report.failed_checks == {"camera clock"}
    assert "mirrored" in fix_of(report, "camera clock")


def test_labels_taken_by_row_stride_fail(recordings, tmp_path):
    root, clip_ids = recordings
    tables = [pd.read_parquet(root / "ego_motion_chunk_0000" / f"{clip_id}.egomotion.parquet") for clip_id in clip_ids]

    def by_rows(clip, instants_us):
        rows = tables[clip].iloc[np.round(instants_us / 10_000).astype(int)]  # as if row n were at n / 100 s
        return np.stack([np.hypot(rows["vx"], rows["vy"]), rows["curvature"]], axis=1)

    report = audit(root, segments_path=write_segments(tmp_path / "segments", clip_ids, by_rows))
    assert report.failed_checks == {"labels"}
    assert "by row stride, not by time" in fix_of(report, "labels")


def test_labels_without_the_sign_of_curvature_fail(recordings, tmp_path):
    segments = write_segments(tmp_path / "segments", recordings[1], lambda *at: np.abs(true_label(*at)))
    report = audit(recordings[0], segments_path=segments)
    assert report.failed_checks == {"labels"}
    assert "sign of the curvature is lost" in fix_of(report, "labels")


def test_labels_with_the_other_sign_fail(recordings, tmp_path):
    segments = write_segments(tmp_path / "segments", recordings[1], lambda *at: true_label(*at) * [1, -1])
    assert "sign of the curvature is flipped" in fix_of(audit(recordings[0], segments_path=segments), "labels")


def test_labels_of_the_second_before_fail(recordings, tmp_path):
    def early(clip, at_us):
        return true_label(clip, at_us - 1_000_000)

    report = audit(recordings[0], segments_path=write_segments(tmp_path / "segments", recordings[1], early))
    assert report.failed_checks == {"labels"}
    assert "of another time, unit or recording" in fix_of(report, "labels")


def test_a_reversing_label_without_its_sign_fails(tmp_path):
    root = tmp_path / "data"
    summary = write_dataset(root, [constant_motion(-3.0, 0.02)], layout="extracted", seconds=3, height=32, width=48)
    segments = write_segments(tmp_path / "segments", summary.clip_ids, lambda *at: [[3.0, 0.02]] * 30, seconds=3)
    report = audit(root, segments_path=segments)
    assert report.failed_checks == {"labels"}
    assert "reversing reads as driving on" in fix_of(report, "labels")


def test_a_damaged_table_is_one_failed_recording_and_the_rest_is_still_judged(recordings):
    root, clip_ids = recordings
    path = root / "ego_motion_chunk_0000" / f"{clip_ids[0]}.egomotion.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    report = audit(root)
    assert report.failed_checks == {"recordings open"}
    opened = next(verdict for verdict in report.verdicts if verdict.check == "recordings open")
    assert opened.failed == (clip_ids[0],) and opened.num_judged == 2
    assert next(verdict for verdict in report.verdicts if verdict.check == "pose axes").num_judged == 1


def test_a_straight_drive_skips_what_it_cannot_tell(tmp_path):
    write_dataset(tmp_path / "data", [constant_motion(10.0)], layout="extracted", seconds=3, height=32, width=48)
    report = audit(tmp_path / "data", max_video_clips=1)
    skipped = {verdict.check: verdict.fix for verdict in report.verdicts if verdict.status == "SKIP"}
    assert report.failed_checks == set()
    assert "too straight" in skipped["curvature column"] and "turns too little" in skipped["camera clock"]


def test_a_standing_car_skips_what_it_cannot_tell(tmp_path):
    write_dataset(tmp_path / "data", [constant_motion(0.0, 0.02)], layout="extracted", seconds=3, height=32, width=48)
    report = audit(tmp_path / "data")
    skipped = {verdict.check for verdict in report.verdicts if verdict.status == "SKIP"}
    assert report.failed_checks == set() and {"pose axes", "velocity frame", "curvature column"} <= skipped


def test_the_tool_prints_the_table_writes_json_and_fails(recordings, tmp_path, capsys):
    break_ego(recordings, lambda table: table.assign(curvature=-table["curvature"]), clips=(1,))
    flags = ["--json", str(tmp_path / "audit.json"), "--max-video-clips", "0"]
    assert main([str(recordings[0]), *flags]) == 1
    printed = capsys.readouterr().out
    assert "curvature column     FAIL   1/2 bad" in printed and recordings[1][1] in printed and "fix: " in printed
    verdicts = json.loads((tmp_path / "audit.json").read_text())["verdicts"]
    assert [verdict["check"] for verdict in verdicts if verdict["status"] == "FAIL"] == ["curvature column"]


def test_a_healthy_folder_exits_with_zero(healthy_recordings, capsys):
    assert main([str(healthy_recordings[0]), "--max-video-clips", "0"]) == 0
    assert "2 recordings, 13 checks, 0 failed" in capsys.readouterr().out


def test_a_folder_without_recordings_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "holds no recordings of a known layout" in capsys.readouterr().err


def test_a_few_gaps_among_many_recordings_are_tolerated():
    from data_prep.audit.findings import FAIL, PASS, Finding, summarise

    findings = [Finding("ego gaps", str(number), FAIL if number < 2 else PASS, "step") for number in range(100)]
    assert summarise(findings, ["ego gaps"])[0].status == PASS
    assert summarise(findings[:99], ["ego gaps"])[0].status == FAIL  # 2 of 99 are more than 2 %


def test_the_real_kitti_frames_pass_what_they_can_tell(shared_data):
    report = audit(shared_data / "kitti_odometry_06", max_video_clips=1)
    statuses = {verdict.check: verdict for verdict in report.verdicts}
    assert report.failed_checks == set()
    assert statuses["ego rate"].measured.startswith("9.6") and statuses["pose axes"].status == "PASS"


def test_the_real_comma2k19_velocity_is_in_the_fixed_frame(shared_data):
    report = audit(shared_data / "comma2k19_example1_pose_can")
    statuses = {verdict.check: verdict for verdict in report.verdicts}
    assert report.failed_checks == {"recordings open"}  # the example has no video
    assert statuses["velocity frame"].status == "PASS" and statuses["ego rate"].measured.startswith("20 Hz")
