"""The benchmarks of data preparation, each at a tiny size: the keys it promises; its numbers mean nothing there."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import (
    convert,
    drawn_index,
    estimate,
    prep,
    scaled,
    stage,
)
from data_prep.segment_rows import row_schema
from driving.trajectory import integrate_batch
from video_io import write_video


@pytest.fixture(scope="module")
def prep_numbers(tmp_path_factory):
    return prep.measure(tmp_path_factory.mktemp("prep"), seconds=3, height=96, width=160, repeats=1)


@pytest.mark.parametrize(
    "key",
    [
        "resized_over_decode", "seed_way_over_resized", "copy_over_decode", "index_over_decode", "psnr_db",
        "scaled_over_decode", "scaled_psnr_db", "scaled_bytes_per_second", "scaled_read_over_resized_read",
    ],
)  # fmt: skip
def test_prep_measures(prep_numbers, key):
    assert prep_numbers[key] > 0


def test_prep_tells_the_processor_seconds_of_each_way(prep_numbers):
    spent = prep_numbers["cpu_s_per_video_s"]
    assert spent["resized"] / spent["decode"] == pytest.approx(prep_numbers["resized_over_decode"], rel=0.2)
    assert {"scaled", "copy", "index"} <= set(spent)


def test_prep_cuts_every_second_that_has_a_next_one(prep_numbers):
    assert prep_numbers["num_segments"] == 2
    assert prep_numbers["bytes_per_segment"] > 1000


def test_key_frame_distances_are_compared_in_bytes_and_time(tmp_path, capsys):
    frames = (np.roll(np.arange(64 * 96, dtype=np.uint8).reshape(64, 96), step, 1) for step in range(60))
    write_video(tmp_path / "road.mp4", frames, 30)
    assert scaled.main([str(tmp_path / "road.mp4"), "--seconds", "2"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["key_intervals"]["road.mp4"]
    assert set(found) == {"files", *map(str, scaled.KEY_INTERVALS)}
    assert found["1"]["bytes_per_second"] > found["30"]["bytes_per_second"] > 0
    assert min(found["5"]["read_ms"], found["5"]["read_anywhere_ms"], found["files"]["read_ms"]) > 0


@pytest.mark.slow
def test_the_last_line_of_prep_is_one_json_object_also_in_the_file(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    small = [
        "--seconds",
        "3",
        "--height",
        "64",
        "--width",
        "96",
        "--repeats",
        "1",
        "--recordings",
        "2",
        "--drives",
        "3",
    ]
    assert prep.main(["--json", str(path), *small]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == json.loads(path.read_text())


def test_a_drawn_index_has_the_columns_and_the_motion_of_a_real_one(tmp_path):
    """Arcs over the drawn speeds and curvatures end where the drawn poses do."""
    table = pq.read_table(drawn_index.write_index(tmp_path, 100) / "metadata" / "segments.parquet")
    assert (table.schema, table.num_rows) == (row_schema(), 100)
    assert len(set(table["segment_uuid"].to_pylist())) == 100 and len(set(table["clip_uuid"].to_pylist())) == 6
    targets, poses = (np.array(table[name].to_pylist()) for name in ("targets", "future_pose"))
    assert (targets.shape, poses.shape) == ((100, 30, 2), (100, 193, 3))
    driven = integrate_batch(targets[..., 0], targets[..., 1], 1 / 30)
    np.testing.assert_allclose(driven, poses[:, :31], atol=2e-4)


def test_an_index_of_drives_is_measured_as_a_large_run_makes_it(tmp_path):
    assert stage.measure_index(tmp_path, num_recordings=3, repeats=1)["index_segments_per_s"] > 0
    assert [path.name for path in (tmp_path / "index" / "metadata" / "chunks").glob("*.parquet")] == [
        "chunk_0000.parquet"
    ]
    targets = pq.read_table(tmp_path / "index" / "metadata" / "chunks" / "chunk_0000.parquet")["targets"].to_pylist()
    assert len(targets) == 57 and targets[0] != targets[19] != targets[38]  # 19 a recording, each its own drive


@pytest.mark.slow
def test_one_worker_and_two_are_measured_on_the_same_recordings(tmp_path):
    source = tmp_path / "a.mp4"
    write_video(source, (np.full((48, 64), index, np.uint8) for index in range(90)), 30, preset="ultrafast")
    assert stage.measure_workers(source, tmp_path / "out", 3, 1)["two_workers_speedup"] > 0
    assert len(list((tmp_path / "out" / "cut" / "video_segments").glob("*.mp4"))) == 6


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_converting_is_measured_for_each_size(tmp_path):
    numbers = convert.measure(tmp_path, [380, 1000])
    for size in ("380", "1k"):
        assert numbers[f"both_{size}_s"] == pytest.approx(
            numbers[f"hf_{size}_s"] + numbers[f"convert_{size}_s"], abs=0.02
        )
        assert numbers[f"both_{size}_peak_mb"] == max(numbers[f"{stage}_{size}_peak_mb"] for stage in ("hf", "convert"))
    grown = numbers["both_1k_peak_mb"] - numbers["both_380_peak_mb"]
    assert numbers["memory_growth_mb"] == pytest.approx(grown, abs=0.1)
    # 30 pairs twice, 193 poses and as many times, 8 bytes each
    assert numbers["dataset_bytes_per_segment"] > 8 * (2 * 60 + 3 * 193)
    assert numbers["training_bytes_per_segment"] > 8 * (2 * 60 + 3 * 193) * 0.5


def test_the_estimate_is_reckoned_from_what_was_measured():
    """By hand: 306,152 clips of 20 s are 6,123,040 s; a tenth of a core second each is 170.1 hours."""
    prep = {
        "cpu_s_per_video_s": {"resized": 0.1, "scaled": 0.2}, "bytes_per_segment": 1000, "input_mbit_s": 8,
        "scaled_bytes_per_second": 2000, "index_segments_per_s": 2000, "two_workers_speedup": 1.8,
    }  # fmt: skip
    convert = {"index_bytes_per_segment": 100, "dataset_bytes_per_segment": 10, "training_bytes_per_segment": 20}
    rows = estimate.estimate(prep, {**convert, "hf_100k_s": 36.0, "convert_100k_s": 18.0})
    found = {row.stage: row for row in rows}
    assert found["segments, `--cut resized`"].core_hours == pytest.approx(170.084, abs=1e-3)
    assert found["segments, `--cut resized`"].wall_h(100, 0.9) == pytest.approx(1.8898, abs=1e-4)
    assert found["segments, `--cut scaled`"].disk_gb == pytest.approx(5.816888 * 2.1, abs=1e-6)
    assert found["segments, `--cut index`"].core_hours == pytest.approx(5_816_888 / 2000 / 3600)
    assert found["dataset"].core_hours == found["dataset"].wall_h(512, 0.9) == pytest.approx(0.5816888, abs=1e-6)
    assert found["training JSON and truth"].disk_gb == pytest.approx(0.116338, abs=1e-6)


def test_the_document_holds_the_estimate_of_the_newest_results():
    document = estimate.DOCUMENT.read_text(encoding="utf-8")
    table = estimate.build_table(estimate.newest("prep"), estimate.newest("convert"))
    assert estimate.place_table(document, table) == document, "run python -m benchmarks.estimate --write"
