"""Budget, frame size and tokens: the numbers that design.md states."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from driving.errors import DrivingError  # noqa: E402
from qwenvl.data.pixels import (  # noqa: E402
    plan_image_size,
    plan_num_frames,
    plan_processor_budget,
    plan_video_size,
    set_processor_budget,
)
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402

pytestmark = pytest.mark.needs_torch
DEFAULT = Preprocessing()


@pytest.mark.parametrize(
    ("recorded", "shown"), [((1080, 1920), (256, 448)), ((370, 1226), (192, 608)), ((256, 448), (256, 448))]
)
def test_the_default_area_gives_the_sizes_of_the_design(recorded, shown):
    assert plan_video_size(*recorded, 30, DEFAULT) == shown


@pytest.mark.parametrize("shape", [(3, 2000), (2000, 3)])
def test_a_picture_too_long_for_the_processor_is_refused_by_its_shape(shape):
    with pytest.raises(DrivingError, match=f"a picture of {shape[0]}x{shape[1]} px is more than 200 times as long"):
        plan_video_size(*shape, 30, DEFAULT)
    with pytest.raises(DrivingError, match="a picture of"):
        plan_image_size(*shape, DEFAULT, None)


def test_the_seeds_total_budget_gives_the_small_frames_it_gave_the_seeds():
    seed = Preprocessing(video_max_pixels=1024 * 28 * 28, video_min_pixels=256 * 28 * 28)
    assert plan_video_size(1080, 1920, 30, seed) == (96, 192)


def test_an_explicit_area_wins_over_an_explicit_total():
    both = Preprocessing(video_max_pixels=1024 * 28 * 28, video_frame_pixels=114_688)
    assert plan_video_size(1080, 1920, 30, both) == (256, 448)


def test_a_small_recording_is_not_enlarged():
    assert plan_video_size(128, 224, 30, DEFAULT) == (128, 224)


def test_a_lower_bound_enlarges_it():
    height, width = plan_video_size(64, 96, 30, Preprocessing(video_min_pixels=30 * 114_688))
    assert height * width >= 114_688


def test_the_processor_needs_116_509_pixels_a_frame_to_reach_256x448_from_full_hd():
    # beta = 1080 / 256 = 4.21875; 30 x 1080 x 1920 / 4.21875^2 = 3,495,254; a thirtieth of it is 116,508.5
    assert plan_processor_budget(1080, 1920, 30, (256, 448), 32) == 3_495_254


def test_the_saved_processor_gives_the_same_grid_from_the_segment_and_from_the_recording(processor):
    video_processor = processor.video_processor
    before = video_processor.size
    try:
        assert set_processor_budget(processor, 256, 448, 30, (256, 448), 32)
        # 15 frame pairs of 16 x 28 patches of 16 px
        assert video_processor.get_num_of_video_patches(30, 1080, 1920) == 15 * 16 * 28
        assert video_processor.get_num_of_video_patches(30, 256, 448) == 15 * 16 * 28
    finally:
        video_processor.size = before


@pytest.mark.parametrize(
    ("num_recorded", "duration_s", "taken"),
    [(30, 1.0, 30), (10, 1.0, 10), (600, 20.0, 32), (12, 0.4, 12), (40, 0.4, 16), (1, 0.03, 1)],
)
def test_a_clip_gives_its_duration_at_the_rate_within_the_bounds_and_no_more_than_it_holds(
    num_recorded, duration_s, taken
):
    assert plan_num_frames(num_recorded, duration_s, DEFAULT) == taken


def test_bounds_that_cross_are_refused():
    with pytest.raises(DrivingError, match="--video_min_frames 40 is above --video_max_frames 32"):
        Preprocessing(video_min_frames=40)


def test_preprocessing_survives_the_way_to_disk_and_back(tmp_path):
    written = Preprocessing(video_fps=10.0, video_frame_pixels=28_672, answer_format={"name": "signed"})
    written.write(tmp_path)
    assert Preprocessing.read(tmp_path) == written
    assert Preprocessing.read(tmp_path / "elsewhere") is None


def test_a_preprocessing_file_from_a_newer_version_is_refused(tmp_path):
    (tmp_path / "preprocessing.json").write_text('{"video_fps": 10, "stereo": true}')
    with pytest.raises(DrivingError, match="'stereo', which this version does not know"):
        Preprocessing.read(tmp_path)


@pytest.mark.parametrize("kind", ["", "video_"])
def test_least_pixels_above_most_pixels_are_refused(kind):
    with pytest.raises(DrivingError, match=f"--{kind}min_pixels 4096 is above --{kind}max_pixels 1024"):
        Preprocessing(**{f"{kind}min_pixels": 4096, f"{kind}max_pixels": 1024})
