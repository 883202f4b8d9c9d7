"""Draws what the camera sees from a pose on the road, straight into the planes of a yuv420p picture.

    pose ──▶ ground texture by pixel (index arithmetic on precomputed ground points)
         ──▶ material by pixel (polygons: asphalt, paint, roadside, hills)
         ──▶ palette[material, texture] ──▶ luma, and chroma at every second pixel

About 1 ms a frame at 256x448. H x W = picture, R = ground rows.
"""

from __future__ import annotations

import numpy as np

from data_prep.synthetic.camera import CAMERA_FORWARD_M, Camera
from data_prep.synthetic.motion import Path
from data_prep.synthetic.scene import (
    ASPHALT,
    DASH_M,
    DASH_PERIOD_M,
    HILL,
    HILL_POINTS,
    LANE_M,
    PAINT_M,
    POST,
    SKY,
    TEXTURE_CELL_M,
    TEXTURE_CELLS,
    TEXTURE_LEVELS,
    TREE,
    WHITE,
    YELLOW,
    Scene,
    ground_texture,
)

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]  # (H, W) luma, (H/2, W/2) blue and red difference

SIGHT_M = 150.0
PAINT_SIGHT_M = 60.0
ROADSIDE_SIGHT_M = 90.0
NEAREST_M = 1.0  # polygons are cut here; the lowest row sees the ground at about 3 m
EDGE_AHEAD_M = np.concatenate([[0.0], np.geomspace(2.0, SIGHT_M, 36)])


