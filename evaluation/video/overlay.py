"""A driven path in the picture: on the road where the camera is known, from above where it is not.

    draw_path(frame, camera, [DrawnPath]) ──▶ frame      camera None, or nothing of the path in view: bird's-eye inset
    draw_readout(frame, lines)            ──▶ frame      speed and curvature in words

Intrinsics are never guessed. Sizes follow the height of the frame, so it may be of any size. H x W = frame, N = poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from driving.camera import CameraModel
from evaluation.video.birds_eye import draw_birds_eye

PREDICTED = (110, 162, 255)
RECORDED = (66, 195, 142)
WHITE = (255, 255, 255)
HALF_WIDTH_M = 0.9  # of the ribbon: about a car's
STEP_M = 0.25  # of the ribbon's outline, so that it bends as the lens does
MARGIN_PX = 4096  # an outline is cut so far outside the picture
SMOOTHING = 2  # shapes are drawn so many times as large, and scaled down


@dataclass(frozen=True)
class DrawnPath:
    """One path to draw.

    Attributes:
        poses: (N, 3) x forward [m], y left [m], heading [rad] in the vehicle frame at the frame's moment, N > 0.
        colour: (3,) red, green, blue.
        label: what it is called beside its line from above; "" for nothing.
        now: place in `poses` where the car is now, marked in the inset; -1 for nowhere.
    """

    poses: np.ndarray
    colour: tuple[int, int, int] = PREDICTED
    label: str = ""
    now: int = -1


def draw_path(
    frame: np.ndarray,
    camera: CameraModel | None,
    paths: Sequence[DrawnPath],
    *,
    inset: bool | None = None,
    reach_m: float = 0.0,
) -> np.ndarray:
    """Draw paths into a copy of a frame.

    Args:
        frame: (H, W, 3) uint8.
        paths: the first is drawn first, the last on top.
        inset: a bird's-eye view in a corner: yes, no, or (None) where no path can be seen on the road.
        reach_m: how far ahead the inset shows; 0 for as far as the paths go.

    Returns:
        (H, W, 3) uint8.
    """
    from PIL import Image

    image = Image.fromarray(frame)
    is_seen = False
    for path in paths if camera is not None else ():
        is_seen |= _draw_on_road(image, camera, path)
    if inset or (inset is None and paths and not is_seen):
        draw_birds_eye(image, paths, reach_m)
    return np.asarray(image)


def _draw_on_road(image: Any, camera: CameraModel, path: DrawnPath) -> bool:
    """Paint one path as a ribbon; whether anything of it is in the picture."""
    outline = project_ribbon(path.poses, camera, image.height, image.width)
    if len(outline) < 2:
        return False
    columns, rows = outline[..., 0], outline[..., 1]
    is_inside = (columns > 0) & (columns < image.width) & (rows > 0) & (rows < image.height)
    if not is_inside.any():
        return False
    left, right = outline[:, 0], outline[:, 1]
    line = max(1.0, image.height / 240)
    ring = np.concatenate([left, right[::-1]])
    end = np.stack([left[-1], right[-1]])
    shapes = [("fill", ring, (*path.colour, 88))]
    shapes += [("line", edge, (*path.colour, 235), line) for edge in (left, right)]
    shapes += [("line", end, (*WHITE, 235), 1.6 * line)]
    blend_shapes(image, shapes)
    return True


def project_ribbon(poses: np.ndarray, camera: CameraModel, height_px: int, width_px: int) -> np.ndarray:
    """(M, 2, 2) px: left and right edge of a car's width along a path on the road, where the camera sees it."""
    fine = _refine(np.asarray(poses, dtype=np.float64))
    normal = np.stack([-np.sin(fine[:, 2]), np.cos(fine[:, 2])], axis=-1)
    edges = np.stack([fine[:, :2] + HALF_WIDTH_M * normal, fine[:, :2] - HALF_WIDTH_M * normal], axis=1)
    on_road = np.concatenate([edges, np.zeros((*edges.shape[:2], 1))], axis=-1)
    outline = camera.project(on_road, height_px, width_px)
    limits = np.array([width_px, height_px]) + MARGIN_PX
    return outline[((outline > -MARGIN_PX) & (outline < limits)).all(axis=(1, 2))]  # NaN compares False


