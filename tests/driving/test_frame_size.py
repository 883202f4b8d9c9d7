"""Frame sizes: the ones the design names, the rules they follow, and tokens counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driving.errors import DrivingError
from driving.frame_size import plan_frame_size


@pytest.mark.parametrize(
    "height, width, planned",
    [
        (1080, 1920, (256, 448)),  # 16:9; 256 * 448 = 114,688 px exactly
        (256, 448, (256, 448)),  # already there
        (370, 1226, (192, 608)),  # KITTI: 116,736 px is within 2 % of the budget
        (1920, 1080, (448, 256)),  # upright
        (900, 1600, (256, 448)),  # nuScenes
        (720, 1280, (256, 448)),  # BDD100K
    ],
)
def test_known_cameras_get_the_sizes_that_the_design_names(height, width, planned):
    assert plan_frame_size(height, width) == planned


def test_a_square_fills_the_budget_with_ten_patches_a_side():
    # 320 x 320 = 102,400; 352 x 352 = 123,904 is over 116,982; 320 x 352 is 10 % off the shape
    assert plan_frame_size(500, 500) == (320, 320)


def test_a_budget_of_one_patch_gives_one_patch():
    assert plan_frame_size(1080, 1920, 32 * 32) == (32, 32)


def test_a_very_wide_frame_in_a_small_budget_is_distorted_least():
    # three patches: 32 x 96 keeps 4:1 best (3:1); 32 x 32 and 32 x 64 are further off
    assert plan_frame_size(100, 400, 3 * 32 * 32) == (32, 96)


@given(st.integers(100, 2200), st.integers(100, 4000), st.integers(20_000, 900_000))
def test_sides_are_whole_patches_and_the_area_stays_in_the_budget(height, width, pixels):
    rows, columns = plan_frame_size(height, width, pixels)
    assert rows % 32 == columns % 32 == 0
    assert rows * columns <= 1.02 * pixels or (rows, columns) == (32, 32)


@pytest.mark.parametrize("height, width", [(0, 100), (100, -1)])
def test_a_frame_without_area_is_refused(height, width):
    with pytest.raises(DrivingError, match="px has no area"):
        plan_frame_size(height, width)


def test_a_budget_below_one_patch_is_refused():
    with pytest.raises(DrivingError, match="1000 px is below one patch of 32x32; raise --video_frame_pixels to 1024"):
        plan_frame_size(1080, 1920, 1000)