class Renderer:
    """Draws one recording. Holds buffers, so one instance serves one thread."""

    def __init__(self, scene: Scene, path: Path, camera: Camera) -> None:
        self.scene, self.path, self.camera = scene, path, camera
        self._texture = ground_texture()
        self._forward_m, left_m = camera.ground_points()
        self._left_cells = (left_m / TEXTURE_CELL_M).astype(np.float32)
        self._level_start = (_texture_level(self._forward_m, camera) * TEXTURE_CELLS**2)[:, None].astype(np.int32)
        shape = self._left_cells.shape
        self._cells = [np.empty(shape, np.float32), np.empty(shape, np.float32)]
        self._index = [np.empty(shape, np.int32), np.empty(shape, np.int32)]
        self._texel = np.empty((camera.height, camera.width), np.uint16)
        sky_rows = camera.first_ground_row
        self._texel[:sky_rows] = np.linspace(30, 200, sky_rows)[:, None]

    def draw(self, distance_m: float) -> Planes:
        """The picture seen with the rear axle at a distance along the road: yuv420p planes, uint8."""
        x, y, heading = (float(value[0]) for value in self.path.pose(np.array([distance_m])))
        camera_x = x + CAMERA_FORWARD_M * np.cos(heading)
        camera_y = y + CAMERA_FORWARD_M * np.sin(heading)
        self._draw_texture(camera_x, camera_y, heading)
        material = self._draw_material(distance_m, camera_x, camera_y, heading)
        colour = self._texel + (material.astype(np.uint16) << 8)
        luma, blue, red = self.scene.palette
        coarse = colour[::2, ::2]
        return luma.take(colour, mode="clip"), blue.take(coarse, mode="clip"), red.take(coarse, mode="clip")

    def _draw_texture(self, camera_x: float, camera_y: float, heading: float) -> None:
        """Fill the ground rows of `_texel` with the texture under each pixel."""
        turn = self.scene.texture_turn_rad
        shift = self.scene.texture_shift
        u0 = shift[0] + (np.cos(turn) * camera_x - np.sin(turn) * camera_y) / TEXTURE_CELL_M
        v0 = shift[1] + (np.sin(turn) * camera_x + np.cos(turn) * camera_y) / TEXTURE_CELL_M
        cosine, sine = np.cos(heading + turn), np.sin(heading + turn)
        forward = self._forward_m / TEXTURE_CELL_M
        # Shifted into one period before rounding to float32: far from the anchor the fraction would be lost.
        rows = ((u0 + cosine * forward) % TEXTURE_CELLS, (v0 + sine * forward) % TEXTURE_CELLS)
        for cells, index, row, slope in zip(self._cells, self._index, rows, (-sine, cosine), strict=True):
            np.multiply(self._left_cells, np.float32(slope), out=cells)
            np.add(cells, (row + 64 * TEXTURE_CELLS).astype(np.float32)[:, None], out=cells)
            np.copyto(index, cells, casting="unsafe")
            np.bitwise_and(index, TEXTURE_CELLS - 1, out=index)
        u, v = self._index
        np.multiply(v, TEXTURE_CELLS, out=v)
        np.add(u, v, out=u)
        np.add(u, self._level_start, out=u)
        self._texel[self.camera.first_ground_row :] = self._texture.take(u, mode="clip")

    def _draw_material(self, distance_m: float, camera_x: float, camera_y: float, heading: float) -> np.ndarray:
        from PIL import Image, ImageDraw

        camera = self.camera
        image = Image.new("L", (camera.width, camera.height), 0)
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, camera.width, camera.first_ground_row - 1), fill=SKY)
        self._draw_hills(pen, heading)
        eye = (camera_x, camera_y, np.cos(heading), np.sin(heading))
        from_m = distance_m + CAMERA_FORWARD_M
        for left_m, right_m, ahead_m, material in self._ribbons(from_m):
            outline = self._outline(from_m + ahead_m, left_m, right_m, eye)
            if len(outline) >= 6:
                pen.polygon(outline, fill=material)
        self._draw_roadside(pen, from_m, eye)
        return np.asarray(image)

    def _draw_hills(self, pen, heading: float) -> None:
        camera = self.camera
        columns = np.linspace(0, camera.width, 29)
        azimuth = heading - np.arctan((columns - camera.cx) / camera.focal_px)
        place = azimuth * HILL_POINTS / (2 * np.pi)
        heights = np.interp(place, np.arange(HILL_POINTS), self.scene.hills, period=HILL_POINTS)
        rows = camera.cy - np.maximum(heights, 0.004) * camera.height
        base = camera.first_ground_row - 1
        outline = [(0, base), *zip(columns.tolist(), rows.tolist(), strict=True), (camera.width, base)]
        pen.polygon(outline, fill=HILL)

    def _ribbons(self, from_m: float) -> list[tuple[float, float, np.ndarray, int]]:
        """(left edge, right edge, distances ahead, material) of everything painted flat on the ground."""
        scene = self.scene
        near = EDGE_AHEAD_M[EDGE_AHEAD_M <= PAINT_SIGHT_M]
        ribbons = [(scene.left_edge_m + 0.5, scene.right_edge_m - 0.5, EDGE_AHEAD_M, ASPHALT)]
        for edge_m in (scene.left_edge_m, scene.right_edge_m):
            ribbons.append((edge_m + PAINT_M / 2, edge_m - PAINT_M / 2, near, WHITE))
        first = np.ceil((from_m - scene.dash_phase_m - DASH_M) / DASH_PERIOD_M) * DASH_PERIOD_M + scene.dash_phase_m
        starts = np.arange(first, from_m + PAINT_SIGHT_M, DASH_PERIOD_M) - from_m
        middle_m = 0.5 * LANE_M if scene.lanes_left else -0.5 * LANE_M
        for lane in range(-scene.lanes_right, scene.lanes_left):
            line_m = (lane + 0.5) * LANE_M
            material = YELLOW if line_m == middle_m else WHITE
            for start in starts:
                ahead = np.array([start, start + DASH_M / 2, start + DASH_M])
                ribbons.append((line_m + PAINT_M / 2, line_m - PAINT_M / 2, np.maximum(ahead, 0.0), material))
        return ribbons

    def _outline(self, distances_m: np.ndarray, left_m: float, right_m: float, eye: tuple) -> list[tuple[float, float]]:
        """Picture outline of a strip beside the driven line, up to where it leaves the half plane ahead."""
        x, y, heading = self.path.pose(np.concatenate([distances_m, distances_m]))
        beside = np.repeat([left_m, right_m], len(distances_m))
        forward, left = _seen_from_eye(x - beside * np.sin(heading), y + beside * np.cos(heading), eye)
        is_ahead = (forward > NEAREST_M).reshape(2, -1).all(axis=0)
        first = int(np.argmax(is_ahead))
        behind = np.flatnonzero(~is_ahead[first:])
        last = first + int(behind[0]) if len(behind) else len(is_ahead)
        if last - first < 2 or not is_ahead[first]:
            return []
        column, row = self.camera.project(np.maximum(forward, NEAREST_M), left, np.zeros(len(forward)))
        points = np.stack([column, row], axis=1).reshape(2, -1, 2)[:, first:last]
        points = np.clip(points, -4096, 8192)
        return [tuple(point) for point in np.concatenate([points[0], points[1][::-1]]).tolist()]

    def _draw_roadside(self, pen, from_m: float, eye: tuple) -> None:
        things = self.scene.roadside
        first, last = np.searchsorted(things.distance_m, [from_m + 2.0, from_m + ROADSIDE_SIGHT_M])
        seen = slice(first, last)
        x, y, heading = self.path.pose(things.distance_m[seen])
        beside = things.left_m[seen]
        forward, left = _seen_from_eye(x - beside * np.sin(heading), y + beside * np.cos(heading), eye)
        heights, materials = things.height_m[seen], things.material[seen]
        for place in np.argsort(-forward):  # far things first
            if forward[place] < 1.5 or abs(left[place]) > 2 * forward[place]:
                continue
            foot = (forward[place], left[place], heights[place])
            if materials[place] == POST:
                self._draw_post(pen, *foot)
            else:
                self._draw_tree(pen, *foot)

    def _draw_post(self, pen, forward_m: float, left_m: float, height_m: float) -> None:
        column, base = self.camera.project(forward_m, left_m, 0.0)
        _, top = self.camera.project(forward_m, left_m, height_m)
        half = max(0.5, 0.08 * self.camera.focal_px / forward_m)
        pen.rectangle((column - half, top, column + half, base), fill=POST)
        pen.rectangle((column - half, top + 0.15 * (base - top), column + half, top + 0.3 * (base - top)), fill=TREE)

    def _draw_tree(self, pen, forward_m: float, left_m: float, height_m: float) -> None:
        column, base = self.camera.project(forward_m, left_m, 0.0)
        _, top = self.camera.project(forward_m, left_m, height_m)
        half = 0.28 * (base - top)
        pen.rectangle((column - 0.1 * half, (base + top) / 2, column + 0.1 * half, base), fill=TREE)
        pen.ellipse((column - half, top, column + half, top + 0.7 * (base - top)), fill=TREE)


def _texture_level(forward_m: np.ndarray, camera: Camera) -> np.ndarray:
    """Which smoothing each row needs: about a quarter of the ground length that one row covers."""
    from data_prep.synthetic.camera import CAMERA_HEIGHT_M

    row_m = forward_m**2 / (camera.focal_px * CAMERA_HEIGHT_M)
    level = np.log2(np.maximum(row_m / TEXTURE_CELL_M, 1.0))
    return np.clip(np.round(level), 0, TEXTURE_LEVELS - 1).astype(np.int64)


def _seen_from_eye(x: np.ndarray, y: np.ndarray, eye: tuple) -> tuple[np.ndarray, np.ndarray]:
    camera_x, camera_y, cosine, sine = eye
    dx, dy = x - camera_x, y - camera_y
    return cosine * dx + sine * dy, cosine * dy - sine * dx