def _refine(poses: np.ndarray) -> np.ndarray:
    """The same path with a pose at least every STEP_M of way."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(poses[:, :2], axis=0).T))])
    if way[-1] == 0:
        return poses[:0]
    at = np.linspace(0.0, way[-1], int(np.ceil(way[-1] / STEP_M)) + 1)
    return np.stack([np.interp(at, way, poses[:, axis]) for axis in range(3)], axis=-1)


def blend_shapes(image: Any, shapes: Sequence[tuple]) -> None:
    """Draw ("fill", (M, 2) px, rgba), ("line", (M, 2) px, rgba, width) and ("dot", (2,) px, rgba, radius), smoothly."""
    from PIL import Image, ImageDraw

    corners = np.concatenate([np.reshape(shape[1], (-1, 2)) for shape in shapes])
    pad = 2 + max((shape[3] for shape in shapes if len(shape) > 3), default=0)
    low = np.clip(np.floor(corners.min(axis=0) - pad), 0, image.size).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + pad), 0, image.size).astype(int)
    if (high <= low).any():
        return
    size = tuple(((high - low) * SMOOTHING).tolist())
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    for kind, points, colour, *thickness in shapes:
        moved = [tuple(point) for point in ((np.reshape(points, (-1, 2)) - low) * SMOOTHING).tolist()]
        if kind == "fill":
            pen.polygon(moved, fill=colour)
        elif kind == "line":
            pen.line(moved, fill=colour, width=max(1, round(thickness[0] * SMOOTHING)), joint="curve")
        else:
            (column, row), radius = moved[0], thickness[0] * SMOOTHING
            pen.ellipse((column - radius, row - radius, column + radius, row + radius), fill=colour)
    layer = layer.resize(tuple((high - low).tolist()), Image.Resampling.BOX)
    image.paste(layer, tuple(low.tolist()), layer)


def draw_readout(frame: np.ndarray, lines: Sequence[str], note: str = "") -> np.ndarray:
    """Write lines into the upper left corner of a copy of a frame, the first one large, and a note below them."""
    from PIL import Image

    image = Image.fromarray(frame)
    unit = image.height / 100
    left = top = round(2 * unit)
    if lines:
        sizes = [max(10, round(5.6 * unit))] + [max(9, round(3.4 * unit))] * (len(lines) - 1)
        top = write_lines(image, lines, sizes, (left, top)) + left
    if note:
        write_lines(image, [note], [max(9, round(2.8 * unit))], (left, top))
    return np.asarray(image)


def write_lines(image: Any, lines: Sequence[str], sizes: Sequence[int], corner: tuple[int, int]) -> int:
    """Text on a dark plate whose upper left corner is given, smaller where it would leave the picture.

    Returns:
        The row below the plate.
    """
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image, "RGBA")
    widest = max(pen.textlength(text, font=load_font(size)) for text, size in zip(lines, sizes, strict=True))
    room = image.width - 2 * corner[0] - sizes[-1]
    if widest > room and sizes[0] > 6:
        shrunk = [max(6, min(size - 1, int(size * room / widest))) for size in sizes]
        return write_lines(image, lines, shrunk, corner)
    pad, gap = sizes[-1] * 0.45, 1.3
    height = sum(size * gap for size in sizes)
    left, top = corner
    right, bottom = round(left + widest + 2 * pad), round(top + height + 1.5 * pad)
    pen.rounded_rectangle((left, top, right, bottom), radius=round(pad), fill=(12, 16, 22, 176))
    row = top + pad
    for text, size in zip(lines, sizes, strict=True):
        pen.text((left + pad, row), text, font=load_font(size), fill=(245, 248, 252, 255))
        row += size * gap
    return bottom + 1


@lru_cache(maxsize=32)
def load_font(size_px: int) -> Any:
    """Pillow's own font at this size."""
    from PIL import ImageFont

    return ImageFont.load_default(size=size_px)


def describe_motion(velocity_mps: float, curvature_per_m: float) -> list[str]:
    """A moment's speed and curvature in words: ["43 km/h", "11.9 m/s", "left, radius 240 m (+0.0042 1/m)"]."""
    speed = f"{abs(velocity_mps) * 3.6:.0f} km/h" + (" backwards" if velocity_mps <= -0.05 else "")
    if abs(curvature_per_m) < 0.0005:  # a radius of 2 km
        turn = "straight"
    else:
        turn = f"{'left' if curvature_per_m > 0 else 'right'}, radius {1 / abs(curvature_per_m):.0f} m"
    velocity, curvature = (
        round(velocity_mps, 1) + 0.0,
        round(curvature_per_m, 4) + 0.0,
    )  # + 0.0 takes the sign off a zero
    return [speed, f"{velocity:.1f} m/s", f"{turn} ({curvature:+.4f} 1/m)"]
