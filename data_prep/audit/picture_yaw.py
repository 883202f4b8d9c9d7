"""How far the far scene moves sideways between frames: the turning of the car as the camera saw it.

    frame ──▶ 3 strips of rows x 9 windows of columns ──▶ spectra
    two frames ──▶ shift of every window ──▶ shift(x) = a + b x in each strip ──▶ a

Driving on makes the scene spread from the middle (b); turning moves all of it (a). Windows where nothing can be matched
have no weight. Sizes are for pictures of 256 px width. R = strips, C = windows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

WORK_WIDTH_PX = 256
NUM_STRIPS = 3
TOP, BOTTOM = 0.25, 0.46  # of the height: around the horizon of a camera that looks ahead
WINDOW_PX = 64
STARTS_PX = np.arange(0, WORK_WIDTH_PX - WINDOW_PX + 1, 24)
TRANSFORM_PX = 128
MAX_SHIFT_PX = 24
MIN_LIKENESS = 0.5
SCATTER_PX = 0.3
TAPER = np.hanning(WINDOW_PX)

Spectrum = tuple[np.ndarray, np.ndarray]


def measure_shifts(pictures: Iterator[np.ndarray], apart: int) -> np.ndarray:
    """(F - apart,) shift in px, positive to the right, from each picture to the one `apart` frames later.

    NaN where the pictures cannot be matched.

    Args:
        pictures: (H, 256, 3) or (H, 256) uint8, one after the other.
    """
    spectra: list[Spectrum] = []
    shifts: list[float] = []
    for picture in pictures:
        spectra.append(_spectrum(picture[..., 1] if picture.ndim == 3 else picture))
        if len(spectra) > apart:
            shifts.append(_fit_turn(*_match(spectra.pop(0), spectra[-1])))
    return np.array(shifts)


def _spectrum(grey: np.ndarray) -> Spectrum:
    """((R, C, rows, frequencies) spectra of the edges in each window, (R, C) their energy)."""
    top, bottom = int(TOP * len(grey)), int(BOTTOM * len(grey))
    num_rows = max(1, (bottom - top) // NUM_STRIPS)
    rows = grey[top : top + NUM_STRIPS * num_rows].astype(np.float32)
    # Edges, not brightness: a shaded side must not pull the shift towards zero.
    edges = np.gradient(rows, axis=1).reshape(NUM_STRIPS, num_rows, WORK_WIDTH_PX)
    windows = np.stack([edges[:, :, start : start + WINDOW_PX] for start in STARTS_PX], axis=1)
    windows = (windows - windows.mean(axis=-1, keepdims=True)) * TAPER
    return np.fft.rfft(windows, n=TRANSFORM_PX, axis=-1), np.sum(windows**2, axis=(-1, -2))


def _match(before: Spectrum, after: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """(R, C) shift in px of every window, and its weight: 0 where the two do not look alike."""
    products = np.fft.irfft(np.sum(after[0] * np.conj(before[0]), axis=2), axis=-1)
    near = np.concatenate([products[..., -MAX_SHIFT_PX:], products[..., : MAX_SHIFT_PX + 1]], axis=-1)
    best = np.clip(near.argmax(axis=-1), 1, 2 * MAX_SHIFT_PX - 1)
    left, middle, right = (np.take_along_axis(near, (best + step)[..., None], -1)[..., 0] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = best - MAX_SHIFT_PX + np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    energy = np.sqrt(after[1] * before[1])
    likeness = middle / np.maximum(energy, 1e-9)
    return shift, np.where(likeness > MIN_LIKENESS, np.sqrt(energy), 0.0)


def _fit_turn(shift_px: np.ndarray, weight: np.ndarray) -> float:
    """The shift in the picture's middle: a line through each strip's windows, outliers let go; middle strip's value."""
    place = (STARTS_PX + WINDOW_PX / 2 - WORK_WIDTH_PX / 2) / (WORK_WIDTH_PX / 2)
    turns = []
    for values, trust in zip(shift_px, weight, strict=True):
        if np.count_nonzero(trust) < 4:
            continue
        kept = trust
        for _ in range(4):
            total, first, second = kept.sum(), kept @ place, kept @ place**2
            determinant = total * second - first**2
            slope = (total * (kept @ (place * values)) - first * (kept @ values)) / determinant
            turn = (kept @ values - slope * first) / total
            kept = trust / (1 + ((values - turn - slope * place) / SCATTER_PX) ** 2)
        turns.append(turn)
    return float(np.median(turns)) if turns else np.nan
