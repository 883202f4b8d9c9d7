import numpy as np
import pytest

from data_prep.segment_plan import (
    EDGE,
    SegmentRules,
    check_frame_times,
    check_rate,
    check_span,
    highest_rate,
    plan_recording,
)
from driving.ego_motion import EgoMotion
from driving.errors import DrivingError, VideoError
from driving.recording import Recording, RecordingRef, VideoAddress


def rules(fps=10.0, duration_s=1.0, tolerance=0.75):
    return SegmentRules(fps, duration_s, tolerance, max_gap_s=0.25, curvature="pose")


def straight_drive(start_s, stop_s, speed_mps=10.0):
    times_us = np.arange(round(start_s * 100), round(stop_s * 100) + 1) * 10_000
    position = np.zeros((len(times_us), 3))
    position[:, 0] = speed_mps * times_us / 1e6
    quaternion = np.tile([0.0, 0.0, 0.0, 1.0], (len(times_us), 1))
    return EgoMotion(times_us, position, quaternion)


def recording(motion=None, clock_zero_us=0):
    ref = RecordingRef("clip", "folder", group="clip")
    return Recording(ref, VideoAddress("clip.mp4"), None, clock_zero_us, motion)


def camera(seconds, fps=10.0, first_s=0.0):
    return np.round((first_s + np.arange(round(seconds * fps)) / fps) * 1e6).astype(np.int64)


def test_a_twenty_second_recording_gives_nineteen_segments_that_touch():
    segments, skips = plan_recording(recording(), camera(20), rules())
    assert [segment.id for segment in segments] == [f"clip_seg_{n:02d}" for n in range(19)]
    assert [segment.start_s for segment in segments] == [float(n) for n in range(19)]
    assert np.array_equal(np.concatenate([segment.frame_indices for segment in segments]), np.arange(190))
    assert skips == []


def test_the_clock_zero_of_the_recording_is_where_segment_zero_starts():
    # Frames from -0.5 s on; the clip anchor is 0 s, which is frame 5.
    segments, _ = plan_recording(recording(clock_zero_us=0), camera(3.5, first_s=-0.5), rules())
    assert [segment.frame_indices[0] for segment in segments] == [5, 15]


def test_without_a_clock_zero_the_first_frame_is_it():
    segments, _ = plan_recording(recording(clock_zero_us=None), camera(3, first_s=7.0), rules())
    assert [segment.frame_indices[0] for segment in segments] == [0, 10]


def test_half_second_segments_start_every_half_second():
    segments, _ = plan_recording(recording(), camera(2), rules(duration_s=0.5))
    assert [segment.start_s for segment in segments] == [0.0, 0.5, 1.0]
    assert [len(segment.frame_indices) for segment in segments] == [5, 5, 5]


def test_a_faster_camera_is_thinned_out():
    segments, _ = plan_recording(recording(), camera(2, fps=30), rules(fps=10))
    assert segments[0].frame_indices.tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]


def test_a_slightly_slower_camera_gives_no_frame_twice():
    segments, skips = plan_recording(recording(), camera(5.2, fps=9.62), rules(fps=10))
    assert skips == []
    assert all(np.diff(segment.frame_indices).min() >= 1 for segment in segments)


def test_a_dropped_stretch_of_frames_takes_only_the_segments_it_touches():
    times_us = np.delete(camera(6), range(24, 29))  # nothing between 2.3 and 2.9 s
    segments, skips = plan_recording(recording(), times_us, rules())
    assert [skip.id for skip in skips] == ["clip_seg_02"]
    assert skips[0].stage == "frames"
    # Ten instants and five frames: the choice without repeats reaches three frames back and three ahead.
    assert "is 300.0 ms from its instant, 75.0 ms are allowed" in skips[0].reason
    assert [segment.id for segment in segments] == ["clip_seg_00", "clip_seg_01", "clip_seg_03", "clip_seg_04"]


def test_a_camera_that_starts_late_loses_its_first_segment_without_fault():
    _, skips = plan_recording(recording(clock_zero_us=0), camera(3.5, first_s=0.3), rules())
    assert [(skip.id, skip.stage) for skip in skips] == [("clip_seg_00", EDGE)]


def test_motion_that_ends_with_the_camera_is_no_fault():
    # The last frame is at 2.9 s and stands for 0.1 s; the pose is known up to that frame only.
    segments, skips = plan_recording(recording(straight_drive(0, 2.95)), camera(3), rules())
    assert [segment.id for segment in segments] == ["clip_seg_00"]
    assert [(skip.id, skip.stage) for skip in skips] == [("clip_seg_01", EDGE)]


