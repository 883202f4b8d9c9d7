"""Unit quaternions (x, y, z, w) as rotations from the body to a fixed frame: matrices, heading, interpolation."""

from __future__ import annotations

import numpy as np


def rotation_matrices(quaternions: np.ndarray) -> np.ndarray:
    """(N, 4) xyzw -> (N, 3, 3) matrices that turn body vectors into the fixed frame."""
    x, y, z, w = np.moveaxis(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternions_from_matrices(matrices: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotation matrices -> (N, 4) xyzw unit quaternions with neighbours on the same hemisphere.

    The largest of the four components is computed by square root and the others by division, which is stable for
    every rotation (Shepperd 1978).
    """
    m = np.asarray(matrices, dtype=np.float64)
    trace = np.trace(m, axis1=-2, axis2=-1)
    diagonal = np.diagonal(m, axis1=-2, axis2=-1)
    squares = np.concatenate([1 + 2 * diagonal - trace[:, None], 1 + trace[:, None]], axis=1)  # 4 * (x, y, z, w)^2
    largest = np.argmax(squares, axis=1)
    out = np.empty((len(m), 4))
    for index, pick in enumerate(largest):
        root = 2 * np.sqrt(squares[index, pick] / 4)  # 2 * component
        r = m[index]
        out[index] = {
            0: lambda r=r: (0, r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]),
            1: lambda r=r: (r[0, 1] + r[1, 0], 0, r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]),
            2: lambda r=r: (r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], 0, r[1, 0] - r[0, 1]),
            3: lambda r=r: (r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 0),
        }[int(pick)]()
        out[index] /= 2 * root
        out[index, pick] = root / 2
    return align_hemisphere(out)


def align_hemisphere(quaternions: np.ndarray) -> np.ndarray:
    """Flip signs so that each quaternion is on the side of the one before it (q and -q are one rotation).

    A row that is not finite stays so and flips nothing: it spoils itself, not the rows after it.
    """
    if len(quaternions) < 2:
        return quaternions
    turns = np.where(np.sum(quaternions[1:] * quaternions[:-1], axis=1) < 0, -1.0, 1.0)
    signs = np.concatenate([[1.0], np.cumprod(turns)])
    return quaternions * signs[:, None]


def slerp(times: np.ndarray, quaternions: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Spherical interpolation between samples. (N,), (N, 4), (M,) within the samples' range -> (M, 4)."""
    right = np.clip(np.searchsorted(times, at, side="right"), 1, len(times) - 1)
    left = right - 1
    fraction = ((at - times[left]) / (times[right] - times[left]))[:, None]
    a, b = quaternions[left], quaternions[right]
    cosine = np.sum(a * b, axis=1, keepdims=True)
    b = np.where(cosine < 0, -b, b)
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    sine = np.sin(angle)
    is_near = sine < 1e-8  # nearly equal: linear is exact to rounding, and sin(angle) would divide by zero
    safe = np.where(is_near, 1.0, sine)
    weight_a = np.where(is_near, 1 - fraction, np.sin((1 - fraction) * angle) / safe)
    weight_b = np.where(is_near, fraction, np.sin(fraction * angle) / safe)
    out = weight_a * a + weight_b * b
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def heading_rad(quaternions: np.ndarray) -> np.ndarray:
    """(N, 4) xyzw -> (N,) heading of the body's x axis in the fixed x-y plane, unwrapped, positive = left."""
    x, y, z, w = np.moveaxis(quaternions, -1, 0)
    return np.unwrap(np.arctan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z)))
