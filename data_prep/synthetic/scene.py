"""What a recording looks like: colours, lanes, posts, trees, hills, and the ground texture that carries the motion.

Everything here is drawn from a stream of its own, so nothing in a picture depends on speed. L = texture levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_prep.synthetic.draw import SCENE_STREAM, random_stream

LANE_M = 3.5
PAINT_M = 0.2
DASH_M = 3.0
DASH_PERIOD_M = 12.0

TEXTURE_CELLS = 512
TEXTURE_CELL_M = 0.25
TEXTURE_LEVELS = 6
# Several metres to several tens: at 30 m/s and 30 fps the ground moves 1 m a frame, so nothing here aliases in time.
TEXTURE_WAVELENGTHS_M = (3.0, 6.0, 12.0, 28.0)

HILL_POINTS = 256

# Materials are the high byte of a pixel's colour index, the texture its low byte.
GROUND, ASPHALT, WHITE, YELLOW, POST, TREE, HILL, SKY = range(8)

# name: (luma, blue difference, red difference) of ground, and how strongly its texture shows.
GROUNDS = {
    "meadow": ((96, 112, 120), 0.9),
    "steppe": ((138, 108, 140), 0.8),
    "gravel": ((120, 126, 130), 0.9),
    "field": ((84, 116, 134), 0.8),
}


@dataclass(frozen=True)
class Roadside:
    """Things that stand beside the road, sorted by distance.

    Attributes:
        distance_m, left_m: (N,) foot of each thing along and beside the driven line.
        height_m: (N,)
        material: (N,) POST or TREE.
    """

    distance_m: np.ndarray
    left_m: np.ndarray
    height_m: np.ndarray
    material: np.ndarray


@dataclass(frozen=True)
class Scene:
    """The looks of one recording.

    Attributes:
        palette: (3, 8 * 256) uint8 luma, blue and red difference by colour index.
        lanes_left, lanes_right: lanes beside the driven one.
        dash_phase_m: where the dashes begin.
        texture_shift: (2,) cells; texture_turn_rad: how the ground texture lies under the anchor frame.
        hills: (HILL_POINTS,) height of the skyline over a full turn, as a fraction of the picture's height.
        roadside: posts and trees.
    """

    palette: np.ndarray
    lanes_left: int
    lanes_right: int
    dash_phase_m: float
    texture_shift: np.ndarray
    texture_turn_rad: float
    hills: np.ndarray
    roadside: Roadside

    @property
    def left_edge_m(self) -> float:
        return (self.lanes_left + 0.5) * LANE_M

    @property
    def right_edge_m(self) -> float:
        return -(self.lanes_right + 0.5) * LANE_M


def draw_scene(seed: int, index: int, first_m: float, last_m: float) -> Scene:
    """The looks of recording `index`, with things beside the road from `first_m` to `last_m`."""
    rng = random_stream(seed, index, SCENE_STREAM)
    lanes_left, lanes_right = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))[rng.integers(5)]
    palette = _draw_palette(rng)
    return Scene(
        palette=palette,
        lanes_left=lanes_left,
        lanes_right=lanes_right,
        dash_phase_m=rng.uniform(0, DASH_PERIOD_M),
        texture_shift=rng.uniform(0, TEXTURE_CELLS, 2),
        texture_turn_rad=rng.uniform(0, 2 * np.pi),
        hills=_draw_hills(rng),
        roadside=_draw_roadside(rng, first_m, last_m, (lanes_left + 0.5) * LANE_M, (lanes_right + 0.5) * LANE_M),
    )


def _draw_palette(rng: np.random.Generator) -> np.ndarray:
    ground, strength = GROUNDS[sorted(GROUNDS)[rng.integers(len(GROUNDS))]]
    light = rng.uniform(0.85, 1.15)
    texture = np.arange(256) - 128.0
    asphalt = rng.uniform(64, 84)
    rows = {
        GROUND: (ground, strength),
        ASPHALT: ((asphalt, 130, 126), 0.5),
        WHITE: ((205, 127, 128), 0.15),
        YELLOW: ((170, 80, 145), 0.15),
        POST: ((210, 126, 132), 0.0),
        TREE: ((52, 118, 118), 0.0),
        HILL: ((104, 136, 122), 0.0),
        SKY: ((176, rng.uniform(134, 146), rng.uniform(110, 124)), 0.25),
    }
    palette = np.empty((3, 8, 256))
    for material, ((luma, blue, red), contrast) in rows.items():
        palette[:, material] = np.stack([light * (luma + contrast * texture), 0 * texture + blue, 0 * texture + red])
    return np.clip(np.round(palette), 16, 235).astype(np.uint8).reshape(3, -1)


def _draw_hills(rng: np.random.Generator) -> np.ndarray:
    turn = np.arange(HILL_POINTS) * 2 * np.pi / HILL_POINTS
    waves = np.array([2, 3, 5, 9, 14, 23, 37])
    heights = sum(np.sin(wave * turn + rng.uniform(0, 2 * np.pi)) / np.sqrt(wave) for wave in waves)
    return 0.045 + 0.02 * heights


def _draw_roadside(
    rng: np.random.Generator, first_m: float, last_m: float, left_edge_m: float, right_edge_m: float
) -> Roadside:
    rows: list[tuple[float, float, float, int]] = []
    for side, edge_m in ((1.0, left_edge_m), (-1.0, right_edge_m)):
        at_m = first_m + rng.uniform(0, 50)
        while at_m < last_m:
            rows.append((at_m, side * (edge_m + rng.uniform(0.8, 1.6)), rng.uniform(1.2, 2.6), POST))
            if rng.random() < 0.6:
                away_m = side * (edge_m + rng.uniform(6, 22))
                rows.append((at_m + rng.uniform(-12, 12), away_m, rng.uniform(4, 9), TREE))
            at_m += rng.uniform(25, 50)
    rows.sort()
    distance, left, height, material = (np.array(column) for column in zip(*rows, strict=True))
    return Roadside(distance, left, height, material.astype(np.int64))


@lru_cache(maxsize=1)
def ground_texture() -> np.ndarray:
    """(L * 512 * 512,) uint8: one periodic texture of 128 m, level l smoothed over 0.25 * 2^l m against far shimmer.

    The same for every recording; each lays it down with its own shift and turn.
    """
    rng = np.random.default_rng(20)
    cycles = np.fft.fftfreq(TEXTURE_CELLS, d=TEXTURE_CELL_M)
    radius = np.hypot(cycles[:, None], cycles[None, :])
    spectrum = np.zeros_like(radius, dtype=complex)
    for wavelength in TEXTURE_WAVELENGTHS_M:
        noise = np.fft.fft2(rng.standard_normal(radius.shape))
        band = noise * np.exp(-(((radius * wavelength - 1) / 0.35) ** 2))
        spectrum += band / np.abs(np.fft.ifft2(band)).std()
    levels = []
    scale = 42.0 / np.fft.ifft2(spectrum).real.std()
    for level in range(TEXTURE_LEVELS):
        blur_m = 0.5 * TEXTURE_CELL_M * 2**level
        smooth = np.fft.ifft2(spectrum * np.exp(-2 * (np.pi * radius * blur_m) ** 2)).real
        levels.append(np.clip(128 + scale * smooth, 0, 255).astype(np.uint8))
    return np.concatenate([level.ravel() for level in levels])