def test_motion_that_ends_early_is_a_fault_of_the_segments_it_leaves_bare():
    segments, skips = plan_recording(recording(straight_drive(0, 3.5)), camera(6), rules())
    assert [segment.id for segment in segments] == ["clip_seg_00", "clip_seg_01"]
    assert [(skip.id, skip.stage) for skip in skips] == [("clip_seg_02", "label"), ("clip_seg_03", "label"),
                                                         ("clip_seg_04", "label")]  # fmt: skip
    assert "covers 0.000 to 3.500 s, the window needs 3.000 to 4.000 s" in skips[0].reason


def test_labels_are_of_the_second_after_and_poses_reach_six_seconds_on():
    segments, _ = plan_recording(recording(straight_drive(-1, 20)), camera(10), rules())
    labels = segments[0].labels
    assert labels.targets.shape == labels.observed.shape == (10, 2)
    assert labels.targets[:, 0] == pytest.approx(10.0)
    assert labels.future_times_s[-1] == pytest.approx(6.4)
    assert labels.future_pose[10] == pytest.approx([10.0, 0.0, 0.0], abs=1e-6)  # one second at 10 m/s
    assert len(labels.future_pose) == len(labels.future_times_s) == 65


def test_poses_end_where_the_recording_does():
    segments, _ = plan_recording(recording(straight_drive(0, 4)), camera(4), rules())
    assert segments[-1].labels.future_times_s[-1] == pytest.approx(1.0)


def test_without_motion_there_are_no_labels():
    segments, _ = plan_recording(recording(), camera(2), rules())
    assert segments[0].labels is None


@pytest.mark.parametrize(
    "times_us, what",
    [
        ([0, 100_000, 100_000, 200_000], r"repeat after frame 1: 0\.100 s, then 0\.100 s"),
        ([0, 100_000, 50_000, 200_000], r"go back after frame 1: 0\.100 s, then 0\.050 s"),
        ([0, 100_000, 90_100_000, 90_200_000], r"jump after frame 1: 0\.100 s, then 90\.100 s"),
        ([0, 3_000_000, 6_000_000, 9_000_000, 12_000_000], r"jump after frame 0: 0\.000 s, then 3\.000 s"),
    ],
)
def test_times_that_cannot_be_true_are_refused(times_us, what):
    with pytest.raises(VideoError, match=what):
        check_frame_times(np.array(times_us), "clip")


def test_one_frame_is_no_recording():
    with pytest.raises(VideoError, match="clip has 1 frames"):
        check_frame_times(np.array([0]), "clip")


def test_a_recording_too_short_for_a_segment_and_its_future_says_so():
    with pytest.raises(DrivingError, match=r"clip shows 1\.40 s; a segment and its future need 2 s"):
        plan_recording(recording(), camera(1.5), rules())


def test_a_recording_that_is_too_slow_names_the_rate_it_can_give():
    with pytest.raises(VideoError, match=r"recorded at 9\.62 frames a second, this run asks for 30; pass --fps 10 or"):
        check_rate(camera(5.2, fps=9.62), 30.0, "clip")


@pytest.mark.parametrize(
    "rate_hz, highest", [(9.62, 10), (29.97, 30), (30.0, 30), (14.3, 14), (9.49, 9), (25.0, 25), (1.5, 1), (0.5, 0.5)]
)
def test_the_highest_rate_of_a_recording_is_whole_and_at_most_five_percent_above_it(rate_hz, highest):
    assert highest_rate(rate_hz) == highest


@pytest.mark.parametrize("first_us", [2**60, 1_700_000_000_000_000, -(2**60), 2**63 - 4_000_000])
def test_frames_on_another_clock_than_the_clock_zero_are_one_fault(first_us):
    with pytest.raises(VideoError, match=r"clip: frames begin at .* s, its clock zero is 0.000 s: two clocks"):
        plan_recording(recording(clock_zero_us=0), first_us + np.arange(30) * 100_000, rules())


def test_frames_near_the_end_of_int64_are_one_fault_without_a_clock_zero_too():
    with pytest.raises(VideoError, match="two clocks"):
        plan_recording(recording(clock_zero_us=None), 2**63 - 4_000_000 + np.arange(30) * 100_000, rules())


def test_unix_time_is_no_fault_where_the_first_frame_is_the_clock_zero():
    frames_us = 1_700_000_000_000_000 + np.arange(30) * 100_000
    segments, _ = plan_recording(recording(clock_zero_us=None), frames_us, rules())
    assert [segment.frame_indices[0] for segment in segments] == [0, 10]


def test_a_recording_of_more_than_a_day_is_one_fault():
    with pytest.raises(VideoError, match="frames span 86401 s, a recording is at most 86400 s"):
        check_span(np.array([0, 86_401_000_000]), 0, "clip")
