"""Rotations, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from driving.rotation import align_hemisphere, heading_rad, quaternions_from_matrices, rotation_matrices, slerp

RANDOM = Rotation.random(200, random_state=7)
HALF_TURNS = Rotation.from_rotvec(np.pi * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0], [0, 0.6, -0.8]]))


def same_rotation(a, b):
    return np.abs(np.sum(a * b, axis=1)) == pytest.approx(1.0, abs=1e-12)


def test_matrices_are_those_of_scipy():
    assert np.allclose(rotation_matrices(RANDOM.as_quat()), RANDOM.as_matrix(), atol=1e-14)


def test_a_quaternion_slightly_off_the_unit_sphere_is_the_rotation_it_points_at():
    assert np.allclose(rotation_matrices(RANDOM.as_quat() * 1.005), RANDOM.as_matrix(), atol=1e-14)


@pytest.mark.parametrize("rotations", [RANDOM, HALF_TURNS], ids=["random", "half turns"])
def test_quaternions_are_found_back_from_matrices(rotations):
    assert same_rotation(quaternions_from_matrices(rotations.as_matrix()), rotations.as_quat())


def test_neighbours_from_matrices_are_on_one_side():
    turning = Rotation.from_euler("z", np.linspace(0, 4 * np.pi, 100)[:, None])
    quaternions = quaternions_from_matrices(turning.as_matrix())
    assert np.sum(quaternions[1:] * quaternions[:-1], axis=1).min() > 0.99


def test_alignment_undoes_sign_flips():
    smooth = Rotation.from_euler("z", np.linspace(0, 1, 50)[:, None]).as_quat()
    flipped = smooth * np.where(np.arange(50) % 3 == 1, -1, 1)[:, None]
    assert np.array_equal(align_hemisphere(flipped), smooth)
    assert np.array_equal(align_hemisphere(smooth[:1]), smooth[:1])


def test_a_row_that_is_not_a_number_stays_alone():
    quaternions = Rotation.from_euler("z", np.linspace(0, 1, 50)[:, None]).as_quat()
    quaternions[20] = np.nan
    aligned = align_hemisphere(quaternions)
    assert np.flatnonzero(np.isnan(aligned).any(axis=1)).tolist() == [20]


def test_interpolation_is_that_of_scipy():
    times = np.array([0.0, 1.0, 1.5, 4.0])
    rotations = Rotation.random(4, random_state=3)
    at = np.linspace(0, 4, 77)
    assert same_rotation(slerp(times, rotations.as_quat(), at), Slerp(times, rotations)(at).as_quat())


def test_interpolation_takes_the_short_way_between_opposite_signs():
    pair = Rotation.from_euler("z", [[0.0], [0.2]]).as_quat() * [[1], [-1]]
    middle = slerp(np.array([0, 10]), pair, np.array([5]))
    assert heading_rad(middle)[0] == pytest.approx(0.1)


def test_interpolation_between_equal_rotations_is_that_rotation():
    same = np.tile(RANDOM.as_quat()[:1], (2, 1))
    assert np.allclose(slerp(np.array([0, 10]), same, np.array([0, 3, 10])), same[:1])


def test_heading_is_the_yaw_of_scipy():
    yaw = np.linspace(-1, 7, 100)  # beyond a full turn: unwrapped
    tilted = Rotation.from_euler("ZYX", np.stack([yaw, 0.1 * np.sin(yaw), 0.05 * np.cos(yaw)], axis=1))
    assert np.allclose(heading_rad(tilted.as_quat()), yaw)
