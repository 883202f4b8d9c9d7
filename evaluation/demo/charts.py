"""The demo's pictures: the last frame with the path in it, and the path and curves as markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from driving.trajectory import Trajectory, integrate
from evaluation.report.page import render_figure
from evaluation.report.svg import Series, line_chart, path_chart
from evaluation.video.overlay import PREDICTED, RECORDED, DrawnPath, draw_path

if TYPE_CHECKING:
    from driving.answer_format import AnswerFormat
    from driving.camera import CameraModel
    from evaluation.scoring.truth import Truth

LEAST_HEIGHT_PX = 360  # a smaller frame is shown enlarged
# The charts' colours and lines, in the page's light and in its dark dress.
STYLE = """
.drive { --ink:#1b2430; --muted:#5c6876; --line:#dfe3e8; --model:#2563c9; --truth:#128a5b; display:grid; gap:16px;
  grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr)); }
.dark .drive { --ink:#e6eaf0; --muted:#9aa6b4; --line:#303945; --model:#6ea2ff; --truth:#42c38e; }
.drive figure { margin:0; min-width:0; }
.drive figcaption { font-size:13px; color:var(--muted); }
.drive h3 { font-size:14px; margin:0 0 6px; color:var(--ink); }
.drive svg { width:100%; height:auto; display:block; } .drive svg text { fill:var(--muted); font:11px sans-serif; }
.drive .middle { text-anchor:middle; } .drive .end { text-anchor:end; } .drive .grid { stroke:var(--line); }
.drive .line { fill:none; stroke-width:2.2; stroke-linejoin:round; stroke-linecap:round; }
.drive .line.model { stroke:var(--model); } .drive .line.truth { stroke:var(--truth); }
.drive .fill.model { fill:var(--model); } .drive .fill.truth { fill:var(--truth); }
"""


def draw_answer(
    frame: np.ndarray,
    motion: Trajectory | None,
    answer_format: AnswerFormat | None,
    truth: Truth | None,
    row: int,
    camera: CameraModel | None,
) -> np.ndarray:
    """(H, W, 3) uint8: the last frame that the model saw, with the predicted and the recorded path.

    Args:
        truth, row: what was recorded; None where nothing was.
        camera: None draws the paths from above, in a corner.
    """
    from PIL import Image

    times = -(-LEAST_HEIGHT_PX // frame.shape[0])
    if times > 1:
        image = Image.fromarray(frame)
        frame = np.asarray(image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC))
    paths = [] if truth is None else [DrawnPath(truth.poses[row], RECORDED, "recorded")]
    if motion is not None and answer_format is not None:
        paths.append(DrawnPath(integrate(motion, answer_format.interval_s), PREDICTED, "predicted"))
    return draw_path(frame, camera, paths)


def render_charts(motion: Trajectory | None, answer_format: AnswerFormat | None, truth: Truth | None, row: int) -> str:
    """Markup of path, speed and curvature; "" where there is nothing to draw."""
    if answer_format is None or (motion is None and truth is None):
        return ""
    paths, speeds, curvatures = [], [], []
    if truth is not None:
        times_s = (np.arange(truth.num_samples) + 0.5) * truth.interval_s
        paths.append(Series("recorded", truth.poses[row, :, :2], "truth"))
        speeds.append(Series("recorded", np.stack([times_s, truth.velocity_mps[row]], axis=1), "truth"))
        curvatures.append(Series("recorded", np.stack([times_s, truth.curvature_per_m[row]], axis=1), "truth"))
    if motion is not None:
        times_s = (np.arange(len(motion)) + 0.5) * answer_format.interval_s
        paths.append(Series("predicted", integrate(motion, answer_format.interval_s)[:, :2], "model"))
        speeds.append(Series("predicted", np.stack([times_s, motion.velocity_mps], axis=1), "model"))
        curvatures.append(Series("predicted", np.stack([times_s, motion.curvature_per_m], axis=1), "model"))
    ahead = "seconds ahead"
    note = "" if len(paths) > 1 else paths[0].label  # one line alone has no legend
    charts = [
        ("From above", path_chart(paths, "path from above")),
        ("Speed", line_chart(speeds, ahead, "m/s", "speed", from_zero=True, min_span=2.0)),
        ("Curvature (left is positive)", line_chart(curvatures, ahead, "1/m", "curvature", min_span=0.01)),
    ]
    return f'<div class="drive">{"".join(render_figure(title, chart, note) for title, chart in charts)}</div>'
