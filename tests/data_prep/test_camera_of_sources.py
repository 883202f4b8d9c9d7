"""The camera goes with a recording: from its source's calibration to the truth that reports read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from data_prep import hf_dataset, training_format
from data_prep.dataset_options import DatasetOptions
from data_prep.segment_options import SegmentOptions
from data_prep.segments import run
from data_prep.sources.kitti import Kitti
from data_prep.sources.physical_ai import PhysicalAI
from data_prep.synthetic import constant_motion, write_dataset
from data_prep.synthetic.camera import Camera
from driving.camera import format_camera, parse_camera
from driving.errors import SourceError

NAME = "camera_front_wide_120fov"
TABLES = {
    "hub": "calibration/{0}/{0}.chunk_0000.parquet",
    "extracted": "{0}_chunk_0000.parquet",
}


@pytest.fixture(scope="module", params=["hub", "extracted"])
def drawn(request, tmp_path_factory):
    """(folder, path of its calibration tables as a template) of four drawn clips."""
    root = tmp_path_factory.mktemp(request.param) / "in"
    motions = [constant_motion(8.0 + index) for index in range(4)]
    write_dataset(root, motions, seconds=3, height=64, width=112, layout=request.param)
    return root, TABLES[request.param]


@pytest.fixture
def edit(drawn):
    """edit(table, change): the drawn folder with one calibration table changed, until the test is over."""
    root, template = drawn
    kept = {}

    def change_table(name, change):
        path = root / template.format(name)
        kept.setdefault(path, path.read_bytes())
        change(path)

    yield change_table
    for path, content in kept.items():
        path.write_bytes(content)


def read_cameras(root):
    source = PhysicalAI()
    return [source.read(ref).camera for ref in source.plan(root)]


def test_the_camera_of_a_drawn_clip_sees_the_road_where_it_was_drawn(drawn):
    camera = read_cameras(drawn[0])[0]
    points = np.array([[6.0, 1.0, 0.0], [12.0, -3.0, 0.0], [25.0, 2.0, 1.5]])
    column, row = Camera(64, 112).project(points[:, 0] - 1.7, points[:, 1], points[:, 2])  # 1.7 m before the rear axle
    # the columns hold a polynomial of the drawn pinhole's radius, true to half a pixel at 448 px
    np.testing.assert_allclose(camera.project(points, 64, 112), np.stack([column, row], axis=1), atol=0.125)


def test_without_a_calibration_table_there_is_no_camera(drawn, edit):
    edit("sensor_extrinsics", lambda path: path.unlink())
    assert read_cameras(drawn[0]) == [None] * 4


def test_a_clip_that_the_table_does_not_list_has_no_camera(drawn, edit):
    edit("camera_intrinsics", lambda path: pd.read_parquet(path).iloc[1:].to_parquet(path))
    assert sum(camera is None for camera in read_cameras(drawn[0])) == 1


def test_tables_with_their_keys_as_columns_read_the_same(drawn, edit):
    expected = read_cameras(drawn[0])
    for table in ("camera_intrinsics", "sensor_extrinsics"):
        edit(table, lambda path: pd.read_parquet(path).reset_index().to_parquet(path))
    assert read_cameras(drawn[0]) == expected


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda path: path.write_bytes(b"PAR1"), "is not a whole parquet table"),
        (
            lambda path: pd.read_parquet(path).reset_index(drop=True).to_parquet(path),
            "is not listed by clip and sensor",
        ),
        (lambda path: pd.read_parquet(path).drop(columns="cx").to_parquet(path), r"lacks a number of camera.*'cx'"),
        (lambda path: pd.read_parquet(path).assign(fw_poly_1=np.nan).to_parquet(path), "camera radius .* finite"),
    ],
)
def test_a_damaged_calibration_is_said_with_what_to_do(drawn, edit, change, complaint):
    edit("camera_intrinsics", change)
    with pytest.raises(SourceError, match=f"(?s){complaint}.*"):
        read_cameras(drawn[0])


def test_a_calibration_that_is_gone_after_the_listing_is_said(drawn, edit):
    (ref, *_) = PhysicalAI().plan(drawn[0])
    edit("sensor_extrinsics", lambda path: path.unlink())
    with pytest.raises(SourceError, match=r"sensor_extrinsics.* cannot be read \(No such file"):
        PhysicalAI().read(ref)


def test_every_row_of_the_truth_has_the_camera_of_its_recording(drawn, tmp_path):
    root = drawn[0]
    run(SegmentOptions(input_dir=root, output_dir=tmp_path / "cut", cut="index", fps=10, workers=1))
    index = tmp_path / "cut"
    hf_dataset.run(DatasetOptions(segments_path=index, output_dir=tmp_path / "dataset", fps=10.0))
    options = training_format.ConvertOptions(dataset_dir=tmp_path / "dataset", output_dir=tmp_path / "training")
    training_format.run(options)
    truth = pq.read_table(tmp_path / "training" / "truth.parquet").to_pylist()
    expected = {ref.recording_id: PhysicalAI().read(ref).camera for ref in PhysicalAI().plan(root)}
    assert len(truth) == 8
    assert all(parse_camera(row["camera"]) == expected[row["group"]] for row in truth)


def test_rows_without_a_camera_have_none_in_the_truth(drawn, edit, tmp_path):
    edit("camera_intrinsics", lambda path: path.unlink())
    run(SegmentOptions(input_dir=drawn[0], output_dir=tmp_path / "cut", cut="index", fps=10, workers=1))
    assert pq.read_table(tmp_path / "cut/metadata/segments.parquet")["camera"].to_pylist() == [None] * 8


# KITTI


@pytest.fixture
def kitti(tmp_path):
    """A sequence of two pictures of 20 x 50 px with two rows of calibration."""
    from PIL import Image

    (tmp_path / "image_2").mkdir()
    for index in range(2):
        Image.new("L", (50, 20)).save(tmp_path / f"image_2/00000{index}.png")
    (tmp_path / "times.txt").write_text("0.0\n0.1\n")
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    rows = [f"P{row}: 40 0 24.5 {4 * row} 0 40 9.5 0 0 0 1 0" for row in range(4)]
    (tmp_path / "calib.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def read_kitti(folder):
    return Kitti().read(Kitti().plan(folder, "image_2")[0]).camera


def test_a_kitti_camera_counts_from_the_corner_and_stands_where_its_projection_says(kitti):
    camera = json.loads(format_camera(read_kitti(kitti)))
    assert camera["focal"] == [40 / 50, 40 / 20] and camera["center"] == [25 / 50, 10 / 20]
    assert camera["position_m"] == [0.0, 8 / 40, 1.65]  # 8 px of 40 a metre at one metre: 0.2 m to the left


def test_a_kitti_sequence_without_calibration_has_no_camera(kitti):
    (kitti / "calib.txt").unlink()
    assert read_kitti(kitti) is None


def test_a_damaged_kitti_calibration_is_said(kitti):
    (kitti / "calib.txt").write_text("P0: 1 2 3\n")
    with pytest.raises(SourceError, match="calib.txt does not hold the projection of camera 2 .*labels do not need it"):
        read_kitti(kitti)


def test_a_real_kitti_camera_sees_the_road_below_its_horizon(shared_data):
    (ref,) = Kitti().plan(shared_data / "kitti_odometry_06")
    camera = Kitti().read(ref).camera
    # by hand from calib.txt: 707.09 px x 1.65 m / 10 m below the horizon at 183.1 + 0.5, in the column 601.9 + 0.5
    assert camera.project([10.0, 0.0, 0.0], 370, 1226) == pytest.approx([602.39, 183.61 + 116.67], abs=0.01)
