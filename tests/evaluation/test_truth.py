"""Reading truth.parquet by id."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driving.errors import DrivingError
from evaluation.scoring.truth_table import read_truth


def write(path, **changes):
    pose = [[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [10.0, 0.0, 0.0], [15.0, 0.0, 0.0]]
    columns = {
        "id": ["a", "b", "c"],
        "group": ["g", "g", "h"],
        "split": ["train", "test", "test"],
        "targets": [[[10.0, 0.0], [10.0, 0.0]], [[1.0, 0.1], [2.0, 0.2]], [[3.0, 0.3], [4.0, 0.4]]],
        "observed": [[[9.0, 0.0], [9.0, 0.0]]] * 3,
        "future_pose": [pose, pose[:3], pose],
    }
    pq.write_table(pa.table(columns | changes), path)
    return path


def test_rows_come_in_the_order_asked_for_with_poses_cut_to_the_answer(tmp_path):
    truth = read_truth(write(tmp_path / "truth.parquet"), 1.0).rows(["c", "b"])
    assert truth.ids.tolist() == ["c", "b"]
    assert truth.groups.tolist() == ["h", "g"]
    assert truth.velocity_mps.tolist() == [[3, 4], [1, 2]]
    assert truth.curvature_per_m.tolist() == [[0.3, 0.4], [0.1, 0.2]]
    assert truth.poses.shape == (2, 3, 3)
    assert truth.poses[0, :, 0].tolist() == [0, 5, 10]
    assert truth.interval_s == 0.5


def test_fixed_size_lists_of_float32_read_the_same(tmp_path):
    pairs = pa.list_(pa.list_(pa.float32(), 2), 2)
    targets = pa.array([[[10.0, 0.0], [10.0, 0.0]], [[1.0, 0.5], [2.0, 0.25]], [[3.0, 0.5], [4.0, 0.5]]], pairs)
    truth = read_truth(write(tmp_path / "truth.parquet", targets=targets), 1.0).rows(["b"])
    assert truth.curvature_per_m.tolist() == [[0.5, 0.25]]
    assert truth.velocity_mps.dtype == np.float64


def test_ids_without_labels_are_left_out(tmp_path):
    targets = [[[10.0, 0.0], [10.0, 0.0]], None, [[3.0, 0.3], [4.0, 0.4]]]
    table = read_truth(write(tmp_path / "truth.parquet", targets=targets), 1.0)
    assert table.rows(["b", "c", "stranger"]).ids.tolist() == ["c"]


def test_the_train_rows_give_the_training_labels(tmp_path):
    targets = [[[10.0, 0.0], [10.0, 0.0]], [[1.0, 0.1], [2.0, 0.2]], [[30.0, 0.2], [40.0, 0.4]]]
    path = write(tmp_path / "truth.parquet", targets=targets, split=["train", "test", "train"])
    labels = read_truth(path, 1.0).train_labels()
    assert labels.mean.tolist() == [[20.0, 0.1], [25.0, 0.2]]
    assert labels.num_rows == 2


def test_a_column_of_another_type_is_named(tmp_path):
    path = write(tmp_path / "truth.parquet", targets=["x", "y", "z"])
    with pytest.raises(DrivingError, match="targets is of the type string, not lists of numbers; run convert_to"):
        read_truth(path, 1.0)
    path = write(tmp_path / "truth.parquet", id=[7, 8, 9])
    with pytest.raises(DrivingError, match="id is of the type int64, not text; run convert_to"):
        read_truth(path, 1.0)


def test_training_rows_of_two_lengths_are_refused_also_in_two_row_groups(tmp_path):
    path = write(
        tmp_path / "truth.parquet", targets=[[[1.0, 0.0]], [[1.0, 0.1], [2.0, 0.2]], None], split=["train"] * 3
    )
    pq.write_table(pq.read_table(path), path, row_group_size=1)
    with pytest.raises(DrivingError, match=r"truth.parquet: rows of \[1, 2\] samples"):
        read_truth(path, 1.0).train_labels()


def test_only_row_groups_with_a_wanted_row_are_read(tmp_path, monkeypatch):
    path = write(tmp_path / "truth.parquet")
    pq.write_table(pq.read_table(path), path, row_group_size=1)
    read, whole = [], pq.ParquetFile.read_row_group

    def watch(file, group, columns):
        read.append((group, "future_pose" in columns))
        return whole(file, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watch)
    assert read_truth(path, 1.0).rows(["b"]).ids.tolist() == ["b"]
    assert [group for group, has_poses in read if has_poses] == [1]


def test_poses_after_the_answer_are_not_looked_at(tmp_path):
    far = [[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [10.0, 0.0, 0.0], [float("nan")] * 3]
    truth = read_truth(write(tmp_path / "truth.parquet", future_pose=[far] * 3), 1.0).rows(["b"])
    assert truth.poses[0, :, 0].tolist() == [0, 5, 10]


def test_rows_and_groups_of_each_split_are_counted(tmp_path):
    counts = read_truth(write(tmp_path / "truth.parquet", group=["g", "g", None]), 1.0).group_counts()
    assert counts == {"test": {"rows": 2, "groups": 2}, "train": {"rows": 1, "groups": 1}}


def test_ids_that_are_nowhere_give_no_rows(tmp_path):
    assert len(read_truth(write(tmp_path / "truth.parquet"), 1.0).rows(["stranger"])) == 0


def test_a_missing_observed_second_is_no_history(tmp_path):
    path = write(tmp_path / "truth.parquet", observed=[[[9.0, 0.0]], None, [[9.0, 0.0]]])
    assert read_truth(path, 1.0).rows(["b", "c"]).observed is None


def test_missing_truth_says_what_to_run(tmp_path):
    with pytest.raises(DrivingError, match="truth.parquet is not there, .* run convert_to_training_format.py"):
        read_truth(tmp_path / "truth.parquet", 1.0)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "truth.parquet").write_text("no")
    with pytest.raises(DrivingError, match="no readable parquet file"):
        read_truth(tmp_path / "truth.parquet", 1.0)


def test_a_missing_column_is_named(tmp_path):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "truth.parquet")
    with pytest.raises(DrivingError, match="has no column group, split, targets"):
        read_truth(tmp_path / "truth.parquet", 1.0)


def test_without_train_rows_the_training_mean_is_asked_for(tmp_path):
    table = read_truth(write(tmp_path / "truth.parquet", split=["test"] * 3), 1.0)
    with pytest.raises(DrivingError, match="holds no row of the train split.*--train-truth"):
        table.train_labels()


def test_training_rows_are_looked_at_before_they_are_averaged(tmp_path):
    table = read_truth(write(tmp_path / "truth.parquet"), 1.0)
    table.check_train_rows(2)
    with pytest.raises(DrivingError, match="training rows of .* have 2 samples, the rows to score 30.*--train-truth"):
        table.check_train_rows(30)
    with pytest.raises(DrivingError, match="holds no row of the train split"):
        read_truth(write(tmp_path / "truth.parquet", split=["test"] * 3), 1.0).check_train_rows(2)


def test_a_label_that_is_not_finite_is_refused(tmp_path):
    targets = [[[10.0, 0.0], [10.0, 0.0]], [[1.0, 0.1], [float("nan"), 0.2]], [[3.0, 0.3], [4.0, 0.4]]]
    with pytest.raises(DrivingError, match="targets in .* a value is not finite"):
        read_truth(write(tmp_path / "truth.parquet", targets=targets), 1.0).rows(["b"])


def test_a_pose_shorter_than_the_answer_is_refused(tmp_path):
    poses = [[[0.0, 0.0, 0.0]] * 3, [[0.0, 0.0, 0.0]] * 2, [[0.0, 0.0, 0.0]] * 3]
    with pytest.raises(DrivingError, match="a row of 2 poses, an answer needs 3"):
        read_truth(write(tmp_path / "truth.parquet", future_pose=poses), 1.0).rows(["b"])


def test_rows_of_two_lengths_are_refused(tmp_path):
    targets = [[[1.0, 0.0]], [[1.0, 0.1]], [[3.0, 0.3], [4.0, 0.4]]]
    with pytest.raises(DrivingError, match=r"rows of \[1, 2\] samples"):
        read_truth(write(tmp_path / "truth.parquet", targets=targets), 1.0).rows(["b", "c"])


def test_an_id_twice_is_refused(tmp_path):
    with pytest.raises(DrivingError, match="holds an id twice"):
        read_truth(write(tmp_path / "truth.parquet", id=["a", "b", "b"]), 1.0).rows(["b"])


def test_the_train_rows_with_both_seconds_are_what_baselines_are_fitted_to(tmp_path):
    observed = [[[9.0, 0.1], [8.0, 0.2]], [[7.0, 0.0], [7.0, 0.0]], None]
    path = write(tmp_path / "truth.parquet", observed=observed, split=["train", "test", "train"])
    motion = read_truth(path, 1.0).train_labels().motion
    assert motion.observed.tolist() == [[[9.0, 0.1], [8.0, 0.2]]]
    assert motion.targets.tolist() == [[[10.0, 0.0], [10.0, 0.0]]]


def test_of_very_many_train_rows_a_bounded_number_is_evenly_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.scoring.truth_table.MAX_FIT_ROWS", 4)
    columns = {
        "id": [str(index) for index in range(10)],
        "group": ["g"] * 10,
        "split": ["train"] * 10,
        "targets": [[[float(index), 0.0]] for index in range(10)],
        "observed": [[[float(index), 0.0]] for index in range(10)],
        "future_pose": [[[0.0, 0.0, 0.0]] * 2] * 10,
    }
    pq.write_table(pa.table(columns), tmp_path / "truth.parquet", row_group_size=4)
    motion = read_truth(tmp_path / "truth.parquet", 1.0).train_labels().motion
    assert motion.targets[:, 0, 0].tolist() == [0, 3, 6, 9]


def test_train_rows_without_an_observed_second_leave_nothing_to_fit_to(tmp_path):
    path = write(tmp_path / "truth.parquet", observed=pa.nulls(3, pa.list_(pa.list_(pa.float64()))))
    assert read_truth(path, 1.0).train_labels().motion is None


@pytest.mark.parametrize("group", [None, ""])
def test_a_row_without_a_group_is_refused_by_its_name_and_not_put_into_a_clip_called_none(tmp_path, group):
    table = read_truth(write(tmp_path / "truth.parquet", group=["g", group, "h"]), 1.0)
    with pytest.raises(DrivingError, match="row b has no group, .* run convert_to_training_format.py again"):
        table.rows(["b", "c"])


def test_a_row_without_a_group_that_nobody_asks_about_does_not_matter(tmp_path):
    table = read_truth(write(tmp_path / "truth.parquet", group=[None, "g", "h"]), 1.0)
    assert table.rows(["b", "c"]).groups.tolist() == ["g", "h"]


def times(duration_s):
    return [duration_s / 4, 3 * duration_s / 4]  # middles of two intervals


def test_labels_of_another_duration_are_refused_though_as_many(tmp_path):
    path = write(tmp_path / "truth.parquet", target_times_s=[times(1.0), times(2.0), times(2.0)])
    with pytest.raises(DrivingError, match="the labels of b last 2 s .*, the answers 1 s; give the truth.parquet"):
        read_truth(path, 1.0).rows(["b"])
    assert read_truth(path, 2.0).rows(["b"]).interval_s == 1.0


def test_training_labels_of_another_duration_are_refused(tmp_path):
    path = write(tmp_path / "truth.parquet", target_times_s=[times(2.0), times(1.0), times(1.0)])
    with pytest.raises(DrivingError, match="the labels of a last 2 s .*, the answers 1 s"):
        read_truth(path, 1.0).check_train_rows(2)


def test_truth_that_does_not_say_its_times_is_taken_at_the_answers_own(tmp_path):
    path = write(tmp_path / "truth.parquet", target_times_s=pa.array([None, None, None], pa.list_(pa.float64())))
    assert read_truth(path, 2.0).rows(["b"]).interval_s == 1.0
