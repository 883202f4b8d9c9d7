"""Altered videos, and whose video a row is shown instead."""

from __future__ import annotations

import numpy as np
import pytest

from driving.errors import DrivingError
from evaluation.asking.controls import alter_frames, parse_controls, plan_donors

FRAMES = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)


def test_frozen_is_the_first_frame_again_and_again():
    frozen = alter_frames("frozen", FRAMES, "a", 7)
    assert (frozen == FRAMES[0]).all()
    assert frozen.shape == FRAMES.shape


def test_mirror_swaps_left_and_right_and_undoes_itself():
    mirrored = alter_frames("mirror", FRAMES, "a", 7)
    assert (mirrored[:, :, 0] == FRAMES[:, :, 2]).all()
    assert (alter_frames("mirror", mirrored, "a", 7) == FRAMES).all()


def test_blank_shows_nothing():
    assert np.unique(alter_frames("blank", FRAMES, "a", 7)).tolist() == [128]


def test_shuffled_keeps_the_frames_and_not_their_order_the_same_way_each_time():
    shuffled = alter_frames("shuffled", FRAMES, "a", 7)
    assert sorted(shuffled[:, 0, 0, 0].tolist()) == FRAMES[:, 0, 0, 0].tolist()
    assert (shuffled != FRAMES).any()
    assert (alter_frames("shuffled", FRAMES, "a", 7) == shuffled).all()


def test_a_donor_is_always_of_another_clip():
    ids = [f"{group}{i}" for group in "abcd" for i in range(5)]
    donors = plan_donors(ids, [name[0] for name in ids], seed=7)
    assert set(donors) == set(ids)
    assert all(donors[name][0] != name[0] for name in ids)
    assert len(set(donors.values())) > 5


def test_donors_do_not_depend_on_the_order_of_the_rows():
    ids = [f"{group}{i}" for group in "abc" for i in range(4)]
    groups = [name[0] for name in ids]
    assert plan_donors(ids, groups, 7) == plan_donors(ids[::-1], groups[::-1], 7)


def test_one_clip_alone_has_no_donors():
    assert plan_donors(["a0", "a1"], ["a", "a"], 7) == {}


@pytest.mark.parametrize(
    "text, names",
    [("none", ()), ("mirror,frozen", ("frozen", "mirror")), ("wrong-clip", ("wrong_clip",)),
     ("all", ("frozen", "wrong_clip", "mirror", "blank", "shuffled"))],
)  # fmt: skip
def test_controls_are_named_on_the_command_line(text, names):
    assert parse_controls(text) == names


def test_an_unknown_control_is_named():
    with pytest.raises(DrivingError, match="control 'sideways' is not one of frozen, wrong_clip"):
        parse_controls("frozen,sideways")
