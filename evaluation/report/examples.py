"""The best, the usual and the worst: single answers beside what was recorded, with frames of the clip."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape

import numpy as np

from driving.errors import DrivingError
from driving.trajectory import integrate_batch
from evaluation.answers import Answers
from evaluation.asking import Prediction
from evaluation.baselines import Motion
from evaluation.report.page import format_number, render_figure
from evaluation.report.svg import Series, line_chart, path_chart
from evaluation.score import Columns
from evaluation.tracks import SPOKEN
from evaluation.truth import Truth

ReadFrames = Callable[[str], np.ndarray]  # row id -> (T, H, W, 3) uint8
FRAME_WIDTH_PX = 288
MAX_ANSWER_CHARS = 420
READ_AS = {
    "strict": "the answer is exactly the list asked for",
    "lenient": "the answer was read leniently",
    "failed": "the answer could not be read and is scored as a cheap guess, see below",
}


def choose_examples(ade_m: np.ndarray, groups: np.ndarray) -> list[tuple[str, int]]:
    """(caption, row) of the best, middle and worst clip by mean ADE; of each clip its row in the middle."""
    names = sorted(set(groups), key=lambda name: (float(ade_m[groups == name].mean()), str(name)))
    wanted = {"Best clip": 0, "Middle clip": (len(names) - 1) // 2, "Worst clip": len(names) - 1}
    chosen: dict[int, tuple[str, int]] = {}
    for caption, place in wanted.items():
        rows = np.flatnonzero(groups == names[place])
        row = int(rows[np.argsort(ade_m[rows], kind="stable")[(len(rows) - 1) // 2]])
        chosen.setdefault(row, (caption, row))
    return list(chosen.values())


def render_examples(
    truth: Truth,
    answers: Answers,
    reference: str,
    blind: Motion,
    columns: Columns,
    predictions: dict[str, Prediction],
    read_frames: ReadFrames,
) -> str:
    """Markup of all examples; `blind` is the motion of the baseline called `reference`."""
    chosen = choose_examples(columns["ade_m"], truth.groups)
    return "".join(
        _render_example(caption, row, truth, answers, (SPOKEN[reference], blind), columns, predictions, read_frames)
        for caption, row in chosen
    )


def _render_example(
    caption: str,
    row: int,
    truth: Truth,
    answers: Answers,
    blind: tuple[str, Motion],
    columns: Columns,
    predictions: dict[str, Prediction],
    read_frames: ReadFrames,
) -> str:
    name = str(truth.ids[row])
    ade, speed = columns["ade_m"][row], columns["velocity_mae_mps"][row]
    text = predictions[name].text
    shown = text if len(text) <= MAX_ANSWER_CHARS else text[:MAX_ANSWER_CHARS] + " \u2026"
    head = (
        f"<h3>{escape(caption)}: <code>{escape(name)}</code></h3>"
        f'<p class="sub">ADE {format_number(ade, 2)} m, speed error {format_number(speed, 2)} m/s, '
        f"{READ_AS[answers.parsed[row].parsing]}</p>"
    )
    charts = _draw_path(row, truth, answers, blind) + _draw_curves(row, truth, answers)
    answer = f"<details><summary>the answer as it came</summary><pre>{escape(shown)}</pre></details>"
    frames = _render_frames(name, read_frames)
    return f'<div class="example">{head}{frames}<div class="charts three">{charts}</div>{answer}</div>'


def _render_frames(name: str, read_frames: ReadFrames) -> str:
    try:
        frames = read_frames(name)
    except DrivingError as error:
        return f'<p class="note">no frames: {escape(str(error))}</p>'
    picked = [frames[0], frames[len(frames) // 2], frames[-1]]
    images = "".join(f'<img alt="frame of the clip that was seen" src="{encode_jpeg(frame)}">' for frame in picked)
    return f'<div class="strip">{images}</div>'


def encode_jpeg(frame: np.ndarray) -> str:
    """(H, W, 3) uint8 -> a small JPEG as a data address."""
    from PIL import Image

    image = Image.fromarray(frame)
    if image.width > FRAME_WIDTH_PX:
        image = image.resize((FRAME_WIDTH_PX, max(1, round(image.height * FRAME_WIDTH_PX / image.width))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _draw_path(row: int, truth: Truth, answers: Answers, blind: tuple[str, Motion]) -> str:
    def drive(motion: Motion) -> np.ndarray:
        return integrate_batch(motion[0][row : row + 1], motion[1][row : row + 1], truth.interval_s)[0, :, :2]

    series = [
        Series(blind[0], drive(blind[1]), "mean", is_dashed=True),
        Series("recorded", truth.poses[row, :, :2], "truth"),
    ]
    if answers.parsed[row].trajectory is not None:  # else the motion is the fallback's, not a prediction
        series.append(Series("predicted", drive((answers.velocity_mps, answers.curvature_per_m)), "model"))
    return render_figure("From above", path_chart(series, "predicted and recorded path from above"))


def _draw_curves(row: int, truth: Truth, answers: Answers) -> str:
    times_s = (np.arange(truth.num_samples) + 0.5) * truth.interval_s
    charts = []
    for title, unit, min_span, true, predicted in (
        ("Speed", "m/s", 2.0, truth.velocity_mps[row], answers.velocity_mps[row]),
        ("Curvature (left is positive)", "1/m", 0.01, truth.curvature_per_m[row], answers.curvature_per_m[row]),
    ):
        series = [Series("recorded", np.stack([times_s, true], axis=1), "truth")]
        if answers.parsed[row].trajectory is not None:
            series.append(Series("predicted", np.stack([times_s, predicted], axis=1), "model"))
        caption = f"{title}, predicted and recorded"
        chart = line_chart(series, "seconds ahead", unit, caption, from_zero=unit == "m/s", min_span=min_span)
        charts.append(render_figure(title, chart))
    return "".join(charts)
