"""Labels and scores stand on the same intervals: true labels, driven as arcs, end where the car ended."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.dataset_options import DatasetOptions
from data_prep.hf_dataset import run as make_dataset
from data_prep.segment_labels import label_segment, label_segments
from data_prep.segment_options import SegmentOptions
from data_prep.segments import run as cut_segments
from data_prep.synthetic import constant_motion, draw_motion, write_dataset
from data_prep.training_format import ConvertOptions
from data_prep.training_format import run as convert
from driving.answer_format import AnswerFormat
from driving.clock import SegmentTimes, Window, count_samples, plan_segments, to_us
from driving.ego_motion import EgoMotion
from driving.errors import DrivingError, MotionError
from driving.metrics import ade_m
from driving.trajectory import Trajectory, integrate
from evaluation.scoring.truth_table import read_truth

SPEED_MPS, CURVATURE_PER_M = 20.0, 0.01


def circle(seconds: float) -> EgoMotion:
    """Positions and headings on a circle to the left, 100 Hz, from the closed form."""
    times_us = np.arange(round(seconds * 100) + 1) * 10_000
    angle = CURVATURE_PER_M * SPEED_MPS * times_us / 1e6
    zero = np.zeros_like(angle)
    position = np.stack([np.sin(angle), 1 - np.cos(angle), zero], axis=1) / CURVATURE_PER_M
    quaternion = np.stack([zero, zero, np.sin(angle / 2), np.cos(angle / 2)], axis=1)
    velocity = SPEED_MPS * np.stack([np.cos(angle), np.sin(angle), zero], axis=1)
    return EgoMotion(times_us, position, quaternion, velocity)


@pytest.mark.parametrize(
    "fps, duration_s", [(30, 1), (29.97, 1), (23.976, 1), (25, 0.48), (12.5, 0.96), (59.94, 0.5), (10, 2), (9.62, 1.04)]
)
def test_true_labels_end_where_the_car_did_at_every_accepted_rate(fps, duration_s):
    num = count_samples(duration_s, fps)
    start, middle, stop = (to_us(2 + index * duration_s) for index in range(3))
    times = SegmentTimes(0, Window(start, middle), Window(middle, stop))
    labels = label_segment(circle(14), times, fps, max_gap_s=0.25, curvature="pose")
    answer_format = AnswerFormat(num_pairs=num, fps=fps, duration_s=duration_s)
    path = integrate(Trajectory.from_pairs(labels.targets), answer_format.interval_s)
    assert ade_m(path[None], labels.future_pose[None, : num + 1])[0] < 0.001
    assert labels.future_times_s[num] == pytest.approx(duration_s)
    assert 6.4 - duration_s / num < labels.future_times_s[-1] <= 6.4


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    write_dataset(folder, [constant_motion(20.0, 0.01)] * 3, seconds=4, height=32, width=64, workers=1)
    return folder


def test_true_labels_score_less_than_a_millimetre_at_29_97_fps_through_every_stage(recordings, tmp_path):
    segments, dataset, training = tmp_path / "segments", tmp_path / "dataset", tmp_path / "training"
    cut_segments(SegmentOptions(input_dir=recordings, output_dir=segments, fps=29.97, cut="index", workers=1))
    made = DatasetOptions(segments_path=segments, output_dir=dataset, fps=29.97, val_ratio=0.3, test_ratio=0.3)
    make_dataset(made)
    convert(ConvertOptions(dataset_dir=dataset, output_dir=training))
    table = read_truth(training / "truth.parquet", duration_s=1.0)
    ids = [f"{clip}_seg_{index:02d}" for clip in clip_ids(segments) for index in range(3)]
    truth = table.rows(ids)
    assert len(truth) == 9
    for row in range(9):
        path = integrate(Trajectory(truth.velocity_mps[row], truth.curvature_per_m[row]), truth.interval_s)
        assert ade_m(path[None], truth.poses[row : row + 1])[0] < 0.001


def clip_ids(segments):
    import pyarrow.parquet as pq

    return sorted(set(pq.read_table(segments / "metadata" / "segments.parquet")["clip_uuid"].to_pylist()))


def test_half_a_frame_too_much_is_refused_before_anything_is_written(recordings, tmp_path):
    with pytest.raises(DrivingError, match="is 12.5 frames, .* pass --fps 24 or 26, or --duration 0.48 or 0.52"):
        cut_segments(SegmentOptions(input_dir=recordings, output_dir=tmp_path / "out", fps=25.0, duration=0.5))
    assert not (tmp_path / "out").exists()


def test_a_nearly_equal_duration_is_another_one(recordings, tmp_path):
    segments = tmp_path / "segments"
    cut_segments(SegmentOptions(input_dir=recordings, output_dir=segments, fps=29.97, cut="index", workers=1))
    with pytest.raises(DrivingError, match="are 1 s long .* asks for --duration 1.001; pass --duration 1, or"):
        make_dataset(DatasetOptions(segments_path=segments, output_dir=tmp_path / "d", fps=29.97, duration=1.001))


def drive(breaks_us: tuple[tuple[int, int], ...] = (), bad_row: int | None = None) -> EgoMotion:
    """A drive with curves, a stop and reversing, 16 s, at 100 Hz and then 14."""
    times_us = np.concatenate([np.arange(-200_000, 12_000_000, 10_000), np.arange(12_000_000, 16_000_000, 70_000)])
    for start, stop in breaks_us:
        times_us = times_us[(times_us < start) | (times_us >= stop)]
    state = draw_motion(3, 17, 20.0).sample(times_us)
    cosine, sine, zero = np.cos(state.heading_rad), np.sin(state.heading_rad), np.zeros(len(times_us))
    position = np.stack([state.x_m, state.y_m, zero], axis=1)
    if bad_row is not None:
        position[bad_row] = np.nan
    quaternion = np.stack([zero, zero, np.sin(state.heading_rad / 2), np.cos(state.heading_rad / 2)], axis=1)
    velocity = state.velocity_mps[:, None] * np.stack([cosine, sine, zero], axis=1)
    return EgoMotion(times_us, position, quaternion, velocity, state.curvature_per_m)


@pytest.mark.parametrize("curvature", ["pose", "column"])
@pytest.mark.parametrize(
    "motion", [drive(), drive(breaks_us=((5_000_000, 5_400_000),)), drive(bad_row=700)], ids=["whole", "gap", "bad row"]
)
def test_labels_read_at_once_are_those_read_one_by_one_to_the_last_bit(motion, curvature):
    """Windows before the first sample, over gaps, near and past the end are among them."""
    windows = plan_segments(-2_000_000, 18_000_000, 1_000_000)
    rules = {"max_gap_s": 0.25, "curvature": curvature}
    num_errors = 0
    for times, found in zip(windows, label_segments(motion, windows, 30, **rules), strict=True):
        try:
            expected = label_segment(motion, times, 30, **rules)
        except MotionError as error:
            assert str(found) == str(error)
            num_errors += 1
            continue
        for name in ("targets", "observed", "future_pose", "future_times_s"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert 4 <= num_errors < 12
