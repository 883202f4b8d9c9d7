"""Paths from above in a corner of the picture: needs no camera, so it is what can always be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from evaluation.video.overlay import DrawnPath

REACHES_M = (10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 200.0)
BEHIND, ABOVE = 0.14, 0.17  # parts of the panel below the rear axle, and above the farthest line
BEHIND_REVERSING = 0.5
CAR_LENGTH_M, CAR_WIDTH_M, REAR_AXLE_M = 4.6, 1.9, 1.0  # drawn for scale; the axle is so far from its rear end
PLATE, GRID, CAR, TEXT = (12, 16, 22, 190), (255, 255, 255, 46), (222, 228, 236, 255), (214, 221, 230, 255)


def choose_reach(paths: Sequence[DrawnPath]) -> float:
    """Metres ahead that show all of these paths: a round number."""
    farthest = max((float(np.abs(path.poses[:, :2]).max()) for path in paths), default=0.0)
    return next((reach for reach in REACHES_M if farthest <= reach), REACHES_M[-1])


def draw_birds_eye(image: Any, paths: Sequence[DrawnPath], reach_m: float = 0.0) -> None:
    """Draw a panel into the lower right corner: up is ahead, the car for scale, a grid with its distances."""
    from PIL import Image, ImageDraw

    from evaluation.video.overlay import blend_shapes, load_font

    reach_m = reach_m or choose_reach(paths)
    height = max(48, round(0.42 * min(image.height, 1.3 * image.width)))
    width = round(0.78 * height)
    panel = Image.new("RGB", (width, height))
    left, top = image.width - width - height // 20, image.height - height - height // 20
    panel.paste(image.crop((left, top, left + width, top + height)))
    pen = ImageDraw.Draw(panel, "RGBA")
    pen.rounded_rectangle((0, 0, width - 1, height - 1), radius=height // 24, fill=PLATE)
    px_per_m = height * (1 - BEHIND - ABOVE) / reach_m
    is_reversing = any(path.poses[-1, 0] < -REAR_AXLE_M for path in paths)
    origin = np.array([width / 2, height * (1 - (BEHIND_REVERSING if is_reversing else BEHIND))])

    def place(points_m: np.ndarray) -> np.ndarray:
        points = np.asarray(points_m, dtype=np.float64)
        return origin + np.stack([-points[..., 1], -points[..., 0]], axis=-1) * px_per_m

    size = max(8, height // 17)
    for ahead in (reach_m / 2, reach_m):
        ((_, row),) = place(np.array([[ahead, 0.0]]))
        if row < 0:
            continue
        pen.line((0, row, width, row), fill=GRID, width=max(1, height // 200))
        pen.text((size * 0.5, row + 1), f"{ahead:g} m", font=load_font(size), fill=TEXT)
    rear, front, side = -REAR_AXLE_M, CAR_LENGTH_M - REAR_AXLE_M, CAR_WIDTH_M / 2
    car = place(np.array([[rear, side], [front, side], [front, -side], [rear, -side]]))
    line = max(1.2, height / 90)
    drawn = [(place(path.poses[:, :2]), path) for path in paths]
    shapes: list[tuple] = [("line", points, (*path.colour, 255), line) for points, path in drawn]
    shapes.append(("fill", car, CAR))
    for points, path in drawn:
        shapes.append(("dot", points[-1], (*path.colour, 255), 1.7 * line))
        if 0 <= path.now < len(points):
            shapes.append(("dot", points[path.now], (255, 255, 255, 255), 1.9 * line))
    blend_shapes(panel, shapes)
    labels = [(path.label, path.colour) for path in paths if path.label]
    for index, (label, colour) in enumerate(labels):
        row = size * (0.4 + 1.25 * index)
        pen.text((width - size * 0.5, row), label, font=load_font(size), fill=(*colour, 255), anchor="ra")
    image.paste(panel, (left, top))
